"""Where a stage's command runs. Comes in: a :class:`Job`. Goes out: an :class:`Outcome`.

:mod:`mlspec.executors.local` runs it on this machine. Another executor fills :class:`Executor`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from mlspec.spec.models import Resources


class Cause(StrEnum):
    """Why a command ended."""

    OK = "ok"
    EXIT = "exit"
    SIGNAL = "signal"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out of memory"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a stage. `timeout` is in seconds, for each try; `on_line` hears what it prints."""

    address: str
    command: str
    root: Path
    log: Path
    timeout: float | None = None
    retries: int = 0
    outputs: tuple[str, ...] = ()
    """Removed before each try, so that what is there afterwards was written by it."""
    resources: Resources = field(default_factory=Resources)
    python: str = ""
    """The version that its interpreter must have, if it uses one and this says so."""
    on_line: Callable[[str], None] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How it went. `exit_code` is negative for a signal; `detail` says it in words."""

    cause: Cause
    exit_code: int
    seconds: float
    detail: str
    tail: tuple[str, ...] = ()
    """The last lines that it printed."""


class Stop:
    """Asks every command of an apply to end: with time to clean up, then at once.

    Whoever waits for a command looks at it now and then, in whatever thread; signals reach only the
    main thread.
    """

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.at_once = threading.Event()


class Executor(Protocol):
    """Runs a job once. Raises only what is not the command's fault."""

    def check(self, job: Job) -> None:
        """Raise if the job cannot run here; asked before anything is removed or started."""

    def run(self, job: Job) -> Outcome: ...
