"""DVC's lock on a repository, held as DVC holds it: either waits for the other.

DVC locks twice. `.dvc/tmp/lock` (a kernel's lock) is held while anything is written, but not while
a stage runs; `.dvc/tmp/rwlock` then lists the paths that the stage reads and writes. DVC changes
that list only while it holds the first lock, so whoever holds that can believe the list.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlspec.children import is_alive

PATIENCE = 300.0
"""Seconds to wait for another process that holds DVC's lock."""
_POLL = 0.05


class Busy(Exception):
    """Another process holds the lock; says which, if it is known."""


@contextmanager
def locked(root: Path, writes: Iterable[str] = ()) -> Iterator[None]:
    """Hold the lock of the repository while nobody else uses the paths `writes`.

    Raises :class:`Busy` when that takes longer than :data:`PATIENCE`.
    """
    folder = root / ".dvc/tmp"
    folder.mkdir(exist_ok=True)
    deadline = time.monotonic() + PATIENCE
    while True:
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            blocker = _take(descriptor) or _user_of(root, writes)
            if not blocker:
                yield
                return
        finally:
            os.close(descriptor)
        if time.monotonic() > deadline:
            raise Busy(blocker)
        time.sleep(_POLL)


def _take(descriptor: int) -> str:
    """Take the lock and say so in the file; who has it, if that is somebody else."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(descriptor, 40, 0).decode("ascii", "replace").strip()
        return f"process {pid}" if pid else "another process"
    written = os.pwrite(descriptor, f" {os.getpid()}\n".encode(), 0)
    os.ftruncate(descriptor, written)
    return ""


def _user_of(root: Path, paths: Iterable[str]) -> str:
    """A living process whose stage reads or writes one of `paths`; none if there is none."""
    users = _load_users(root / ".dvc/tmp/rwlock")
    wanted = [str(root / path) for path in paths] if users else []
    for path, pid, command in users:
        if any(_overlap(path, mine) for mine in wanted) and is_alive(pid):
            return f"{command} (process {pid}) uses {path}"
    return ""


def _load_users(path: Path) -> list[tuple[str, int, str]]:
    try:
        data: dict[str, Any] = json.loads(path.read_bytes())
        writers = [(used, info) for used, info in data.get("write", {}).items()]
        readers = [(used, info) for used, infos in data.get("read", {}).items() for info in infos]
        return [(used, int(info["pid"]), str(info["cmd"])) for used, info in writers + readers]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError, AttributeError):
        # a DVC was killed while writing it, and no later one could read it
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        return []


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
