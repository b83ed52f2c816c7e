"""Objects of Git's database, read through one process.

Comes in: the name of an object. Goes out: its bytes, or nothing if there is none.
"""

from __future__ import annotations

import subprocess
import threading
import weakref
from collections.abc import Callable
from typing import IO, NamedTuple

from mlspec.git.errors import GitError


class Object(NamedTuple):
    """An object of Git's database; `kind` is `blob`, `tree` or `commit`."""

    oid: str
    kind: str
    data: bytes


class ObjectReader:
    """Reads objects through one `git cat-file --batch`, started by the first question."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def get(self, name: str) -> Object | None:
        """The object of that id or name; none if there is none."""
        if "\n" in name:
            return None
        with self._lock:
            stdin, stdout = self._pipes()
            try:
                stdin.write(name.encode("utf-8", "surrogateescape") + b"\n")
                stdin.flush()
                header = stdout.readline().decode("utf-8", "surrogateescape").split()
                if header[-1:] in (["missing"], ["ambiguous"]):
                    return None
                oid, kind, size = header
                data = stdout.read(int(size))
                if stdout.read(1) != b"\n":
                    raise EOFError  # Git ended in the middle of a damaged object
            except (OSError, ValueError, EOFError) as error:
                self._stop()
                hint = "see what is damaged: git fsck"
                raise GitError(f"cannot read {name} from Git", hint=hint) from error
            except BaseException:  # a signal: the rest must not be read as the next answer
                self._stop()
                raise
        return Object(oid, kind, data)

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None:
            self._process = self._start()
            self._finalizer = weakref.finalize(self, end_process, self._process)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        return stdin, stdout

    def _stop(self) -> None:
        if self._process is not None:
            self._finalizer()
            self._process = None


def close_pipes(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a process, whatever it has not read yet."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            try:
                pipe.close()
            except OSError:  # what was not yet written has no reader any more
                continue


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Let a process end that reads until there is no more."""
    close_pipes(process)
    process.wait()
