"""Files that are never half-written: temporary file, fsync, rename, fsync of the folder.

:func:`write_atomic` is for one file, :func:`write_together` for many at little more than the price
of one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import sys
import tempfile
from collections.abc import Container, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from mlspec.errors import MlspecError

OWN = ".mlspec"
"""The folder of what mlspec keeps in a checkout: cache, logs, what runs, the default storage."""


def write_atomic(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace `path` by `text` (UTF-8), or leave it as it was.

    Raises :class:`MlspecError` naming the path when the file system refuses.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mlspec-", suffix=".tmp")
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise MlspecError(
            f"cannot write {path}: {error.strerror or error}",
            hint="mend the cause and run the command again; the file is as it was before",
        ) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def write_together(
    files: Mapping[str, bytes],
    *,
    read_only: Container[str] = (),
    prefix: str = ".mlspec-",
    written_out: bool = True,
) -> None:
    """Replace files by path, each whole or as it was.

    All are on disk before anything is that is made durable later: with a journal that keeps the
    order, this needs no fsync. Those in `read_only` nobody may write to; else the umask says who.
    Raises :class:`OSError`, with some files new and some old. If not `written_out`, a crash of the
    system may tear them: for what is compared with what it should be, and made again.
    """
    pending = iter(files.items())
    while some := dict(itertools.islice(pending, _OPEN_AT_ONCE)):
        _write_some(some, read_only, prefix, written_out)


def write_out(descriptors: Iterable[int]) -> bool:
    """Have the data of open files on disk; whether their names then follow in the order given."""
    files = list(descriptors)
    ordered = bool(files) and _keeps_order(files[0])
    if ordered and all(_order(file, _START) for file in files):
        for file in files:
            _order(file, _START | _WAIT)
        return True
    for file in files:
        os.fsync(file)
    return False


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """An error of the block that tells no file, as of a write or an fsync, tells this one."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = os.fspath(path)
        raise


def make_own_folder(root: Path, *parts: str) -> Path:
    """A folder below `.mlspec`, which Git does not see: its own `.gitignore` says so."""
    own = root / OWN
    ignore = own / ".gitignore"
    if not ignore.exists() or not ignore.stat().st_size:  # empty: the disk was full
        own.mkdir(parents=True, exist_ok=True)
        ignore.write_text("*\n", encoding="utf-8")
    folder = own.joinpath(*parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sync_folder(folder: Path) -> None:
    """Make renames in `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_OPEN_AT_ONCE = 256
_JOURNALED = frozenset({0xEF53, 0x58465342, 0x01021994})
"""File systems on which a name is never durable before what was written out and named earlier:
ext4 and XFS; and tmpfs, on which nothing is durable."""
_NEW = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
_START, _WAIT = 2, 1 | 4
"""For `sync_file_range`: start to write the data out; wait until that is done."""


def _write_some(
    files: Mapping[str, bytes], read_only: Container[str], prefix: str, written_out: bool
) -> None:
    temporary: dict[str, str] = {}
    descriptors: list[int] = []
    folders: set[str] = set()
    unique = f"{prefix}{secrets.token_hex(8)}"
    try:
        for number, (path, data) in enumerate(files.items()):
            folder = path.rpartition("/")[0] or (os.sep if path.startswith(os.sep) else os.curdir)
            temporary[path] = f"{folder}/{unique}{number}"
            mode = 0o444 if path in read_only else 0o666
            try:
                descriptor = os.open(temporary[path], _NEW, mode)
            except FileNotFoundError:
                folders.update(_make_folders(folder))
                descriptor = os.open(temporary[path], _NEW, mode)
            folders.add(folder)
            descriptors.append(descriptor)
            with naming(path):
                written = os.write(descriptor, data)
                while written < len(data):
                    written += os.write(descriptor, memoryview(data)[written:])
        with naming(next(iter(files))):  # which of them it was, the system does not tell
            ordered = not written_out or write_out(descriptors)
        for path in files:
            os.replace(temporary[path], path)  # noqa: PTH105
            del temporary[path]
        if not ordered:
            for folder in folders:
                sync_folder(Path(folder))
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        for left in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(left)  # noqa: PTH108


def _make_folders(folder: str) -> list[str]:
    """Have a folder; answers those that have a new one in them."""
    missing = []
    while not os.path.isdir(folder):  # noqa: PTH112
        missing.append(folder)
        folder = os.path.dirname(folder) or os.curdir  # noqa: PTH120
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)  # noqa: PTH102
    return [os.path.dirname(folder) or os.curdir for folder in missing]  # noqa: PTH120


def _order(descriptor: int, how: int) -> bool:
    """Ask the system to write the data of a file; false where that cannot be asked for."""
    call = getattr(_libc(), "sync_file_range", None)
    if call is None:
        return False
    import ctypes

    done: int = call(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), how)
    return done == 0


def _keeps_order(descriptor: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    found = ctypes.create_string_buffer(512)
    if _libc().fstatfs(descriptor, found) != 0:
        return False
    return int.from_bytes(found.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) in _JOURNALED


@cache
def _libc() -> Any:
    import ctypes  # not at the top: planning does without

    return ctypes.CDLL(None)
