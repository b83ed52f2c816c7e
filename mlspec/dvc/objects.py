"""A cache or a storage folder of DVC. Comes in: files and bytes. Goes out: objects, named by md5.

An object is written once, is read-only, and is whole before it has its name. It is on disk before
the ledger says so.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path

from mlspec.atomic import naming, sync_folder, write_out, write_together
from mlspec.dvc.hashing import DIRECTORY, md5_of_file, object_path
from mlspec.errors import MlspecError

SMALL = 2**16
"""Files up to so many bytes are read at once and written many together."""
_TOGETHER = 2**22
_PIECE = 2**20
_MODE = 0o444
_CLONE = 0x40049409
"""The request to share the blocks of another file, where the file system can (`FICLONE`)."""


class ObjectFolder:
    """The objects below `root`; small ones are written many at a time, by :meth:`flush`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._small: dict[str, bytes] = {}
        self._waiting = 0

    def path(self, md5: str) -> Path:
        """Where the object of that digest lies, or would."""
        return Path(f"{self._root}/{object_path(md5)}")

    def has(self, md5: str) -> bool:
        """Whether the object is there and whole: one that can be written to is looked into."""
        path = self.path(md5)
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):
                return False
            if stat.S_IMODE(found.st_mode) == _MODE:
                return True
            if md5_of_file(path) == md5.removesuffix(DIRECTORY):
                with contextlib.suppress(OSError):
                    path.chmod(_MODE)
                return True
            path.unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        return False

    def listing(self, md5: str) -> tuple[str, ...] | None:
        """The objects that the folder of that digest is made of; None if this is not known here."""
        if not self.has(md5):
            return None
        try:
            return tuple(str(item["md5"]) for item in json.loads(self.path(md5).read_bytes()))
        except (ValueError, TypeError, KeyError):
            return None

    def complete(self, md5: str) -> bool:
        """Whether the object is there, of a folder with all of its files."""
        if not md5.endswith(DIRECTORY):
            return self.has(md5)
        listing = self.listing(md5)
        return listing is not None and all(map(self.has, listing))

    def add_bytes(self, md5: str, data: bytes) -> None:
        """Have the object with these bytes, at the latest after :meth:`flush`."""
        path = str(self.path(md5))
        if path in self._small or self.has(md5):
            return
        self._small[path] = data
        self._waiting += len(data)
        if self._waiting > _TOGETHER:
            self.flush()

    def add_file(self, md5: str, source: Path) -> None:
        """Have the object with the bytes of a file, which must have that digest."""
        if source.stat().st_size <= SMALL:
            data = source.read_bytes()
            if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5.removesuffix(DIRECTORY):
                raise _changed(source)
            self.add_bytes(md5, data)
        elif not self.has(md5):
            self._copy(source, md5)

    def flush(self, then: Mapping[str, bytes] | None = None) -> None:
        """Write what is waiting to be written, and other files, by path, after it."""
        small, self._small, self._waiting = self._small, {}, 0
        write_together({**small, **(then or {})}, read_only=small)

    def _copy(self, source: Path, md5: str) -> None:
        target = self.path(md5)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".mlspec-{secrets.token_hex(8)}.tmp")
        try:
            with naming(target), source.open("rb") as read, temporary.open("xb") as write:
                try:
                    fcntl.ioctl(write.fileno(), _CLONE, read.fileno())
                    found = md5_of_file(temporary)
                except OSError as error:
                    if error.errno == errno.ENOSPC:
                        raise
                    digest = hashlib.md5(usedforsecurity=False)
                    while piece := read.read(_PIECE):
                        digest.update(piece)
                        write.write(piece)
                    found = digest.hexdigest()
                if found != md5.removesuffix(DIRECTORY):
                    raise _changed(source)
                os.fchmod(write.fileno(), _MODE)
                write.flush()
                ordered = write_out([write.fileno()])
            temporary.replace(target)
            if not ordered:
                sync_folder(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _changed(path: Path) -> MlspecError:
    return MlspecError(
        f"{path} changed while it was being copied",
        hint="apply again when nothing writes to it any more",
    )
