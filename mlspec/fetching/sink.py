"""Where bytes from elsewhere go: counted, hashed, and never more than there may be."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from mlspec.errors import MlspecError

MOST = 8 << 30
"""Bytes of a model, unless the spec says otherwise."""
STAGING = "fetching"
"""The folder, below `.mlspec`, of what is not whole yet."""
PIECE = 1 << 20
SILENCE = 2.0
"""Seconds between two lines that say how far it is."""


@dataclass(frozen=True, slots=True)
class Got:
    """What was fetched to `place`; `digest` is what the spec calls it, `size` in bytes."""

    place: Path
    digest: str
    size: int


class Budget:
    """How many bytes may still come, of all files together; tells how far it is."""

    def __init__(self, most: int, tell: Callable[[str], None]) -> None:
        self.most = most
        self._left = most
        self.tell = tell
        self._told = time.monotonic()

    def check(self, size: int) -> None:
        """Raise if so many more bytes are too many."""
        if size > self._left:
            raise MlspecError(
                f"it has more than {self.most:,} bytes, which is the most that is fetched",
                hint="look whether that is the right file; if it is, say more: `max_size: 20GiB`",
            )

    def take(self, size: int) -> None:
        self.check(size)
        self._left -= size

    def give(self, size: int) -> None:
        """What was taken counts no more: it comes once again."""
        self._left += size

    def say(self, done: int, whole: int | None) -> None:
        """Tell how far it is, now and then."""
        if time.monotonic() - self._told >= SILENCE:
            self._told = time.monotonic()
            of = f" of {whole / 1e6:,.0f}" if whole else ""
            self.tell(f"{done / 1e6:,.0f}{of} MB")


class Sink:
    """A new file. A context manager; what it holds is on disk when it ends well."""

    def __init__(self, place: Path, budget: Budget) -> None:
        self.place = place
        self.taken = 0
        self._budget = budget
        self._sha256 = hashlib.sha256()
        self._file: IO[bytes] = place.open("xb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
        finally:
            self._file.close()

    def write(self, piece: bytes, whole: int | None = None) -> None:
        """Take bytes; `whole` is how many there will be, if that is known."""
        self._budget.take(len(piece))
        self._file.write(piece)
        self._sha256.update(piece)
        self.taken += len(piece)
        self._budget.say(self.taken, whole)

    def copy(self, file: IO[bytes], whole: int | None = None) -> None:
        """Take all that there is."""
        while piece := file.read(PIECE):
            self.write(piece, whole)

    def restart(self) -> None:
        """Begin anew."""
        self._budget.give(self.taken)
        self.taken = 0
        self._sha256 = hashlib.sha256()
        self._file.seek(0)
        self._file.truncate()

    @property
    def hex(self) -> str:
        return self._sha256.hexdigest()

    @property
    def got(self) -> Got:
        """What there is so far, by the digest of its bytes."""
        return Got(self.place, f"sha256:{self.hex}", self.taken)


def copy_file(path: Path, sink: Sink, budget: Budget) -> None:
    """Have a regular file of this machine in `sink`; a pipe or a device is none."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MlspecError(f"{path}: {error.strerror}") from error
    found = os.fstat(handle)
    if not stat.S_ISREG(found.st_mode):
        os.close(handle)
        raise MlspecError(f"{path} is not a file")
    with os.fdopen(handle, "rb") as file:
        budget.check(found.st_size)
        sink.copy(file, found.st_size)
