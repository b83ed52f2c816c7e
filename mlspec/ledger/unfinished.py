"""Applies that ended before they were done: told to the audit by the next one.

An apply writes itself down in a file beside the lock before its first step, and takes that away
when it ends by itself. So what is written there while nobody holds the lock was killed, or was
asked to end by a signal. Everything here is done by the holder of the lock.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mlspec.atomic import naming
from mlspec.errors import Interrupted, unusable
from mlspec.git import Git
from mlspec.ledger.entry import Entry, iso_time, load_entry
from mlspec.ledger.store import Ledger

INTERRUPT = "interrupt"
"""The action of the entry that tells of one."""


@dataclass(frozen=True, slots=True)
class Run:
    """An apply: `entry` is what its entries have in common, `tip` the ledger that it began with.

    `root` is the worktree that it was at work in; none if an older mlspec wrote this.
    """

    id: str
    pid: int
    since: str
    tip: str
    entry: dict[str, str | bool | int]
    root: str = ""

    def told(self) -> Entry:
        """What the audit says of one that did not end."""
        detail = f"process {self.pid}, since {self.since}, did not end by itself ({self.id})"
        return Entry.model_validate(self.entry).about("", INTERRUPT, "ended", detail)


def journal_file(git: Git) -> Path:
    return git.common_dir / "mlspec-unfinished.json"


def load_unfinished(git: Git) -> list[Run]:
    """The applies that are written down; with the lock held, those that did not end."""
    try:
        found = [Run(**run) for run in json.loads(journal_file(git).read_text("utf-8"))]
        for run in found:
            run.told()
    except (OSError, ValueError, TypeError):
        return []
    return found


def worktrees_left(git: Git, here: Path) -> list[Path]:
    """Where applies were at work that did not end; `here` first, if there is any of them."""
    left = load_unfinished(git)
    others = (Path(run.root) for run in left if run.root)
    return [*dict.fromkeys([here, *others])] if left else []


def settle_unfinished(ledger: Ledger) -> None:
    """Have an entry in the audit for each apply that did not end."""
    left = load_unfinished(ledger.git)
    for run in left:
        if not _is_told(ledger, run):
            ledger.record({}, run.told())
    if left:
        journal_file(ledger.git).unlink(missing_ok=True)


@contextmanager
def at_work(ledger: Ledger, entry: Entry) -> Iterator[None]:
    """Written down for as long as the block lasts, or until it is told if a signal ends it."""
    settle_unfinished(ledger)
    file = journal_file(ledger.git)
    run = Run(
        id=uuid.uuid4().hex[:12],
        pid=os.getpid(),
        since=iso_time(time.time()),
        tip=ledger.tip,
        entry=entry.model_dump(),
        root=str(ledger.git.root),
    )
    _write(file, json.dumps([asdict(run)]) + "\n")
    try:
        yield
    except Interrupted:
        raise
    except BaseException:
        with suppress(OSError):
            file.unlink()
        raise
    with suppress(OSError):
        file.unlink()


def _write(file: Path, text: str) -> None:
    """In place: half of it is as if nothing was written, and nothing was done yet."""
    try:
        with naming(file), file.open("w", encoding="utf-8") as journal:
            journal.write(text)
            journal.flush()
            os.fsync(journal.fileno())
    except OSError as error:
        raise unusable(error) from error


def _is_told(ledger: Ledger, run: Run) -> bool:
    """Whether it was told by one that was killed before it could take the file away."""
    return any(
        run.id in entry.detail
        for oid, commit in ledger.chain(ledger.tip, until=run.tip)
        if (entry := load_entry(oid, commit)).action == INTERRUPT
    )
