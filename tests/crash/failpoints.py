"""Failpoints: every call of mlspec that makes something durable or has an effect outside of it.

There is none in mlspec itself. A test starts mlspec with the calls below wrapped, so a new step has
its failpoint by itself. The name of one is the function of mlspec that makes the call, and the
call: `atomic.write_atomic/fsync`. `MLSPEC_FAILPOINT=NAME:NUMBER:FAULT` has a fault there, when the
name is passed for the NUMBER-th time. `CRASH_RECORD=FILE` writes down what is passed, and what the
interpreter tells of (`sys.addaudithook`) that no failpoint has seen.

    kill, term    end, or ask to end, as soon as the call is done
    exc           a defect instead of the call
    enospc, eio   what the system answers instead of the call
    pause         wait as soon as the call is done, while the file of `CRASH_PAUSED` is there
"""

from __future__ import annotations

import builtins
import errno
import fcntl
import functools
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

FAULTS = ("kill", "term", "exc", "enospc", "eio", "pause")
CALLS: tuple[tuple[ModuleType, str], ...] = (
    *((os, name) for name in ("write", "pwrite", "fsync", "fdatasync", "replace", "rename")),
    *((os, name) for name in ("unlink", "remove", "mkdir", "rmdir", "link", "symlink")),
    *((os, name) for name in ("chmod", "truncate", "ftruncate", "kill", "killpg")),
    (os, "open"),
    (io, "open"),
    (fcntl, "flock"),
)
PIPES = (("mlspec.git.refs", "RefMover", "move"), ("mlspec.dvc.client", "Dvc", "_ask"))
"""What has an effect by a line that another process reads."""
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_AUDITED = (
    *("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink"),
    *("os.chmod", "os.truncate", "os.kill", "os.killpg", "fcntl.flock", "subprocess.Popen"),
    *("os.fork", "os.forkpty", "os.exec", "os.posix_spawn", "os.system", "pty.spawn"),
)
_ERRORS = {"enospc": errno.ENOSPC, "eio": errno.EIO}
_NOWHERE = ("/dev/", "/proc/")
_QUESTIONS = frozenset(
    """
    rev-parse config cat-file for-each-ref ls-files ls-tree status merge-base show symbolic-ref
    check-ignore check-attr diff version
    """.split()  # noqa: SIM905
)
"""Of Git: these have no effect."""
_MEANS = re.compile(
    r"mlspec\.atomic\b|mlspec\.git\.repository\.Git\.(start|call|run|_serve|_answer)$"
    r"|mlspec\.git\.remote\.Remote\._ask$"
    r"|mlspec\.git\.refs\b"
)
"""Functions that do what others ask: the name of a failpoint is who asked."""


class _Failpoints:
    """What is passed, and the one that fails."""

    def __init__(self, wanted: str, record: str) -> None:
        self._name, self._number, self._fault = wanted.rsplit(":", 2) if wanted else ("", "0", "")
        self._log = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if record else None
        self._real_write = os.write
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._inside = threading.local()

    def wrap(self, call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(real)
        def passed(*arguments: Any, **named: Any) -> Any:
            name = self._step(call, arguments, named)
            if name is None:
                return real(*arguments, **named)
            with self._lock:
                self._counts[name] += 1
                hit = name == self._name and self._counts[name] == int(self._number)
            self._note(f"{'hit' if hit else 'pass'} {name}")
            if hit and self._fault in _ERRORS:
                number = _ERRORS[self._fault]
                path = [each for each in arguments[:1] if isinstance(each, str | os.PathLike)]
                raise OSError(number, os.strerror(number), *map(os.fspath, path))
            if hit and self._fault == "exc":
                raise RuntimeError("a failpoint")
            self._inside.call = True
            try:
                done = real(*arguments, **named)
            finally:
                self._inside.call = False
                if hit:
                    self._end_or_wait()
            return done

        return passed

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what changes something and passed no failpoint."""
        if event not in _AUDITED or getattr(self._inside, "call", False):
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & _WRITING):
            return
        about = arguments[0]
        is_new = not isinstance(about, int) and not str(about).startswith(_NOWHERE)
        if event == "subprocess.Popen" and not _QUESTIONS.isdisjoint(map(str, arguments[1])):
            return
        if is_new and ".pyc" not in str(about) and (caller := _caller()):
            self._note(f"miss {event} {about} by {caller}")

    def _step(self, call: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> str | None:
        """The name, if it is mlspec that calls, and if that changes anything."""
        if getattr(self._inside, "call", False):
            return None
        first = arguments[0] if arguments else None
        if call == "open":
            mode = arguments[1] if len(arguments) > 1 else named.get("mode", "r")
            changes = mode & _WRITING if isinstance(mode, int) else set(mode) & set("wax+")
            if not changes or str(first).startswith(_NOWHERE) or isinstance(first, int):
                return None
        elif call == "Popen":
            command = arguments[1] if len(arguments) > 1 else named["args"]
            if Path(command[0]).name == "git" and not _QUESTIONS.isdisjoint(command):
                return None
        elif call == "write" and isinstance(first, int) and first <= 2:
            return None
        caller = _caller()
        return f"{caller}/{call}" if caller else None

    def _note(self, line: str) -> None:
        if self._log is not None:
            self._real_write(self._log, f"{line}\n".encode())

    def _end_or_wait(self) -> None:
        self._inside.call = True
        if self._fault == "pause":
            paused = Path(os.environ["CRASH_PAUSED"])
            while paused.exists():
                time.sleep(0.01)
        else:
            _end(signal.SIGKILL if self._fault == "kill" else signal.SIGTERM)


def install(wanted: str, record: str) -> None:
    """Wrap the calls in this process."""
    points = _Failpoints(wanted, record)
    for module, name in CALLS:
        setattr(module, name, points.wrap(name, getattr(module, name)))
    builtins.open = io.open
    subprocess.Popen.__init__ = points.wrap("Popen", subprocess.Popen.__init__)  # type: ignore[method-assign]
    for module_name, kind, name in PIPES:
        owner = getattr(__import__(module_name, fromlist=[kind]), kind)
        setattr(owner, name, points.wrap(name, getattr(owner, name)))
    sys.addaudithook(points.audit)


def load_passed(record: Path) -> list[str]:
    """The failpoints that were passed, in order."""
    return [*_noted(record, "pass ")]


def load_hit(record: Path) -> str:
    """The one that failed; none if it was not come to."""
    return next(_noted(record, "hit "), "")


def load_missed(record: Path) -> list[str]:
    """What changed something and passed none."""
    return [*_noted(record, "miss ")]


def _noted(record: Path, kind: str) -> Iterator[str]:
    for line in record.read_text(errors="replace").splitlines():
        if line.startswith(kind):
            yield line.removeprefix(kind)


def _end(number: int) -> None:
    """The whole process, whichever thread asks."""
    os.kill(os.getpid(), number)


def _caller() -> str:
    """The nearest function of mlspec on the stack that wants what is done."""
    frame = sys._getframe(2)
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        name = f"{module}.{frame.f_code.co_qualname}"
        if module.startswith("mlspec.") and not _MEANS.match(name):
            return name.removeprefix("mlspec.")
        frame = frame.f_back
    return ""
