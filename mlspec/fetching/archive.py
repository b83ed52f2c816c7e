"""One file out of an archive whose digest was the right one.

Nothing else is unpacked, and nothing goes where the archive says: no path, no link and no mode of
it counts.
"""

from __future__ import annotations

import resource
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import IO

from mlspec.errors import MlspecError
from mlspec.fetching.sink import Budget, Got, Sink

MOST_MEMORY = 2 << 30
"""Bytes that reading an archive may take: its lists come from others, too."""
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, LZMAError, EOFError),
    *(NotImplementedError, RuntimeError, ValueError, MemoryError, OverflowError),
)


def unpack(got: Got, kind: str, path: str, place: Path, budget: Budget) -> Got:
    """Have the file `path` of an archive (zip, tar) at `place`; the digest stays the archive's."""
    with _little_memory(), Sink(place, budget) as sink:
        try:
            with _member(got.place, kind, path, budget) as member:
                sink.copy(member)
        except MlspecError:
            raise
        except (*_DAMAGED, OSError) as error:
            if getattr(error, "errno", None) is not None:  # of the disk, and not of the archive
                raise
            why = str(error) or type(error).__name__
            raise MlspecError(f"it cannot be read as an archive ({kind}): {why}") from error
    return Got(place, got.digest, sink.taken)


def _member(
    archive: Path, kind: str, path: str, budget: Budget
) -> AbstractContextManager[IO[bytes]]:
    return _zipped(archive, path, budget) if kind == "zip" else _tarred(archive, path, budget)


@contextmanager
def _zipped(archive: Path, path: str, budget: Budget) -> Iterator[IO[bytes]]:
    with zipfile.ZipFile(archive) as opened:
        found = [each for each in opened.infolist() if each.filename == path]
        if len(found) != 1:
            raise _missing(path, len(found), [each.filename for each in opened.infolist()])
        (info,) = found
        if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
            raise MlspecError(f"{path} is not a file in the archive")
        if info.flag_bits & 1:
            raise MlspecError(f"{path} is encrypted in the archive")
        budget.check(info.file_size)
        with opened.open(info) as member:
            yield member


@contextmanager
def _tarred(archive: Path, path: str, budget: Budget) -> Iterator[IO[bytes]]:
    with tarfile.open(archive) as opened:
        names = []
        for info in opened:
            names.append(info.name)
            budget.check(info.offset)  # what comes before it is read, too
            if info.name.removeprefix("./") != path:
                continue
            if not info.isreg():
                raise MlspecError(f"{path} is not a file in the archive, but a link or a folder")
            budget.check(info.size)
            member = opened.extractfile(info)
            assert member is not None
            with member:
                yield member
            return
        raise _missing(path, 0, names)


def _missing(path: str, count: int, names: list[str]) -> MlspecError:
    if count:
        return MlspecError(f"the archive has {path} {count} times: nobody can say which is meant")
    ends = path.rpartition("/")[2]
    near = next((name for name in names if name.rpartition("/")[2] == ends), "")
    listed = ", ".join(names[:5])
    hint = f"did you mean `{near}`?" if near else f"it has {listed}" if names else "it is empty"
    return MlspecError(f"the archive has no {path}", hint=hint)


@contextmanager
def _little_memory() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = MOST_MEMORY if hard == resource.RLIM_INFINITY else min(MOST_MEMORY, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
