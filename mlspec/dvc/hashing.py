"""Digests as DVC computes them, without DVC. Comes in: bytes on disk. Goes out: what dvc.lock says.

A file's digest is the md5 of its bytes. A folder's is the md5 of the JSON list of its files, sorted
by relative path, with `.dir` behind it. An object's name in the cache or in storage is its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PIECE = 32768
DIRECTORY = ".dir"
"""Ends the md5 of a folder."""


@dataclass(frozen=True, slots=True)
class FileDigest:
    """What a path holds. `nfiles` is set for a folder, whose `size` is that of all its files."""

    md5: str
    size: int
    nfiles: int | None = None


def md5_of_file(path: str | Path, size: int | None = None) -> str:
    """The md5 of the bytes at `path`, read in pieces; most files are one. `size`: if known."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        first = os.read(handle, _PIECE)
        if len(first) < _PIECE and (len(first) == size or not os.read(handle, 1)):
            return md5_of_bytes(first)
        os.lseek(handle, 0, os.SEEK_SET)
        with open(handle, "rb", buffering=0, closefd=False) as file:
            return hashlib.file_digest(file, _md5).hexdigest()
    finally:
        os.close(handle)


def sha256_of_file(path: str | Path) -> str:
    """Hex sha256 of the bytes of a file: what others name it by; DVC does not."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of_dir(files: Mapping[str, str]) -> str:
    """The digest of a folder, given the md5 of each file by its path from the folder."""
    return md5_of_bytes(dir_listing(files)) + DIRECTORY


def dir_listing(files: Mapping[str, str]) -> bytes:
    """What DVC keeps of a folder: the md5 of each file by its path from the folder."""
    listing = [{"md5": md5, "relpath": path} for path, md5 in sorted(files.items())]
    return json.dumps(listing, sort_keys=True).encode()


def md5_of_bytes(data: bytes) -> str:
    """The md5 of bytes at hand."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def object_path(md5: str) -> str:
    """Where the object of that digest lies below a cache or a storage folder."""
    return f"files/md5/{md5[:2]}/{md5[2:]}"


def _md5() -> hashlib._Hash:
    return hashlib.md5(usedforsecurity=False)
