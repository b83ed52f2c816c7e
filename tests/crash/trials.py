"""Trials that an mlspec with nothing wrong passes: one for each way to be wrong.

Comes in: sandboxes, and what is wrong (`seeded.py`), or nothing. Goes out: what a trial found.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import failpoints
from durable import find_hasty, find_unsettled
from oracle import REF, check_fault, check_rerun, is_killed, load_state
from points import APPLY, Point
from sandbox import FAULTY, Done, Sandbox
from sweep import Start

_PATIENCE = 60.0
_WRITER = """
import sys
from pathlib import Path
from mlspec.git import Git
from mlspec.ledger.entry import Entry
from mlspec.ledger.store import Ledger
git = Git(Path(sys.argv[1]))
ledger = Ledger(git)
ledger.sync()
ledger.record({}, Entry(command="note", detail="another writer"))
print(ledger.tip)
git.close()
"""
_CALLS = "trace=rename,fsync,fdatasync,sync_file_range"


@dataclass(frozen=True)
class Trial:
    """An apply of a scenario with `seeded` wrong in it; none if that is empty."""

    start: Start
    seeded: str
    place: Path

    def sandbox(self) -> Sandbox:
        return self.start.sandbox.copy(self.place)

    @property
    def wrong(self) -> dict[str, str]:
        """What the environment says."""
        return {"CRASH_SEEDED": self.seeded} if self.seeded else {}


Run = Callable[[Trial], Iterator[str]]


def fault(wanted: str) -> Run:
    """A fault at a failpoint, a look, an apply, another look."""

    def run(trial: Trial) -> Iterator[str]:
        sandbox, start = trial.sandbox(), trial.start
        name, number, what = wanted.rsplit(":", 2)
        record = sandbox.place / "passed"
        about = {"MLSPEC_FAILPOINT": wanted, "CRASH_RECORD": str(record), **trial.wrong}
        done = sandbox.mlspec(*APPLY, **about)
        assert failpoints.load_hit(record), f"{wanted} was not come to: {done}"
        record.unlink()
        error = Point("", "", int(number), what, name=name).error
        yield from check_fault(sandbox, done, start.before, start.after, error=error)
        left = load_state(sandbox)
        again = sandbox.mlspec(*APPLY, **trial.wrong)
        states = (left, start.before, start.after)
        yield from check_rerun(sandbox, again, *states, killed=is_killed(done))

    return run


def clean(trial: Trial) -> Iterator[str]:
    """An apply without a fault."""
    sandbox, start = trial.sandbox(), trial.start
    left = load_state(sandbox)
    done = sandbox.mlspec(*APPLY, **trial.wrong)
    yield from check_rerun(sandbox, done, left, start.before, start.after, faults=0)


def durable(trial: Trial) -> Iterator[str]:
    """What strace notes of an apply."""
    sandbox = trial.sandbox()
    log = sandbox.place / "strace.log"
    strace = ("strace", "-f", "-b", "execve", "-y", "-qq", "-o", str(log), "-e", _CALLS)
    done = sandbox.run([*strace, *FAULTY, *APPLY], **trial.wrong)
    assert done.returncode == 0, done.stderr
    lines = log.read_text().splitlines()
    yield from (f"{new} has its name before its data is on disk" for _, new in find_hasty(lines))
    yield from (f"the name {new} may not be on disk" for new in find_unsettled(lines))


def locked(trial: Trial) -> Iterator[str]:
    """An apply while another one is at work."""
    sandbox = trial.sandbox()
    with _paused(trial, sandbox, "ledger.unfinished._write/fsync:1"):
        done = sandbox.mlspec(*APPLY, **trial.wrong)
    if done.returncode != 4 or "is held by" not in done.stderr:
        yield f"two applies at once: the second ends with {done.returncode}: {done.stderr}"


def beside_a_writer(trial: Trial) -> Iterator[str]:
    """Somebody records something while an apply does."""
    sandbox = trial.sandbox()
    with _paused(trial, sandbox, "git.pack.Packs._write/replace:2"):
        there = sandbox.check(sys.executable, "-c", _WRITER, str(sandbox.repo)).strip()
    if sandbox.run(["git", "merge-base", "--is-ancestor", there, REF]).returncode:
        yield "entries of the audit are lost: what another one recorded"


def beside_a_clone(trial: Trial) -> Iterator[str]:
    """Another clone publishes its records while an apply is at work."""
    sandbox = trial.sandbox()
    sandbox.check("git", "clone", "--quiet", "../remote.git", "../clone")
    clone = sandbox.place / "clone"
    with _paused(trial, sandbox, "git.repository.Git.move_ref/move:1"):
        there = sandbox.check(sys.executable, "-c", _WRITER, str(clone)).strip()
        sandbox.check("git", "-C", str(clone), "push", "--quiet", "origin", f"{REF}:{REF}")
    remote = str(sandbox.place / "remote.git")
    kept = sandbox.run(["git", "-C", remote, "merge-base", "--is-ancestor", there, REF])
    if kept.returncode:
        yield "entries of the remote's audit are lost"


def damaged(trial: Trial) -> Iterator[str]:
    """One byte of a pack is another one."""
    sandbox = trial.sandbox()
    for pack in (sandbox.repo / ".git/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 0xFF
        pack.write_bytes(data)
    done = sandbox.mlspec("fsck", **trial.wrong)
    if done.returncode != 1:
        yield f"fsck does not see the damage: {done.stdout}"


@contextmanager
def _paused(trial: Trial, sandbox: Sandbox, failpoint: str) -> Iterator[None]:
    """An apply that waits at a failpoint for as long as the block lasts."""
    paused, record = sandbox.place / "paused", sandbox.place / "passed"
    paused.touch()
    about = {
        "MLSPEC_FAILPOINT": f"{failpoint}:pause",
        "CRASH_RECORD": str(record),
        "CRASH_PAUSED": str(paused),
        **trial.wrong,
    }
    ended: list[Done] = []
    thread = threading.Thread(target=lambda: ended.append(sandbox.mlspec(*APPLY, **about)))
    thread.start()
    try:
        deadline = time.monotonic() + _PATIENCE
        while not (record.exists() and failpoints.load_hit(record)):
            assert thread.is_alive(), f"{failpoint} was not come to: {ended}"
            assert time.monotonic() < deadline, f"{failpoint} was not come to"
            time.sleep(0.02)
        yield
    finally:
        paused.unlink()
        thread.join()
