"""What the agent does now. Pure: from what it remembers, what the branch has, and the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mlspec.following.memory import Memory
from mlspec.spec.windows import end_of_window

MOST_STARTS = 3
"""An apply of a commit begins so often without an end; then the agent lets it be."""
LONGEST_PAUSE = 600.0
"""Seconds between two tries of what cannot be reached, unless the interval is longer."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the agent is told when it is started.

    `allow_delete` and what else changes the outcome of an attempt are its parameters: a commit that
    failed is attempted again with others, or with `retry`.
    """

    allow_delete: bool = False
    self_heal: bool = False
    retry: bool = False

    @property
    def parameters(self) -> str:
        return "allow-delete" if self.allow_delete else ""


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch of the remote: its newest commit, and those that were not attempted, oldest first.

    When it was `rewritten`, what was attempted last is no part of it any more.
    """

    tip: str
    new: tuple[str, ...]
    rewritten: bool = False


@dataclass(frozen=True, slots=True)
class Try:
    """Apply a commit."""

    commit: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Let a commit be: its apply began and never came to an end."""

    commit: str


@dataclass(frozen=True, slots=True)
class Observe:
    """Look for drift, and mend it if told so. Until `frozen`, nothing may be changed."""

    heal: bool = False
    frozen: datetime | None = None


Decision = Try | GiveUp | Observe


def decide(memory: Memory, branch: Branch | None, choices: Choices, now: datetime) -> Decision:
    """The next thing to do; no `branch` means that the remote cannot be reached.

    Then what was applied last is still desired, and mended by the rules that were read last.
    """
    frozen = end_of_window(memory.rules.freeze, now)
    if frozen is not None:
        return Observe(frozen=frozen)
    commit = _next(memory, branch, choices) if branch is not None else None
    if commit is None:
        return Observe(heal=heals(memory, choices))
    if commit == memory.busy and memory.starts >= MOST_STARTS:
        return GiveUp(commit)
    return Try(commit)


def heals(memory: Memory, choices: Choices) -> bool:
    """Whether drift is mended, by the spec or by a flag."""
    return choices.self_heal or memory.rules.self_heal


def _next(memory: Memory, branch: Branch, choices: Choices) -> str | None:
    """The oldest commit that was not attempted, or the newest one if it may be tried again."""
    if branch.new:
        return branch.new[0]
    if memory.busy == branch.tip:
        return branch.tip
    last = memory.last
    if last is None or last.commit != branch.tip or last.ending.good:
        return None
    other = last.parameters != choices.parameters
    return branch.tip if choices.retry or other else None


def pause_after(failures: int, interval: float) -> float:
    """Seconds to the next round, after so many in a row that reached nothing."""
    longest = max(interval, LONGEST_PAUSE)
    return min(interval * 2.0 ** min(failures, 30), longest)
