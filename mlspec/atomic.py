"""Files that are never half-written: temporary file, fsync, rename, fsync of the folder."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

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
