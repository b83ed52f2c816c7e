"""What `mlspec gc` knows of a repository: plain data, from which it plans.

Comes in: what :mod:`mlspec.collection.reading` found. Goes out: :class:`Known`. What is kept of it
says :mod:`mlspec.planner.keeping`, what goes :mod:`mlspec.planner.garbage`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

STORAGE = "storage"
FOLDER = ".dir"
"""How the md5 of a folder ends."""


class RunKey(NamedTuple):
    """A run by what the ledger calls it."""

    model: str
    stage: str
    fingerprint: str


class VersionKey(NamedTuple):
    """A version of a model."""

    model: str
    number: int


@dataclass(frozen=True, slots=True)
class RunFact:
    """A run of the ledger: md5s that it wrote and read; `recent` if its record is.

    `commit` is what it was made from; none if there were changes that were not committed.
    """

    key: RunKey
    wrote: frozenset[str]
    read: frozenset[str] = frozenset()
    commit: str = ""
    recent: bool = False
    freed: bool = False


@dataclass(frozen=True, slots=True)
class VersionFact:
    """A version of the ledger. `good` if its gates hold and the spec does not quarantine it."""

    key: VersionKey
    runs: frozenset[RunKey] = frozenset()
    artifact: str = ""
    commit: str = ""
    good: bool = True
    recent: bool = False
    freed: bool = False


@dataclass(frozen=True, slots=True)
class Pin:
    """A spec somewhere pins a version; without `model` of any model, without `number` any."""

    model: str
    number: int | None
    where: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where objects lie: `cache` or `storage`, where that is, and the bytes of each by md5.

    `closed` is why nothing may go from there.
    """

    name: str
    where: str
    sizes: Mapping[str, int]
    closed: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseFact:
    """A built service below `.mlspec/releases`."""

    path: str
    digest: str
    version: VersionKey
    size: int
    in_use: bool = False
    recent: bool = False


@dataclass(frozen=True, slots=True)
class LogFact:
    """The logs of one apply."""

    path: str
    size: int
    recent: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """All that a plan is made of.

    `heads` are the runs that the ledger has as the last of their stages, `wanted` those that the
    spec stands for. `served` has versions by the address that serves them. `named` has the md5s
    that a branch, a tag, a stash or a worktree names, with which of them; `tips` their commits.
    `made` and `data` are outputs and data that any commit ever named. `mentioned` is all that any
    named. `lists` has what folders are made of. `left` was planned before and not carried out.
    """

    runs: tuple[RunFact, ...] = ()
    versions: tuple[VersionFact, ...] = ()
    heads: frozenset[RunKey] = frozenset()
    wanted: frozenset[RunKey] = frozenset()
    served: Mapping[str, VersionKey] = field(default_factory=dict)
    serving: frozenset[str] = frozenset()
    """The digests of the releases that serve."""
    pins: tuple[Pin, ...] = ()
    retired: frozenset[str] = frozenset()
    tips: Mapping[str, str] = field(default_factory=dict)
    named: Mapping[str, str] = field(default_factory=dict)
    made: frozenset[str] = frozenset()
    data: frozenset[str] = frozenset()
    mentioned: frozenset[str] = frozenset()
    lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    left: frozenset[str] = frozenset()
    places: tuple[Place, ...] = ()
    releases: tuple[ReleaseFact, ...] = ()
    logs: tuple[LogFact, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """What the user asks for: how many versions of each model, whether data and shared storage."""

    keep_days: int
    keep_versions: int
    data: bool = False
    shared: bool = False


def address_of(key: RunKey) -> str:
    """A run for people and machines: its stage and the start of its fingerprint."""
    return f"stage.{key.model}.{key.stage}#{key.fingerprint[:12]}"


def expand(md5s: Iterable[str], lists: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """These objects, and those that the folders among them are made of."""
    found = set(md5s)
    for md5 in [*found]:
        if md5.endswith(FOLDER):
            found.update(lists.get(md5, ()))
    return frozenset(found)
