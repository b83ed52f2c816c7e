"""The lock of an apply: one at a time in a repository, whatever its worktree.

It is the kernel's lock (flock) on a file in the shared Git folder, so it is gone when its holder
is, however it ended. The file tells the others who holds it.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mlspec.children import is_alive
from mlspec.errors import Locked, MlspecError
from mlspec.git import Git
from mlspec.ledger.entry import iso_time, run_url

_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock. `since` is a time in UTC, `id` names this one holding."""

    holder: str
    host: str
    pid: int
    since: str
    run_url: str
    id: str

    def __str__(self) -> str:
        run = f", {self.run_url}" if self.run_url else ""
        return f"{self.holder} on {self.host} (process {self.pid}{run}), since {self.since}"


def lock_file(git: Git) -> Path:
    return git.common_dir / "mlspec.lock"


@contextmanager
def acquire(
    git: Git, timeout: float = 0, note: Callable[[str], None] | None = None
) -> Iterator[Holder]:
    """Hold the lock; raises :class:`Locked` if another has it for longer than `timeout` seconds.

    `note` is told when there is something to wait for.
    """
    path = lock_file(git)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise MlspecError(f"cannot open {path}: {error.strerror}") from error
    try:
        if not _taken(descriptor, time.monotonic()):
            if note is not None and timeout > 0:
                note(f"Waiting for the lock of this repository, {timeout:g} s at most.")
            if not _taken(descriptor, time.monotonic() + timeout):
                raise _locked(git)
        holder = _new_holder(git)
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(asdict(holder)).encode() + b"\n", 0)
        except OSError as error:
            raise MlspecError(f"cannot write {path}: {error.strerror}") from error
        try:
            yield holder
        finally:
            with suppress(OSError):  # nobody holds it, whatever is written there
                os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def load_holder(git: Git) -> Holder | None:
    """Who holds the lock, or was killed while holding it; none if nobody is written there."""
    try:
        return Holder(**json.loads(lock_file(git).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def find_applying(git: Git) -> Holder | None:
    """Who holds the lock and lives, as far as that can be told here."""
    holder = load_holder(git)
    if holder is None or holder.host != os.uname().nodename:
        return holder
    return holder if is_alive(holder.pid) else None


def _taken(descriptor: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        else:
            return True


def _locked(git: Git) -> Locked:
    holder = load_holder(git)
    held = f"is held by {holder}" if holder else "is held by another process"
    hint = "wait for it, or give --lock-timeout; the lock goes when its process ends"
    if holder:
        hint += f"; if it never does: mlspec unlock {holder.id}"
    return Locked(f"the lock of this repository {held}", hint=hint)


def _new_holder(git: Git) -> Holder:
    return Holder(
        holder=str(git.user),
        host=os.uname().nodename,
        pid=os.getpid(),
        since=iso_time(time.time()),
        run_url=run_url(os.environ),
        id=uuid.uuid4().hex,
    )
