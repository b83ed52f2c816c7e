"""Objects in the one file that Git takes many from.

Comes in: objects, each with its header (`blob 3`, a zero byte, the data). Goes out: a pack's bytes.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Collection

_KINDS = {b"commit": 1, b"tree": 2, b"blob": 3}


def make_pack(objects: Collection[bytes], object_format: str) -> bytes:
    """A pack of `objects` for a repository of that format, `sha1` or `sha256`."""
    entries = b"".join(map(_entry, objects))
    pack = b"PACK" + (2).to_bytes(4, "big") + len(objects).to_bytes(4, "big") + entries
    return pack + hashlib.new(object_format, pack, usedforsecurity=False).digest()


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
