"""Problems that a user can meet, and the exit code of each.

A *problem in what the user wrote* is a :class:`Diagnostic`: a stable code, a place, a message and a
way to mend it. Loading collects all of them and raises one :class:`SpecError`.

Everything that ends a command is an :class:`MlspecError`::

    MlspecError                 1
    ├── SpecError               1   one or more diagnostics
    ├── GateFailed              3
    ├── Locked                  4
    │   └── LockLost            4
    ├── RemoteUnreachable       5
    ├── RolledBack              6
    │   └── Undecided           6
    └── Degraded                7

A signal that asks mlspec to end is an :class:`Interrupted`, which is not an `Exception`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What a shell or a CI job sees when a command ends."""

    OK = 0
    ERROR = 1
    CHANGES = 2
    GATE_FAILED = 3
    LOCKED = 4
    UNREACHABLE = 5
    ROLLED_BACK = 6
    DEGRADED = 7
    INTERRUPTED = 130
    TERMINATED = 143


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A span in a file: `line` and `column` count from 1, `length` in characters."""

    path: str
    line: int
    column: int
    length: int = 1
    source: str = ""
    """The text of the line, without its end."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One problem: what (`message`), where (`address`, `field`, `place`), how to mend it (`hint`).

    `code` is stable (`MLS012`) and has a page, shown by `mlspec explain MLS012`.
    """

    code: str
    message: str
    address: str = ""
    field: str = ""
    place: Place | None = None
    hint: str = ""
    more: int = 0
    """How many more there are like it, which are not told."""


class MlspecError(Exception):
    """Ends a command with a message a user can act on; `hint` says how."""

    exit_code = ExitCode.ERROR

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def as_dict(self) -> dict[str, Any]:
        """The error for machines."""
        return {"message": self.message, "hint": self.hint, "exit_code": int(self.exit_code)}


class Interrupted(BaseException):
    """A signal asks the process to end; caught to clean up and to record, then raised again."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def unusable(error: OSError) -> MlspecError:
    """What the system refused (no space, no permission), in words."""
    reason = error.strerror or str(error)
    if error.filename is None:
        return MlspecError(f"the system refused: {reason}")
    return MlspecError(f"cannot use {os.fsdecode(error.filename)}: {reason}")


def why_not_started(program: str, error: OSError) -> str:
    """What the system refused of a start, and of which file if it is not the program's."""
    where = "" if error.filename is None else os.fsdecode(error.filename)
    reason = error.strerror or str(error)
    if where and where != program:
        reason = f"cannot use {where}: {reason}"
    return f"cannot start {program}: {reason}"


class SpecError(MlspecError):
    """The spec, or a file it names, has problems; all that were found are in `diagnostics`."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        count = len(self.diagnostics)
        super().__init__(f"{count} problem{'' if count == 1 else 's'} in the spec")

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "problems": [asdict(each) for each in self.diagnostics]}


class GateFailed(MlspecError):
    """A gate of level `fail` did not pass; nothing was registered or deployed for its model."""

    exit_code = ExitCode.GATE_FAILED


class Locked(MlspecError):
    """Another apply holds the lock."""

    exit_code = ExitCode.LOCKED


class LockLost(Locked):
    """This apply held the lock, and another took it over meanwhile."""


class RemoteUnreachable(MlspecError):
    """A Git remote, the storage or a cluster did not answer."""

    exit_code = ExitCode.UNREACHABLE


class RolledBack(MlspecError):
    """A new release was not taken into service; the old one still serves."""

    exit_code = ExitCode.ROLLED_BACK


class Undecided(RolledBack):
    """A rollout went back without an answer: the release may be tried again."""


class Degraded(MlspecError):
    """What runs is not what is recorded, and a person is needed."""

    exit_code = ExitCode.DEGRADED
