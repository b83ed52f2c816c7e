"""Files of the spec, seen by stamp: read again only when something about them changed.

A stamp is what `lstat` says that changes when the content does. It is remembered only of an
ordinary file below ordinary folders, and only if the file was not touched shortly before it was
read, or at a time that is yet to come: then it might change once more without a trace.
"""

from __future__ import annotations

import os
import stat
import time
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from mlspec.spec.characters import MAX_BYTES
from mlspec.spec.files import read_inside

RACE = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system."""

Stamp = tuple[int, int, int, int]
"""Inode, size, and the times of the content and of the file's own data, in nanoseconds."""
UNKNOWN: Stamp = (0, 0, 0, 0)
"""Of what has to be read again."""


def hash_of(data: bytes) -> bytes:
    """16 bytes that no other content has."""
    return blake2b(data, digest_size=16).digest()


@dataclass(slots=True)
class Seen:
    """A file as it is now; `data` is none while nobody had to read it."""

    path: str
    stamp: Stamp
    hash: bytes
    data: bytes | None


class Eye:
    """Looks at files below `root`."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.base = os.path.realpath(root)
        self._handles: dict[str, int | None] = {}
        self._plain: dict[str, bool] = {}

    def stamp(self, path: str) -> Stamp:
        """The stamp of an ordinary file; of anything else one that nothing has."""
        inode, size, content, node = self.stamps((path,))
        return inode, size, content, node

    def stamps(self, paths: Iterable[str]) -> array[int]:
        """The stamps of many files, one after the other."""
        found = array("q")
        base, lstat, add = f"{self.base}/", os.lstat, found.extend
        for path in paths:
            try:
                seen = lstat(base + path)
            except (OSError, ValueError):
                add(UNKNOWN)
                continue
            if seen.st_mode & 0o170000 == stat.S_IFREG:
                add((seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns))
            else:
                add(UNKNOWN)
        return found

    def is_plain_folder(self, folder: str) -> bool:
        """Whether no link is on the way to a folder, so that its files are where they seem."""
        if folder not in self._plain:
            whole = f"{self.base}/{folder}".rstrip("/")
            self._plain[folder] = os.path.realpath(whole) == whole
        return self._plain[folder]

    def read(self, path: str) -> Seen:
        """The file; raises :class:`~mlspec.spec.files.UnreadableError` as `read_inside` does."""
        folder, _, name = path.rpartition("/")
        handle = self._folder(folder)
        if handle is not None:
            now = time.time_ns()
            try:
                return self._read_at(handle, path, name, now)
            except (OSError, ValueError):
                pass
        data = read_inside(self._root, path)
        return Seen(path, UNKNOWN, hash_of(data), data)

    def close(self) -> None:
        for handle in self._handles.values():
            if handle is not None:
                os.close(handle)
        self._handles.clear()

    def _read_at(self, folder: int, path: str, name: str, now: int) -> Seen:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        handle = os.open(name, flags, dir_fd=folder)
        try:
            found = os.fstat(handle)
            if not stat.S_ISREG(found.st_mode) or found.st_size > MAX_BYTES:
                raise OSError
            data = os.read(handle, MAX_BYTES + 1)
        finally:
            os.close(handle)
        if len(data) != found.st_size:
            raise OSError
        settled = now - max(found.st_mtime_ns, found.st_ctime_ns) > RACE
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        return Seen(path, stamp if settled else UNKNOWN, hash_of(data), data)

    def _folder(self, folder: str) -> int | None:
        """A folder, open, if no link is on the way to it."""
        if folder not in self._handles:
            if len(self._handles) > 64:
                self.close()
            self._handles[folder] = self._open(folder)
        return self._handles[folder]

    def _open(self, folder: str) -> int | None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(self.base, flags)
            for part in folder.split("/") if folder else ():
                try:
                    inner = os.open(part, flags, dir_fd=handle)
                finally:
                    os.close(handle)
                handle = inner
        except (OSError, ValueError):
            return None
        return handle
