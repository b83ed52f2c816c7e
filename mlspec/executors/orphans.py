"""No command of a stage outlives an mlspec that was killed: it would write what others read.

While commands run, a small shell waits for the end of this process, however that comes, and then
ends their process groups. What was started in the very moment of the kill, or left its group, the
next apply finds by its environment (:func:`end_orphans`), before it does anything.
"""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OWNER = "MLSPEC_STAGE_OF"
"""The environment variable by which a command knows the worktree that it was started in."""
PATIENCE = 10.0
"""Seconds to wait for the end of what was killed."""
_SCRIPT = """\
trap '' HUP INT TERM
groups=' '
while read -r sign group; do
  case $sign in
    +) groups="$groups$group " ;;
    -) groups="${groups%% $group *} ${groups#* $group }" ;;
  esac
done
for group in $groups; do kill -s KILL -- "-$group"; done
"""


class Guardian:
    """Ends the process groups that are :meth:`watched <watch>` when this process is gone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shell: subprocess.Popen[bytes] | None = None

    @contextmanager
    def watch(self, group: int) -> Iterator[None]:
        """Have a group ended if this process does not come to the end of the block."""
        self._tell(f"+ {group}\n")
        try:
            yield
        finally:
            self._tell(f"- {group}\n")

    def close(self) -> None:
        """Let it go, as nothing is left to watch."""
        with self._lock:
            if self._shell is not None:
                with suppress(OSError):
                    self._shell.communicate()
                self._shell = None

    def start(self) -> None:
        """Be there, so that a command is watched as soon as it is there."""
        with self._lock, suppress(OSError):
            if self._shell is None:
                self._shell = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT],
                    cwd="/",
                    env={},
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    bufsize=0,
                    start_new_session=True,
                )
                atexit.register(self.close)

    def _tell(self, line: str) -> None:
        # a command must not fail because nobody watches it
        self.start()
        with self._lock, suppress(OSError):
            if self._shell is not None and self._shell.stdin is not None:
                self._shell.stdin.write(line.encode())


GUARDIAN = Guardian()


def end_orphans(root: Path) -> list[int]:
    """End the commands that a killed mlspec left at work in a worktree; their process ids.

    The caller holds the lock, so nobody else runs any there. Only where the system has `/proc`.
    """
    left = _find(root)
    ended = set(left)
    deadline = time.monotonic() + PATIENCE
    while left and time.monotonic() < deadline:
        for pid in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
        left = _find(root)  # one may have started others meanwhile
        ended.update(left)
    return sorted(ended)


def _find(root: Path) -> list[int]:
    mark = os.fsencode(f"{OWNER}={root}")
    own = {os.getpid(), os.getppid()}
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if mark in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    return [pid for pid in found if pid not in own]
