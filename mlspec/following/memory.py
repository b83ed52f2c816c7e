"""What the agent remembers from one round to the next: `.mlspec/reconcile.json`.

It is one small file, replaced as a whole. Without it the agent begins as on its first day: with the
newest commit of the branch alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from mlspec.atomic import OWN, write_atomic
from mlspec.errors import ExitCode, MlspecError

FORMAT = 1
FILE = Path(OWN, "reconcile.json")
MOST_KEPT = 50
"""Attempts that are remembered one by one; all are counted."""


class Ending(StrEnum):
    """How an attempt to apply a commit ended."""

    APPLIED = "applied"
    UNCHANGED = "unchanged"
    """There was nothing to do."""
    REJECTED = "rejected"
    """A gate did not let the candidate pass; the rest of the commit was applied."""
    ROLLED_BACK = "rolled back"
    FAILED = "failed"
    REFUSED = "refused"
    """Nothing was done: the plan deletes what it may not delete, or cannot be made."""
    INVALID = "invalid"
    """Nothing was done: the spec has problems."""

    @property
    def good(self) -> bool:
        return self in (Ending.APPLIED, Ending.UNCHANGED)

    @property
    def untouched(self) -> bool:
        """Whether the world was left as it was, and does not follow this commit."""
        return self in (Ending.REFUSED, Ending.INVALID)


def ending_of(exit_code: int) -> Ending:
    """What the exit code of an apply says."""
    match exit_code:
        case ExitCode.OK:
            return Ending.APPLIED
        case ExitCode.GATE_FAILED:
            return Ending.REJECTED
        case ExitCode.ROLLED_BACK:
            return Ending.ROLLED_BACK
        case _:
            return Ending.FAILED


@dataclass(frozen=True, slots=True)
class Attempt:
    """One commit, attempted with `parameters`, at the time `when` in UTC; it took `seconds`."""

    commit: str
    subject: str
    parameters: str
    ending: Ending
    detail: str
    exit_code: int
    when: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Rules:
    """What the spec of the newest commit that could be read says about the agent."""

    self_heal: bool = False
    freeze: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Memory:
    """What was done so far on a branch of a remote.

    `tried` is the newest commit that was attempted to its end, `at` the one that the checkout
    follows, `applied` the newest that was applied whole, at `applied_at` in UTC. While a commit is
    `busy`, files may be on their way; its apply began `starts` times. `left` are the files that the
    agent left changed. `ended` counts attempts.
    """

    remote: str
    branch: str
    tried: str = ""
    at: str = ""
    applied: str = ""
    applied_at: str = ""
    busy: str = ""
    starts: int = 0
    left: tuple[str, ...] = ()
    rules: Rules = Rules()
    attempts: tuple[Attempt, ...] = ()
    ended: Mapping[str, int] = field(default_factory=dict)

    @property
    def last(self) -> Attempt | None:
        """The newest attempt."""
        return self.attempts[-1] if self.attempts else None

    def after(self, attempt: Attempt, left: tuple[str, ...]) -> Memory:
        """What is remembered when an attempt has ended."""
        counted = {**self.ended, attempt.ending.value: self.ended.get(attempt.ending.value, 0) + 1}
        memory = replace(
            self,
            tried=attempt.commit,
            at=self.at if attempt.ending.untouched and self.at else attempt.commit,
            busy="",
            starts=0,
            left=left,
            attempts=(*self.attempts, attempt)[-MOST_KEPT:],
            ended=counted,
        )
        if attempt.ending.good:
            memory = replace(memory, applied=attempt.commit, applied_at=attempt.when)
        return memory


def load_memory(root: Path, remote: str, branch: str) -> Memory:
    """What is remembered of a branch; nothing of another one."""
    new = Memory(remote, branch)
    try:
        data = json.loads((root / FILE).read_text(encoding="utf-8"))
        if data["format"] > FORMAT:
            raise MlspecError(
                f"{FILE} was written by a newer mlspec", hint="use that, or a clone of its own"
            )
        memory = _memory(data)
    except (OSError, ValueError, TypeError, KeyError):
        return new
    return memory if (memory.remote, memory.branch) == (remote, branch) else new


def keep_memory(root: Path, memory: Memory) -> None:
    """Replace the file; raises :class:`MlspecError` when the file system refuses."""
    text = json.dumps({"format": FORMAT, **asdict(memory)}, indent=1, ensure_ascii=False)
    write_atomic(root / FILE, text + "\n")


def _memory(data: dict[str, Any]) -> Memory:
    del data["format"]
    rules = Rules(data["rules"]["self_heal"], tuple(data["rules"]["freeze"]))
    attempts = tuple(
        Attempt(**{**each, "ending": Ending(each["ending"])}) for each in data["attempts"]
    )
    return Memory(**{**data, "rules": rules, "attempts": attempts, "left": tuple(data["left"])})
