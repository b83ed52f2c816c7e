"""Objects in the one file that Git takes many from, a pack, with the index that finds them.

Comes in: objects, each with its header (`blob 3`, a zero byte, the data), by id. Goes out: a pack's
bytes, or packs in Git's database.
"""

from __future__ import annotations

import hashlib
import os
import struct
import threading
import zlib
from collections.abc import Iterable, Mapping
from itertools import accumulate
from pathlib import Path

from mlspec.atomic import naming, sync_folder, write_together
from mlspec.git.errors import GitError

_KINDS = {b"commit": 1, b"tree": 2, b"blob": 3}
_START = b"PACK" + (2).to_bytes(4, "big")
_INDEX = b"\xfftOc" + (2).to_bytes(4, "big")
_TEMPORARY = "tmp_pack_"
"""How Git's own begin: `git gc` removes what a killed process left."""
_SMALL = 50
"""Packs before they become one: Git itself minds more than that."""


def make_pack(objects: Mapping[str, bytes], object_format: str) -> bytes:
    """A pack of `objects` for a repository of that format, `sha1` or `sha256`."""
    return _pack(map(_entry, objects.values()), len(objects), object_format)


class Packs:
    """Writes packs into `folder`.

    A pack is two files however many objects it has, and there is one more for each :meth:`add`. So
    those that were written here become one after a while.
    """

    def __init__(self, folder: Path, object_format: str) -> None:
        self._folder = folder
        self._format = object_format
        self._turn = threading.RLock()
        self._small: dict[str, Mapping[bytes, bytes]] = {}
        """What is in each pack that may still become part of another one."""

    def add(self, objects: Mapping[str, bytes]) -> None:
        """Have objects in the database, on disk before any ref that is moved later.

        Raises :class:`GitError`; a pack without its index does no harm.
        """
        entries = {bytes.fromhex(oid): _entry(content) for oid, content in objects.items()}
        with self._turn:
            if entries:
                self._small[self._write(entries)] = entries
            if len(self._small) >= _SMALL:
                self.merge()

    def merge(self) -> None:
        """Make one of the packs that were written since the last time."""
        small = self._small
        self._small = {}
        if len(small) > 1:
            entries: dict[bytes, bytes] = {}
            for each in small.values():
                entries |= each
            whole = self._write(entries)
            for suffix in (".pack", ".idx"):
                _sync(f"{whole}{suffix}")
            sync_folder(Path(whole).parent)
            for path in small.keys() - {whole}:
                for suffix in (".idx", ".pack"):
                    Path(f"{path}{suffix}").unlink(missing_ok=True)

    def _write(self, entries: Mapping[bytes, bytes]) -> str:
        pack = _pack(entries.values(), len(entries), self._format)
        checksum = pack[-len(next(iter(entries))) :]
        path = f"{self._folder}/pack-{checksum.hex()}"
        index = _index(entries, checksum, self._format)
        try:
            files = {f"{path}.pack": pack, f"{path}.idx": index}
            write_together(files, read_only=files, prefix=_TEMPORARY)
        except OSError as error:
            raise GitError(
                f"cannot write {error.filename or path}: {error.strerror or error}",
                hint="mend the cause and apply again",
            ) from error
        return path


def _pack(entries: Iterable[bytes], count: int, object_format: str) -> bytes:
    pack = b"".join((_START, count.to_bytes(4, "big"), *entries))
    return pack + _digest(pack, object_format)


def _index(entries: Mapping[bytes, bytes], checksum: bytes, object_format: str) -> bytes:
    """The index (version 2): where each object begins, by id; how many ids begin so or lower."""
    starts = accumulate((len(entry) for entry in entries.values()), initial=len(_START) + 4)
    rows = sorted(zip(entries, map(zlib.crc32, entries.values()), starts, strict=False))
    counts = [0] * 256
    for oid, _, _ in rows:
        counts[oid[0]] += 1
    oids, sums, places = zip(*rows, strict=True)
    fanout = _numbers(accumulate(counts))
    index = b"".join((_INDEX, fanout, *oids, _numbers(sums), _numbers(places), checksum))
    return index + _digest(index, object_format)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with naming(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _numbers(values: Iterable[int]) -> bytes:
    numbers = tuple(values)
    return struct.pack(f">{len(numbers)}I", *numbers)


def _digest(data: bytes, object_format: str) -> bytes:
    return hashlib.new(object_format, data, usedforsecurity=False).digest()


def _entry(content: bytes) -> bytes:
    """Kind and size in groups of seven bits, the first of four, then the data."""
    header, _, data = content.partition(b"\0")
    size, byte = len(data) >> 4, _KINDS[header.split()[0]] << 4 | len(data) & 0xF
    groups = bytearray()
    while size:
        groups.append(byte | 0x80)
        size, byte = size >> 7, size & 0x7F
    groups.append(byte)
    return bytes(groups) + zlib.compress(data, 1)
