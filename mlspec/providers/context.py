"""What a provider is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.errors import MlspecError
from mlspec.executors import Executor
from mlspec.ledger.records import Record
from mlspec.planner import Facts, Recorded
from mlspec.resources import Desired
from mlspec.worktree import Worktree

if TYPE_CHECKING:
    from mlspec.dvc.client import Dvc


@dataclass(frozen=True, slots=True)
class Source:
    """The commit that an apply works from; `dirty` if the worktree differs from it."""

    commit: str
    dirty: bool
    time: int
    """Seconds since the epoch of the commit, or 0 when there is none."""


@dataclass(slots=True)
class Context:
    """The world as a provider may touch it. `facts` and `recorded` are those of the moment."""

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
    on_line: Callable[[str, str], None]
    """Called with an address and a line that its command printed."""
    unlocked: Callable[[], AbstractContextManager[object]] = nullcontext
    """Providers take turns. What runs within this does so beside the others' turns: a command."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a provider did, in words, and what the ledger is to remember of it.

    `failure` ends the step as failed although there is something to remember.
    """

    detail: str
    records: Mapping[str, Record | None] = field(default_factory=dict)
    failure: MlspecError | None = None
