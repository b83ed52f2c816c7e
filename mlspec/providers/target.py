"""What every kind of target can do with a deployment; `local` is the first.

A target is made for one entry of `targets` in the spec. Its verbs take a deployment's name. Only
`observe`, `release` and `logs` may be called while planning: they change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from mlspec.rollouts.counts import Counts
    from mlspec.rollouts.driver import Trial


@dataclass(frozen=True, slots=True)
class Release:
    """What a target is told to run. `version` is the model's, `tag` the Bento's name and version.

    `workers` is how many processes answer, `memory` the bytes that each may use, `capture` the
    share of requests that are kept.
    """

    digest: str
    path: Path
    bento: Path
    tag: str
    model: str
    version: int
    workers: int
    memory: int | None
    capture: float | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """All that it was made with, as of a deployment's resource; nothing if that is not known."""
    judged: str = ""
    """The image that a target before this one has of the same version: to be taken, not made."""
    token: int = 0
    """Of the lock under which it is deployed. A target that saw a higher one refuses it."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a target runs for a deployment, as observed.

    `status` is `serving` (at least one worker answers), `stopped` (by a command) or `down` (it
    should serve and does not). `release` is the digest of what runs or ran last.
    """

    status: Literal["serving", "stopped", "down"]
    release: str
    model: str
    version: int
    url: str
    since: str
    workers: int
    ready: int
    restarts: int
    differs: tuple[tuple[str, Any, Any], ...] = ()
    """What is not as it was deployed: a field, what was deployed, and what is there."""
    note: str = ""
    """What is said of it instead of where it serves."""
    image: str = ""
    """What it runs, by its digest, if that is an image."""
    scored: Mapping[str, Any] | None = None
    """What was scored, by which md5: `read`, `wrote` at `path`, and how many `rows`."""
    manifests: bool = False
    """Whether it is only written what should run; who applies it knows whether it does."""


class Target(Protocol):
    """Where deployments run."""

    def observe(self, deployment: str) -> Running | None:
        """What runs; nothing if the deployment was never here."""

    def release(self, deployment: str) -> Release | None:
        """What runs, with its settings; nothing if that cannot be told."""

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        """Take a release into service without failing a request.

        `RolledBack` if it is not ready or does not answer the smoke rows: what served still does.
        """

    def stop(self, deployment: str) -> None:
        """End it, keeping what is needed to start it again; nothing to do if it does not run."""

    def start(self, deployment: str) -> Running:
        """Run again what ran last."""

    def rename(self, deployment: str, name: str) -> None:
        """Have it under another name; what serves may be away for a moment."""

    def destroy(self, deployment: str) -> None:
        """Stop it and forget it."""

    def logs(self, deployment: str) -> tuple[Path, ...]:
        """Its log files, the newest last."""


@runtime_checkable
class MeasuredTarget(Protocol):
    """One that tells what a deployment has counted."""

    def counts(self, deployment: str) -> Counts | None:
        """Since its release began; nothing if it does not say."""


@runtime_checkable
class RollingTarget(Protocol):
    """One with rollouts: of a kind that :mod:`mlspec.spec.checks.rollouts` names."""

    def try_out(
        self,
        deployment: str,
        release: Release,
        smoke: Sequence[Mapping[str, Any]],
        *,
        splits: bool,
    ) -> AbstractContextManager[Trial]:
        """Have a release ready beside the one that serves, for a rollout.

        `splits` tells whether both will answer at the same time. `RolledBack` as of `deploy`. What
        serves has all requests again when the block ends before the candidate was promoted.
        """
