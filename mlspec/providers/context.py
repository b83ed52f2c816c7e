"""What a provider is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.errors import MlspecError
from mlspec.executors import Executor, Stop
from mlspec.ledger.records import Record
from mlspec.planner import Facts, Recorded
from mlspec.resources import Desired
from mlspec.worktree import Worktree

if TYPE_CHECKING:
    from mlspec.dvc.client import Dvc
    from mlspec.executors.registry import Executors


@dataclass(frozen=True, slots=True)
class Source:
    """The commit that an apply works from; `dirty` if the worktree differs from it."""

    commit: str
    dirty: bool
    time: int
    """Seconds since the epoch of the commit, or 0 when there is none."""


class Writers:
    """The stages whose outputs change because mlspec does it: who they are, while others run."""

    def __init__(self) -> None:
        self._running: set[str] = set()
        self._wrote: list[str] = []

    @contextmanager
    def writing(self, address: str) -> Iterator[set[str]]:
        """The stage at `address` runs meanwhile; afterwards holds who else wrote."""
        others = set(self._running)
        self._running.add(address)
        self._wrote.append(address)
        begin = len(self._wrote)
        try:
            yield others
        finally:
            self._running.discard(address)
            others.update(self._wrote[begin:])

    def wrote(self, address: str) -> None:
        """The outputs of the stage at `address` were put back."""
        self._wrote.append(address)


@dataclass(slots=True)
class Context:
    """The world as the provider of one step may touch it.

    `facts` are those of the moment in which the step began, `recorded` is what the ledger has now.
    """

    root: Path
    desired: Desired
    facts: Facts
    recorded: Recorded
    worktree: Worktree
    dvc: Dvc
    executor: Executor
    logs: Path
    source: Source
    place: str
    token: int = 0
    """Of the lock that is held: who saw a higher one obeys no lower one. 0 without a remote."""
    executors: Executors | None = None
    """Other machines, where there are any."""
    stop: Stop = field(default_factory=Stop)
    writers: Writers = field(default_factory=Writers)
    on_line: Callable[[str, str], None] = lambda _address, _line: None
    """Called with an address and a line that its command printed."""
    unlocked: Callable[[], AbstractContextManager[object]] = nullcontext
    """Providers take turns. What runs within this does so beside the others' turns: a command."""
    moved: Callable[[str], Mapping[str, Record | None]] = lambda _address: {}
    """What to record so that what is at a former address is at the present one."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a provider did, in words, and what the ledger is to remember of it.

    `failure` ends the step as failed although there is something to remember.
    """

    detail: str
    records: Mapping[str, Record | None] = field(default_factory=dict)
    failure: MlspecError | None = None


class CutShort(Exception):
    """The command of a step was ended because the whole apply ends."""
