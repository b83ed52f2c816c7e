"""Objects of Git's database, read through one process.

Comes in: the name of an object. Goes out: its bytes, or nothing if there is none.
"""

from __future__ import annotations

import secrets
import subprocess
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import IO, NamedTuple

from mlspec.git.errors import GitError

_AT_ONCE = 500
"""Questions before the first answer is read; more than a pipe takes would block for ever."""
_PIECE = 1 << 20
"""Bytes that are read at once."""


class Object(NamedTuple):
    """An object of Git's database; `kind` is `blob`, `tree` or `commit`."""

    oid: str
    kind: str
    data: bytes


class ObjectReader:
    """Reads objects through one `git cat-file`, started by the first question.

    `start` starts it with the arguments that it is given. Git before 2.36 cannot be told when to
    send what it has gathered, so it writes each answer in three pieces, which takes twice as long.

    The last question of each round is for an object that nobody has: its answer ends the round.
    Without it, the header of a damaged object, which promises more than there is, would have us
    wait for ever.
    """

    def __init__(self, start: Callable[..., subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._gathers = True
        self._nobodys = secrets.token_hex(20)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def get(self, name: str) -> Object | None:
        """The object of that id or name; none if there is none."""
        return None if "\n" in name or not name else self._ask([name])[0]

    def get_many(self, oids: Sequence[str]) -> Iterator[Object]:
        """The objects of these ids that are there, with few round trips."""
        for start in range(0, len(oids), _AT_ONCE):
            found = self._ask(oids[start : start + _AT_ONCE])
            yield from (each for each in found if each is not None)

    def _ask(self, names: Sequence[str]) -> list[Object | None]:
        with self._lock:
            try:
                return self._answers(names)
            except (OSError, ValueError, EOFError, MemoryError) as error:
                self._stop()
                hint = "see what is damaged: git fsck"
                raise GitError(f"cannot read {names[0]} from Git", hint=hint) from error
            except BaseException:  # a signal: the rest must not be read as the next answer
                self._stop()
                raise

    def _answers(self, names: Sequence[str]) -> list[Object | None]:
        is_new = self._process is None
        stdin, stdout = self._pipes()
        verb = b"contents " if self._gathers else b""
        asked = (*names, self._nobodys)
        lines = [verb + name.encode("utf-8", "surrogateescape") + b"\n" for name in asked]
        try:
            stdin.write(b"".join([*lines, b"flush\n"] if self._gathers else lines))
            stdin.flush()
            header = stdout.readline()
        except BrokenPipeError:
            header = b""
        if not header and is_new and self._gathers:
            self._stop()
            self._gathers = False
            return self._answers(names)
        end = f"{self._nobodys} missing\n".encode()
        found = [_read(header, stdout, end)]
        found += (_read(stdout.readline(), stdout, end) for _ in names[1:])
        if stdout.readline() != end:
            raise EOFError
        return found

    def close(self) -> None:
        with self._lock:
            self._stop()

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None:
            options = ("--batch-command", "--buffer") if self._gathers else ("--batch",)
            self._process = self._start("cat-file", *options)
            self._finalizer = weakref.finalize(self, end_process, self._process)
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        return stdin, stdout

    def _stop(self) -> None:
        if self._process is not None:
            self._finalizer()
            self._process = None


def _read(first: bytes, stdout: IO[bytes], end: bytes) -> Object | None:
    """The object whose header is the line `first`; raises `EOFError` if it is not whole."""
    header = first.decode("utf-8", "surrogateescape").split()
    if header[-1:] in (["missing"], ["ambiguous"]):
        return None
    oid, kind, size = header
    data = _read_data(stdout, int(size), end)
    if stdout.read(1) != b"\n":
        raise EOFError
    return Object(oid, kind, data)


def _read_data(stdout: IO[bytes], size: int, end: bytes) -> bytes:
    """So many bytes, unless the `end` of the round comes before."""
    data = bytearray()
    while len(data) < size:
        piece = stdout.read1(min(size - len(data), _PIECE))  # type: ignore[attr-defined]
        data += piece
        if not piece or (len(data) < size and data.endswith(end)):
            raise EOFError
    return bytes(data)


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
