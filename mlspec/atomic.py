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
from collections.abc import Iterable, Mapping
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
    mode: int = 0o666,
    prefix: str = ".mlspec-",
    durable: bool = True,
    written_out: bool = True,
) -> None:
    """Replace files by path, each whole or as it was; all are on disk when this returns.

    If not `durable`, only what is in them is: a crash of the system may take the files back, until
    a later write that is durable. If not even `written_out`, it may also tear them: for what can be
    told from its content, and made again. Their folders must exist; `mode` is what the umask leaves
    of it. Raises :class:`OSError`, with some files new and some old.
    """
    assert written_out or not durable
    # the one whose fsync speaks for all must have data of its own to wait for
    pending = iter(sorted(files.items(), key=lambda item: bool(item[1])))
    while some := dict(itertools.islice(pending, _OPEN_AT_ONCE)):
        _write_some(some, mode, prefix, durable, written_out)


def write_out(descriptors: Iterable[int]) -> None:
    """Have the data of open files on disk, for a later durable write to make the files so."""
    files = list(descriptors)
    if files and _has_one_journal(files[0]) and all(_order(file, _START) for file in files):
        for file in files:
            _order(file, _START | _WAIT)
    else:
        for file in files:
            os.fsync(file)


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
_ONE_JOURNAL = frozenset({0xEF53, 0x58465342, 0x01021994})
"""Of ext4, XFS, tmpfs: there an fsync makes durable whatever was written out and renamed before."""
_START, _WAIT = 2, 1 | 4
"""For `sync_file_range`: start to write the data out; wait until that is done."""


def _write_some(
    files: Mapping[str, bytes], mode: int, prefix: str, durable: bool, written_out: bool
) -> None:
    temporary: dict[str, str] = {}
    descriptors: list[int] = []
    try:
        for path, data in files.items():
            temporary[path] = f"{os.path.dirname(path)}/{prefix}{secrets.token_hex(8)}"  # noqa: PTH120
            descriptor = os.open(temporary[path], os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
            descriptors.append(descriptor)
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        if durable:
            write_out(descriptors[:-1])
            os.fsync(descriptors[-1])
        elif written_out:
            write_out(descriptors)
        for path in files:
            os.replace(temporary[path], path)  # noqa: PTH105
            del temporary[path]
        if durable:
            _sync_folders(dict.fromkeys(os.path.dirname(path) for path in reversed([*files])))  # noqa: PTH120
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        for left in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(left)  # noqa: PTH108


def _sync_folders(folders: Iterable[str]) -> None:
    """Make renames durable; the last one was in the first of `folders`."""
    for folder in folders:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
            if _has_one_journal(descriptor):
                return
        finally:
            os.close(descriptor)


def _order(descriptor: int, how: int) -> bool:
    """Ask the system to write the data of a file; false where that cannot be asked for."""
    call = getattr(_libc(), "sync_file_range", None)
    if call is None:
        return False
    import ctypes

    done: int = call(descriptor, ctypes.c_int64(0), ctypes.c_int64(0), how)
    return done == 0


def _has_one_journal(descriptor: int) -> bool:
    if sys.platform != "linux":
        return False
    import ctypes

    found = ctypes.create_string_buffer(512)
    if _libc().fstatfs(descriptor, found) != 0:
        return False
    return int.from_bytes(found.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder) in _ONE_JOURNAL


@cache
def _libc() -> Any:
    import ctypes  # not at the top: planning does without

    return ctypes.CDLL(None)
