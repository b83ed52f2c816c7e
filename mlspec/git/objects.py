"""Objects of Git's database, read through one process.

Comes in: the name of an object. Goes out: its bytes, or nothing if there is none.
"""

from __future__ import annotations

import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

from mlspec.git.errors import GitError

_AT_ONCE = 500
"""Questions before the first answer is read; more than a pipe takes would block for ever."""


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
        return None if "\n" in name else self._ask([name])[0]

    def get_many(self, oids: Sequence[str]) -> Iterator[Object]:
        """The objects of these ids that are there, with few round trips."""
        for start in range(0, len(oids), _AT_ONCE):
            found = self._ask(oids[start : start + _AT_ONCE])
            yield from (each for each in found if each is not None)

    def _ask(self, names: Sequence[str]) -> list[Object | None]:
        with self._lock:
            stdin, stdout = self._pipes()
            try:
                stdin.write(b"".join(_line(name) for name in names))
                stdin.flush()
                return [_read(stdout) for _ in names]
            except (OSError, ValueError, EOFError) as error:
                self._stop()
                hint = "see what is damaged: git fsck"
                raise GitError(f"cannot read {names[0]} from Git", hint=hint) from error
            except BaseException:  # a signal: the rest must not be read as the next answer
                self._stop()
                raise

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


def _line(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape") + b"\n"


def _read(stdout: IO[bytes]) -> Object | None:
    header = stdout.readline().decode("utf-8", "surrogateescape").split()
    if header[-1:] in (["missing"], ["ambiguous"]):
        return None
    oid, kind, size = header
    data = stdout.read(int(size))
    if stdout.read(1) != b"\n":
        raise EOFError  # Git ended in the middle of a damaged object
    return Object(oid, kind, data)


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
