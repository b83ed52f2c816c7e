"""What the planner knows while it walks: three readings, and what the steps so far will give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mlspec.ledger.records import (
    Candidate,
    Deployed,
    Imported,
    ModelState,
    Policy,
    Run,
    Version,
)
from mlspec.plan import Held, Step
from mlspec.resources import Desired, Observed


class Recorded(Protocol):
    """The ledger, as the planner reads it."""

    def model_state(self, model: str) -> ModelState | None: ...
    def run(self, model: str, stage: str, fingerprint: str) -> Run | None: ...
    def candidate(self, model: str, fingerprint: str) -> Candidate | None: ...
    def version(self, model: str, number: int) -> Version | None: ...
    def deployed(self, address: str) -> Deployed | None: ...
    def deployments(self) -> Mapping[str, Deployed]: ...
    def models(self) -> Iterable[str]: ...
    def imported(self, dataset: str) -> Imported | None: ...
    def policy(self) -> Policy | None: ...


@dataclass(frozen=True, slots=True)
class Leave:
    """What a planner may do beyond what the spec asks for.

    `adopt`: take runs that dvc.lock has and the ledger does not for what they claim to be.
    `bring`: have the outputs of every known run in the worktree, not only put right those there.
    """

    adopt: bool = False
    bring: bool = False


NONE = Leave()


@dataclass(slots=True)
class Facts:
    """The readings, and the plan as far as it is made.

    `contents` has the md5 of what a producer (stage or dataset) writes, by producer and path, once
    that is known; a producer that is missing will write something new. `fingerprints` likewise, of
    stages, models and (a release's digest) deployments. `versions` are what deployments will serve.
    """

    desired: Desired
    observed: Observed
    recorded: Recorded
    leave: Leave = NONE
    steps: dict[str, Step] = field(default_factory=dict)
    held: list[Held] = field(default_factory=list)
    contents: dict[str, Mapping[str, str]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)

    def add(self, step: Step) -> None:
        self.steps[step.address] = step

    def hold(self, address: str, reason: str) -> None:
        self.held.append(Held(address, reason))

    def planned(self, addresses: Iterable[str]) -> tuple[str, ...]:
        """Those of `addresses` that have a step."""
        return tuple(sorted({address for address in addresses if address in self.steps}))
