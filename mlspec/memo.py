"""What was found to need nothing, so that the next plan looks only at what changed since.

A model is settled when no step is planned for it. What that was found from is kept: the digest of
its spec, its folder in the ledger, the datasets and deployments that it has to do with, and the
stamp of every path that was looked at. While all of these are the same, looking again would find
the same. Models are kept by the shards of the ledger, so one that changed rewrites kilobytes.

Comes in: what models are made of now (:class:`Surroundings`). Goes out: which must be looked at,
and what a plan has to know of the others. It is a cache: without it, everything is looked at.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from typing import Any

from mlspec.cache import Cache
from mlspec.fingerprint import digest_of
from mlspec.ledger.paths import shard_of
from mlspec.plan import Held
from mlspec.planner import Settled
from mlspec.worktree import STAMP_BYTES, Stamps, Worktree

TABLE = "settled"
FED = "fed"
"""Of each shard, the flows in which its models' inputs were last found to come from where they do.

To find that out again takes all of them, so it is not done while they are the same."""
_LENGTHS = struct.Struct("<3I")

Part = Mapping[str, Any]
"""What is kept of one model: `spec`, `ledger`, `datasets`, `paths` (their places in the row's list
of them), `inputs`, whether it is `settled`, and if so `resources`, `held` and `version`."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What models are made of beside files.

    `flows`: a name for what flows between models. `around`: a digest of what all have in common.
    `models`: the digest of each one's spec. `shards`: the id of each folder of models in the
    ledger, whose models `folders` gives with theirs. `datasets`: by name, whatever tells one from
    another. `deployments`: likewise, by model. `producer`: the address of what a path comes from;
    none of a file that people write.
    """

    flows: str
    around: str
    models: Mapping[str, str]
    shards: Mapping[str, str]
    folders: Callable[[str], Mapping[str, str]]
    datasets: Mapping[str, str]
    deployments: Mapping[str, str]
    producer: Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Seen:
    """A model that was looked at, at `paths`, and none of whose files needs to be written.

    `inputs` are the paths that it takes from other models or from people, and their producers. If
    it is `settled` nothing else is needed either; the rest is what a plan says of it then.
    """

    name: str
    paths: Set[str]
    datasets: tuple[str, ...]
    inputs: Mapping[str, str]
    settled: bool
    resources: int
    held: tuple[Held, ...]
    version: int | None


@dataclass(frozen=True, slots=True)
class _Row:
    """A shard as it is kept: a header for all its models, the part of each, paths and stamps."""

    header: Mapping[str, Any]
    index: bytes
    paths: list[str]
    stamps: bytes

    def parts(self) -> dict[str, Part]:
        found: dict[str, Part] = json.loads(self.index)
        return found

    def stamp(self, place: int) -> bytes:
        return self.stamps[place * STAMP_BYTES : (place + 1) * STAMP_BYTES]

    def stamped(self, part: Part) -> Iterator[tuple[str, bytes]]:
        return ((self.paths[place], self.stamp(place)) for place in part["paths"])


class Memo:
    """The settled models of the repository at the root of `worktree`."""

    def __init__(self, cache: Cache, worktree: Worktree) -> None:
        self._cache = cache
        self._worktree = worktree
        self._rows: dict[str, _Row] = {}
        self._names: dict[str, list[str]] = {}
        self._still: dict[str, dict[str, Part]] = {}
        """Of the shards in which anything changed, the parts that hold."""
        self._fed: dict[str, bytes] = {}

    @property
    def changed(self) -> Set[str]:
        """The shards in which anything is not as it is kept."""
        return self._still.keys()

    def compare(self, now: Surroundings, *, files_only: bool = False) -> set[str]:
        """The models that must be looked at, to plan or only to write their files."""
        stamps = Stamps(str(self._worktree.root))
        for name in now.models:
            self._names.setdefault(shard_of(name), []).append(name)
        for shard, value in self._cache.items(TABLE):
            self._rows[shard] = _unpack(value)
        self._fed = dict(self._cache.items(FED))
        live: set[str] = set()
        for shard in {*self._names, *self._rows, *now.shards}:
            names, row = self._names.get(shard, []), self._rows.get(shard)
            seen = stamps.read(row.paths) if row is not None else b""
            if row and seen == row.stamps and self._holds(row, shard, names, now):
                live.update(row.header["unknown" if files_only else "live"])
                continue
            parts = _parts_that_hold(row, seen, shard, names, now) if row else {}
            self._still[shard] = parts
            live.update(set(names).difference(parts) if files_only else _live(names, parts))
        return live

    def _holds(self, row: _Row, shard: str, names: list[str], now: Surroundings) -> bool:
        """Whether all but the stamps of a row is as it was."""
        if not _is_same(row.header, shard, names, now):
            return False
        inputs = row.header["inputs"]
        if not inputs:
            return True
        state = _fed_state(row, now)
        if self._fed.get(shard) != state:
            if not _come_from(inputs, now):
                return False
            self._cache.put(FED, shard, state)
        return True

    def found_from(self, paths: Set[str]) -> set[str]:
        """The models that were found to be as they are by looking at any of these paths."""
        found: set[str] = set()
        for shard, row in self._rows.items():
            places = {place for place, path in enumerate(row.paths) if path in paths}
            if places:
                parts = self._parts(shard).items()
                found |= {name for name, part in parts if not places.isdisjoint(part["paths"])}
        return found

    def settled(self, live: Set[str]) -> Settled:
        """What a plan has to know of all models but those that are looked at."""
        looked_at: dict[str, set[str]] = {}
        for name in live:
            looked_at.setdefault(shard_of(name), set()).add(name)
        sums = [
            self._sum(shard, looked_at.get(shard, set())) for shard in {*self._rows, *self._still}
        ]
        return Settled(
            resources=sum(each["resources"] for each in sums),
            held=tuple(Held(*held) for each in sums for held in each["held"]),
            versions={name: v for each in sums for name, v in each["versions"].items()},
        )

    def keep(
        self,
        seen: Iterable[Seen],
        live: Set[str],
        now: Surroundings,
        *,
        departing: Iterable[str] = (),
        moment: int,
    ) -> None:
        """Remember what was seen, from readings that began at `moment` (nanoseconds since 1970).

        Of `live`, what is not among `seen` will be looked at again, and so will the shards of the
        models that are `departing`: they left the spec, and that is not done yet.
        """
        new: dict[str, list[Seen]] = {}
        for each in seen:
            new.setdefault(shard_of(each.name), []).append(each)
        leaving = {shard_of(name) for name in departing}
        for shard in {*self._still, *new}:
            names = self._names.get(shard)
            if not names:
                self._cache.delete(TABLE, [shard])
                continue
            draft = _Draft()
            before = self._rows.get(shard)
            if before is not None:
                for name, part in self._parts(shard).items():
                    if name not in live:
                        draft.add(name, part, before.stamped(part))
            folders = now.folders(shard)
            for each in new.get(shard, ()):
                self._add(draft, each, now.models[each.name], folders.get(each.name, ""), moment)
            row = draft.row(shard, names, now, whole=shard not in leaving)
            if row != before:
                self._cache.put(TABLE, shard, _pack(row))
            if row.header["inputs"]:
                self._cache.put(FED, shard, _fed_state(row, now))

    def _add(self, draft: _Draft, each: Seen, spec: str, folder: str, moment: int) -> None:
        paths = sorted(each.paths)
        stamps = self._worktree.stamps(paths, moment)
        if stamps is None:
            return
        part = {
            "spec": spec,
            "ledger": folder,
            "datasets": list(each.datasets),
            "inputs": dict(each.inputs),
            "settled": each.settled,
            "resources": each.resources,
            "held": [[held.address, held.reason] for held in each.held],
            "version": each.version,
        }
        draft.add(each.name, part, list(zip(paths, _split(stamps), strict=True)))

    def _parts(self, shard: str) -> Mapping[str, Part]:
        if shard in self._still:
            return self._still[shard]
        return self._rows[shard].parts() if shard in self._rows else {}

    def _sum(self, shard: str, looked_at: Set[str]) -> Mapping[str, Any]:
        row = self._rows.get(shard)
        if row is not None and shard not in self._still and looked_at <= set(row.header["live"]):
            return row.header
        parts = self._parts(shard)
        return _sum({name: part for name, part in parts.items() if name not in looked_at})


class _Draft:
    """A row in the making."""

    def __init__(self) -> None:
        self._parts: dict[str, Part] = {}
        self._places: dict[str, int] = {}
        self._stamps: list[bytes] = []

    def add(self, name: str, part: Part, stamped: Iterable[tuple[str, bytes]]) -> None:
        """Add a model, unless it saw another stamp at a path than one before it."""
        places = []
        for path, stamp in stamped:
            place = self._places.setdefault(path, len(self._stamps))
            if place == len(self._stamps):
                self._stamps.append(stamp)
            elif self._stamps[place] != stamp:
                return
            places.append(place)
        self._parts[name] = {**part, "paths": places}

    def row(self, shard: str, names: list[str], now: Surroundings, *, whole: bool) -> _Row:
        """The row; if it is not `whole`, the shard will be a changed one in the next run too."""
        datasets = {dataset for part in self._parts.values() for dataset in part["datasets"]}
        parts = self._parts.values()
        inputs = {path: producer for part in parts for path, producer in part["inputs"].items()}
        header = {
            "around": now.around,
            "spec": _spec_of(names, now),
            "ledger": now.shards.get(shard, "") if whole else "?",
            "datasets": {name: now.datasets.get(name) for name in sorted(datasets)},
            "inputs": inputs,
            "fed": digest_of(inputs),
            "deployments": _deployed(names, now),
            "live": _live(names, self._parts),
            "unknown": sorted(set(names).difference(self._parts)),
            **_sum(self._parts),
        }
        index = json.dumps(dict(sorted(self._parts.items()))).encode()
        return _Row(header, index, list(self._places), b"".join(self._stamps))


def _is_same(header: Mapping[str, Any], shard: str, names: list[str], now: Surroundings) -> bool:
    return (
        header["around"] == now.around
        and header["ledger"] == now.shards.get(shard, "")
        and header["spec"] == _spec_of(names, now)
        and all(now.datasets.get(name) == was for name, was in header["datasets"].items())
        and header["deployments"] == _deployed(names, now)
    )


def _parts_that_hold(
    row: _Row, seen: bytes, shard: str, names: list[str], now: Surroundings
) -> dict[str, Part]:
    header = row.header
    if header["around"] != now.around:
        return {}
    moved = {i for i, stamp in enumerate(_split(seen)) if stamp != row.stamp(i)}
    moved_data = {n for n, was in header["datasets"].items() if now.datasets.get(n) != was}
    folders, parts, deployed = now.folders(shard), row.parts(), header["deployments"]
    return {
        name: part
        for name in names
        if (part := parts.get(name)) is not None
        and part["spec"] == now.models[name]
        and part["ledger"] == folders.get(name, "")
        and deployed.get(name) == now.deployments.get(name)
        and moved_data.isdisjoint(part["datasets"])
        and moved.isdisjoint(part["paths"])
        and _come_from(part["inputs"], now)
    }


def _come_from(inputs: Mapping[str, str], now: Surroundings) -> bool:
    return all(now.producer(path) == producer for path, producer in inputs.items())


def _fed_state(row: _Row, now: Surroundings) -> bytes:
    return f"{now.flows} {row.header['fed']}".encode()


def _live(names: Iterable[str], parts: Mapping[str, Part]) -> list[str]:
    return sorted(name for name in names if name not in parts or not parts[name]["settled"])


def _sum(every: Mapping[str, Part]) -> dict[str, Any]:
    parts = {name: part for name, part in every.items() if part["settled"]}
    return {
        "resources": sum(part["resources"] for part in parts.values()),
        "held": [held for _, part in sorted(parts.items()) for held in part["held"]],
        "versions": {n: p["version"] for n, p in sorted(parts.items()) if p["version"] is not None},
    }


def _spec_of(names: Iterable[str], now: Surroundings) -> str:
    return digest_of([[name, now.models[name]] for name in sorted(names)])


def _deployed(names: Iterable[str], now: Surroundings) -> dict[str, str]:
    return {name: now.deployments[name] for name in sorted(names) if name in now.deployments}


def _split(stamps: bytes) -> Iterator[bytes]:
    return (stamps[at : at + STAMP_BYTES] for at in range(0, len(stamps), STAMP_BYTES))


def _pack(row: _Row) -> bytes:
    header = json.dumps(row.header).encode()
    paths = "\0".join(row.paths).encode("utf-8", "surrogateescape")
    lengths = _LENGTHS.pack(len(header), len(row.index), len(paths))
    return b"".join((lengths, header, row.index, paths, row.stamps))


def _unpack(value: bytes) -> _Row:
    header, index, paths = _LENGTHS.unpack_from(value)
    at = _LENGTHS.size
    parts = value[at : at + header], value[at + header : at + header + index]
    at += header + index
    names = value[at : at + paths].decode("utf-8", "surrogateescape")
    return _Row(
        json.loads(parts[0]), parts[1], names.split("\0") if names else [], value[at + paths :]
    )
