"""Versions of mlspec with one thing wrong, which the harness must catch.

`CRASH_SEEDED=NAME` has one in `faulty.py`. Which check catches it, `test_seeded.py` says.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import standin

import mlspec.__main__
import mlspec.atomic
import mlspec.commands.fsck
import mlspec.dvc.objects
import mlspec.ledger.lock
import mlspec.ledger.unfinished
import mlspec.leftovers
import mlspec.providers.files
from mlspec.dvc.client import Dvc
from mlspec.errors import MlspecError
from mlspec.git import Git, Remote
from mlspec.ledger.check import LedgerCheck
from mlspec.ledger.store import Ledger
from mlspec.plan import Action, Consequence
from mlspec.planner import Facts, stages
from mlspec.resources import StageResource

unfinished = mlspec.ledger.unfinished
SEEDED: dict[str, Callable[[], None]] = {}
"""What changes mlspec in this process, by name."""


def _seed(function: Callable[[], None]) -> Callable[[], None]:
    SEEDED[function.__name__.replace("_", "-")] = function
    return function


@_seed
def file_written_in_place() -> None:
    """A generated file is opened and written, rather than replaced."""

    def write(path: Path, text: str, *, mode: int = 0o644) -> None:
        _write_in_place(str(path), text.encode())
        path.chmod(mode)

    mlspec.providers.files.write_atomic = write


@_seed
def lock_written_in_place() -> None:
    """`dvc.lock` and objects of the cache too."""

    def write(files: Mapping[str, bytes], **_: Any) -> None:
        for path, data in files.items():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            _write_in_place(path, data)

    mlspec.dvc.objects.write_together = write


@_seed
def file_not_synced() -> None:
    """Nothing asks for the data of a file to be on disk before it has its name."""
    os.fsync = lambda _: None
    mlspec.atomic.write_out = lambda _: True


@_seed
def folder_not_synced() -> None:
    """A file is on disk, and its name may not be."""
    mlspec.atomic.sync_folder = lambda _: None


@_seed
def lock_not_taken() -> None:
    """Two applies at once."""
    mlspec.ledger.lock._taken = lambda *_: True


@_seed
def effect_before_journal() -> None:
    """An apply writes itself down when its work is done."""

    @contextmanager
    def at_work(ledger: Ledger, *_: Any) -> Iterator[None]:
        unfinished.settle_unfinished(ledger)
        yield
        _touch_journal(ledger)

    unfinished.at_work = at_work


@_seed
def journal_gone_early() -> None:
    """An apply takes its journal away before its first step."""

    @contextmanager
    def at_work(ledger: Ledger, *_: Any) -> Iterator[None]:
        unfinished.settle_unfinished(ledger)
        _touch_journal(ledger)
        yield

    unfinished.at_work = at_work


@_seed
def interrupt_not_told() -> None:
    """The journal of an apply that was killed is taken away, and the audit does not say so."""
    unfinished.settle_unfinished = lambda ledger: unfinished.journal_file(ledger.git).unlink(True)


@_seed
def record_before_effect() -> None:
    """A run is recorded before storage has what it wrote."""
    later: list[Callable[[], None]] = []
    push, close = Dvc.push, Dvc.__exit__

    def end(self: Dvc, *how: Any) -> None:
        for each in later:
            each()
        close(self, *how)

    Dvc.push = lambda self, *about: later.append(lambda: push(self, *about))
    Dvc.__exit__ = end


@_seed
def ledger_not_compared() -> None:
    """The ref of the ledger is set, whatever it is."""

    def move(self: Git, name: str, new: str, *, expected: str) -> str:  # noqa: ARG001
        self.run("update-ref", name, new)
        return ""

    Git.move_ref = move


@_seed
def push_by_force() -> None:
    """The remote's ledger is replaced, whatever it is."""

    ask = Remote._ask

    def force(self: Remote, *arguments: str) -> Any:
        less = [each for each in arguments if not each.startswith("--force-with-lease")]
        return ask(self, *less[:1], *["--force"] * (less[0] == "push"), *less[1:])

    Remote._ask = force


@_seed
def entry_dropped() -> None:
    """The audit says nothing of gates."""
    stage = Ledger.stage

    def some(self: Ledger, changes: Any, entry: Any) -> None:
        if not entry.address.startswith("gate."):
            stage(self, changes, entry)

    Ledger.stage = some


@_seed
def leftovers_stay() -> None:
    """Nobody takes away what a killed apply was writing."""
    mlspec.leftovers.remove_leftovers = lambda *_: None


@_seed
def damage_not_seen() -> None:
    """`fsck` compares no digests."""
    LedgerCheck.check = lambda *_: iter(())
    mlspec.commands.fsck._check_git = lambda _: iter(())


@_seed
def runs_forgotten() -> None:
    """What was recorded is run again."""

    def run(facts: Facts, resource: StageResource, *_: Any) -> None:
        stages._add(facts, resource, Action.RUN, Consequence.RETRAIN, "forgotten")

    stages._plan_restore = run


@_seed
def deployed_twice() -> None:
    """A release is handed to its target two times."""
    deploy = standin.NotedTarget.deploy

    def twice(self: standin.NotedTarget, *about: Any) -> Any:
        deploy(self, *about)
        return deploy(self, *about)

    standin.NotedTarget.deploy = twice


@_seed
def error_swallowed() -> None:
    """A file that cannot be written is left as it is, and nobody is told."""
    write = mlspec.providers.files.write_atomic

    def try_to_write(*about: Any, **more: Any) -> None:
        with suppress(MlspecError):
            write(*about, **more)

    mlspec.providers.files.write_atomic = try_to_write


@_seed
def traceback_shown() -> None:
    """A user sees what only who works on mlspec can read."""

    def fail(error: MlspecError) -> int:
        traceback.print_exception(error, file=sys.stderr)
        return 1

    mlspec.__main__._fail = fail


def _write_in_place(path: str, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            os.write(descriptor, part)
    finally:
        os.close(descriptor)


def _touch_journal(ledger: Ledger) -> None:
    file = unfinished.journal_file(ledger.git)
    file.write_text("[]\n")
    file.unlink()
