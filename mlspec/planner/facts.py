"""What the planner knows while it walks: three readings, and what the steps so far will give."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from mlspec.errors import MlspecError
from mlspec.ledger.records import (
    Approval,
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
    """The ledger, as the planner reads it: under the names that the spec has.

    `moving` has what it still has under former ones: the present address of each.
    """

    @property
    def moving(self) -> Mapping[str, str]: ...
    def model_state(self, model: str) -> ModelState | None: ...
    def run(self, model: str, stage: str, fingerprint: str) -> Run | None: ...
    def has_written(self, model: str, stage: str, path: str, md5: str) -> bool: ...
    def candidate(self, model: str, fingerprint: str) -> Candidate | None: ...
    def version(self, model: str, number: int) -> Version | None: ...
    def deployed(self, address: str) -> Deployed | None: ...
    def deployments(self) -> Mapping[str, Deployed]: ...
    def models(self) -> Iterable[str]: ...
    def imported(self, dataset: str) -> Imported | None: ...
    def approvals(self, address: str, release: str) -> tuple[Approval, ...]: ...
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


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a model will have: a version, none (rejected), or one that is known after a step.

    `version` is the accepted version of the model as desired; `pending` the step that will decide
    whether it is accepted, and what it is if there is none yet.
    """

    version: int | None = None
    pending: str | None = None
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Settled:
    """Models that need nothing, as was found before, and are not looked at again.

    `resources` is how many they are made of. `versions` are the accepted ones, where there is one.
    """

    resources: int = 0
    held: tuple[Held, ...] = ()
    versions: Mapping[str, int | None] = field(default_factory=dict)


NOTHING = Settled()


@dataclass(slots=True)
class Facts:
    """The readings, and the plan as far as it is made.

    `contents` has the md5 of what a producer (stage or dataset) writes, by producer and path, once
    that is known; a producer that is missing will write something new. `fingerprints` likewise, of
    stages, models and (a release's digest) deployments. `outlooks` are those of models, `versions`
    what deployments will serve. A `refusal` is why there may be no such plan.
    """

    desired: Desired
    observed: Observed
    recorded: Recorded
    leave: Leave = NONE
    settled: Settled = NOTHING
    steps: dict[str, Step] = field(default_factory=dict)
    held: dict[str, Held] = field(default_factory=dict)
    contents: dict[str, Mapping[str, str]] = field(default_factory=dict)
    fingerprints: dict[str, str] = field(default_factory=dict)
    outlooks: dict[str, Outlook] = field(default_factory=dict)
    versions: dict[str, Version] = field(default_factory=dict)
    refusal: MlspecError | None = None

    def add(self, step: Step) -> None:
        self.steps[step.address] = step

    def hold(self, address: str, reason: str) -> None:
        self.held[address] = Held(address, reason)

    def forget(self, addresses: Iterable[str]) -> None:
        """Have them planned anew."""
        for address in addresses:
            for about in (self.steps, self.held, self.contents, self.fingerprints, self.versions):
                about.pop(address, None)

    def planned(self, addresses: Iterable[str]) -> tuple[str, ...]:
        """Those of `addresses` that have a step."""
        return tuple(sorted({address for address in addresses if address in self.steps}))
