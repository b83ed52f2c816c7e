"""Moves refs through one process.

Comes in: a ref, where it shall point and where it must point now. Goes out: whether it was moved.
"""

from __future__ import annotations

import subprocess
import threading
import weakref
from collections.abc import Callable

from mlspec.git.objects import end_process


class RefMover:
    """Moves refs through one `git update-ref --stdin`, started by the first move.

    Git itself ends it when a move fails, without saying why in a way that tells much; so who is
    told no asks Git again, in a process of its own.
    """

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def move(self, name: str, new: str, old: str) -> bool:
        """Whether `name` was `old` (zeros: absent) and is `new` now; if not, who knows."""
        with self._lock:
            if self._process is None:
                self._process = self._start()
                self._finalizer = weakref.finalize(self, end_process, self._process)
            stdin, stdout = self._process.stdin, self._process.stdout
            assert stdin is not None
            assert stdout is not None
            try:
                stdin.write(f"start\nupdate {name} {new} {old}\ncommit\n".encode())
                stdin.flush()
                said = [stdout.readline(), stdout.readline()]
            except OSError:
                said = []
            except BaseException:  # a signal: the answer must not go to whoever moves one next
                self._stop()
                raise
            if said == [b"start: ok\n", b"commit: ok\n"]:
                return True
            self._stop()
            return False

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _stop(self) -> None:
        if self._process is not None:
            self._finalizer()
            self._process = None
