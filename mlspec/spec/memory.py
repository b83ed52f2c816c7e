"""What is remembered of a spec between runs: its files, and what each model came to.

Comes in and goes out: a :class:`~mlspec.cache.Cache`. Whatever it holds may be gone, old, foreign
or damaged; then nothing is remembered, and all is found out anew. A row of a model is believed only
if it is of the source that is asked for.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property

import pydantic

from mlspec import __version__
from mlspec.cache import Cache
from mlspec.spec.stamps import UNKNOWN, Stamp

FORMAT = f"3 {__version__} {pydantic.VERSION}"
"""Changes when the same text may come to something else."""
HASH = 16
"""Bytes of a source, and of the hash of a file."""
_SNAPSHOT, _MODELS, _FACES, _FLOWS = "spec", "spec.models", "spec.faces", "spec.flows"
_INTS = 4
DIGEST = "sha256:"


@dataclass(slots=True)
class Head:
    """What was said beside the models, and what it came to."""

    include: list[str]
    text: str
    """All sections but `models`, with defaults merged, as JSON."""
    defaults: str
    """What each model has unless it says otherwise, as JSON."""
    head_digest: str
    digest: str
    flows: str
    """Names what flows between the models."""


@dataclass
class Snapshot:
    """A spec that was found to be right: the files, then the models, each in order.

    `kinds`: of each file, one of the letters below. `counts`: how many models it declares.
    """

    head: Head
    paths: list[str]
    stamps: array[int]
    hashes: bytes
    kinds: bytes
    counts: array[int]
    names: list[str]
    sources: bytes
    digests: bytes

    def encode(self) -> bytes:
        parts = [
            "\0".join(self.paths).encode("utf-8", "surrogateescape"),
            self.stamps.tobytes(),
            self.hashes,
            self.kinds,
            self.counts.tobytes(),
            "\0".join(self.names).encode(),
            self.sources,
            self.digests,
        ]
        header = {"format": FORMAT, "head": asdict(self.head), "sizes": list(map(len, parts))}
        return b"".join((json.dumps(header).encode(), b"\n", *parts))

    @classmethod
    def decode(cls, data: bytes) -> Snapshot | None:
        """The snapshot of :meth:`encode`, or none of anything else."""
        try:
            end = data.index(b"\n")
            header = json.loads(data[:end])
            if header["format"] != FORMAT:
                return None
            parts, at = [], end + 1
            for size in header["sizes"]:
                parts.append(data[at : at + size])
                at += size
            paths, stamps, hashes, kinds, counts, names, sources, digests = parts
            found = cls(
                Head(**header["head"]),
                paths.decode("utf-8", "surrogateescape").split("\0"),
                array("q", stamps),
                hashes,
                kinds,
                array("q", counts),
                names.decode().split("\0") if names else [],
                sources,
                digests,
            )
        except (ValueError, KeyError, TypeError):
            return None
        return found if found._fits() else None

    def _fits(self) -> bool:
        files, models = len(self.paths), len(self.names)
        return (
            len(self.stamps) == files * _INTS
            and len(self.hashes) == files * HASH
            and len(self.kinds) == len(self.counts) == files
            and sum(self.counts) == len(self.sources) // HASH == len(self.digests) // 32 == models
        )

    @cached_property
    def file_index(self) -> dict[str, int]:
        return {path: index for index, path in enumerate(self.paths)}

    def differing(self, stamps: array[int]) -> list[int]:
        """The files that have other stamps now, or none that is remembered."""
        if stamps == self.stamps and not self.unknown:
            return []
        now, old = (zip(*[iter(each)] * _INTS, strict=True) for each in (stamps, self.stamps))
        return [
            index
            for index, (one, other) in enumerate(zip(now, old, strict=True))
            if one != other or other == UNKNOWN
        ]

    @property
    def unknown(self) -> bool:
        """Whether the stamp of some file is not remembered; no file has the size and inode 0."""
        return 0 in self.stamps[::_INTS]

    @cached_property
    def model_index(self) -> dict[str, int]:
        return {name: index for index, name in enumerate(self.names)}

    @cached_property
    def starts(self) -> list[int]:
        """Of each file, the position of its first model."""
        starts, at = [], 0
        for count in self.counts:
            starts.append(at)
            at += count
        return starts

    def stamp(self, index: int) -> Stamp:
        first, second, third, fourth = self.stamps[index * _INTS : (index + 1) * _INTS]
        return first, second, third, fourth

    def hash(self, index: int) -> bytes:
        return self.hashes[index * HASH : (index + 1) * HASH]

    def source(self, index: int) -> bytes:
        return self.sources[index * HASH : (index + 1) * HASH]

    def raw_digest(self, index: int) -> bytes:
        return self.digests[index * 32 : (index + 1) * 32]


class Memory:
    """Remembers in `cache`; without one, nothing."""

    def __init__(self, cache: Cache | None) -> None:
        self._cache = cache

    @cached_property
    def snapshot(self) -> Snapshot | None:
        data = self._cache.get(_SNAPSHOT, "snapshot") if self._cache else None
        return Snapshot.decode(data) if data is not None else None

    def content(self, name: str, source: bytes) -> bytes | None:
        """The JSON of a model."""
        return self._row(_MODELS, name, source)

    def face(self, name: str, source: bytes) -> bytes | None:
        """The face of a model, as JSON."""
        return self._row(_FACES, name, source)

    def faces(self) -> dict[str, bytes]:
        """The rows of all faces, each after its source."""
        return dict(self._cache.items(_FACES)) if self._cache else {}

    def flows(self, digest: str) -> bytes | None:
        """What flows between the models."""
        data = self._cache.get(_FLOWS, "all") if self._cache else None
        named = f"{digest} ".encode()
        return data.removeprefix(named) if data is not None and data.startswith(named) else None

    def remember_flows(self, digest: str, flows: bytes) -> None:
        if self._cache is not None:
            self._cache.put(_FLOWS, "all", f"{digest} ".encode() + flows)

    def remember(
        self,
        snapshot: Snapshot,
        models: Iterable[tuple[str, bytes, bytes, bytes]],
        gone: Iterable[str],
    ) -> None:
        """Keep a snapshot; `models` that are new have a name, a source, a content and a face."""
        if self._cache is None:
            return
        self._cache.put(_SNAPSHOT, "snapshot", snapshot.encode())
        for name, source, content, face in models:
            self._cache.put(_MODELS, name, source + content)
            self._cache.put(_FACES, name, source + face)
        lost = list(gone)
        if lost:
            self._cache.delete(_MODELS, lost)
            self._cache.delete(_FACES, lost)

    def _row(self, table: str, name: str, source: bytes) -> bytes | None:
        data = self._cache.get(table, name) if self._cache else None
        return data[HASH:] if data is not None and data[:HASH] == source else None
