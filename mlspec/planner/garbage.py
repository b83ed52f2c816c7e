"""What may be removed, and why all else is kept: pure, from what was read to a frozen plan.

Comes in: :class:`~mlspec.planner.known.Known` (what the ledger, Git, the spec and the places of
objects have) and :class:`~mlspec.planner.known.Rules`. Goes out: a :class:`Garbage`. An object may
go when this repository made it and nothing that is kept (:mod:`mlspec.planner.keeping`) needs it;
one that nothing here knows is somebody else's. Read it with :mod:`mlspec.collection`, carried out
there too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlspec.plan import digest_of_body
from mlspec.planner.keeping import Kept, Why, find_kept_runs, find_kept_versions
from mlspec.planner.known import (
    FOLDER,
    STORAGE,
    Known,
    Place,
    Rules,
    RunKey,
    VersionKey,
    address_of,
    expand,
)

FORMAT = 1
_UNITS = ("B", "kB", "MB", "GB", "TB")


@dataclass(frozen=True, slots=True)
class Freed:
    """What a model, earlier commits or earlier data lose; `size` in bytes, at all places."""

    address: str
    versions: tuple[int, ...]
    runs: int
    objects: int
    size: int


@dataclass(frozen=True, slots=True)
class Removal:
    """What goes from one place; `strangers` are objects there that nothing here knows.

    `unrecorded` are those that could go, but that commits alone tell of: the ledger of another
    repository, of which this one is a fork, may need them. `refused` is why nothing goes.
    """

    name: str
    where: str
    objects: tuple[str, ...]
    sizes: tuple[int, ...]
    strangers: int
    strangers_size: int
    kept: int
    kept_size: int
    unrecorded: int = 0
    refused: str = ""

    @property
    def size(self) -> int:
        return sum(self.sizes)


@dataclass(frozen=True, slots=True)
class OldFile:
    """A folder of logs or of a release that goes."""

    kind: str
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class Garbage:
    """A plan: `runs` and `versions` are those that lose files, to be marked in the ledger."""

    rules: Rules
    removals: tuple[Removal, ...]
    freed: tuple[Freed, ...]
    runs: tuple[RunKey, ...]
    versions: tuple[VersionKey, ...]
    files: tuple[OldFile, ...]
    kept: tuple[Kept, ...]
    lost_folders: int = 0
    """Folders that are needed and whose list is nowhere: what they hold is not known."""

    @property
    def empty(self) -> bool:
        return not self.files and not any(removal.objects for removal in self.removals)

    @property
    def size(self) -> int:
        """Bytes that are freed."""
        files = sum(file.size for file in self.files)
        return files + sum(removal.size for removal in self.removals)

    @property
    def objects(self) -> int:
        return sum(len(removal.objects) for removal in self.removals)

    def allows(self, other: Garbage) -> bool:
        """Whether all that `other` removes goes here, too."""
        mine, others = ({r.name: r.objects for r in plan.removals} for plan in (self, other))
        return {file.path for file in other.files} <= {file.path for file in self.files} and all(
            set(objects) <= set(mine.get(name, ())) for name, objects in others.items()
        )

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-shaped data, with its digest."""
        body = {
            "format": FORMAT,
            "rules": asdict(self.rules),
            "bytes": self.size,
            "places": [
                {
                    **asdict(removal),
                    "objects": list(removal.objects),
                    "sizes": list(removal.sizes),
                    "size": removal.size,
                }
                for removal in self.removals
            ],
            "freed": [{**asdict(each), "versions": list(each.versions)} for each in self.freed],
            "versions": [f"model.{key.model}@{key.number}" for key in self.versions],
            "runs": [address_of(key) for key in self.runs],
            "files": [asdict(file) for file in self.files],
            "kept": [{**asdict(kept), "why": kept.why.value} for kept in self.kept],
            "lost_folders": self.lost_folders,
        }
        return {**body, "digest": digest_of_body(body)}


def show_bytes(size: int) -> str:
    """Bytes in steps of a thousand: `999 B`, `1.2 kB`, `35 MB`."""
    amount, units = float(size), iter(_UNITS)
    unit = next(units)
    while amount >= 999.5 and unit != _UNITS[-1]:
        amount, unit = amount / 1000, next(units)
    shown = f"{amount:.1f}" if unit != _UNITS[0] and amount < 9.95 else f"{amount:.0f}"
    return f"{shown.removesuffix('.0')} {unit}"


def show_numbers(numbers: Iterable[int]) -> str:
    """Numbers with those in a row as a span: `1 to 4, 7`."""
    spans: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if spans and spans[-1][1] == number - 1:
            spans[-1] = spans[-1][0], number
        else:
            spans.append((number, number))
    return ", ".join(
        str(first) if first == last else f"{first}{' to ' if last > first + 1 else ', '}{last}"
        for first, last in spans
    )


def plan_garbage(known: Known, rules: Rules) -> Garbage:
    """What goes: known objects that nothing kept needs."""
    versions = dict(find_kept_versions(known, rules))
    runs = find_kept_runs(known, versions)
    needed = _needed(known, versions, runs)
    lost = _lost_folders(known, needed)
    free = _whole_folders(known, _candidates(known, rules, whole=not lost) - needed)
    familiar, recorded = _familiar(known, needed), _recorded(known)
    removals = tuple(_removal(place, free, familiar, recorded, rules) for place in known.places)
    gone = _gone(known, removals)
    lost_versions = tuple(
        sorted(v.key for v in known.versions if v.artifact in gone and not v.freed)
    )
    lost_runs = tuple(
        sorted(
            run.key
            for run in known.runs
            if not run.freed and not gone.isdisjoint(expand(run.wrote, known.lists))
        )
    )
    return Garbage(
        rules=rules,
        removals=removals,
        freed=tuple(_freed(known, removals, lost_versions, lost_runs)),
        runs=lost_runs,
        versions=lost_versions,
        files=tuple(_old_files(known, versions)),
        kept=tuple(_told(known, versions, runs, needed)),
        lost_folders=lost,
    )


def _needed(
    known: Known, versions: Mapping[VersionKey, Kept], runs: Mapping[RunKey, Kept]
) -> frozenset[str]:
    needed = set(known.named)
    for run in known.runs:
        if run.key in runs:
            needed |= run.wrote | run.read
    for version in known.versions:
        if version.key in versions and version.artifact:
            needed.add(version.artifact)
    return expand(needed, known.lists)


def _lost_folders(known: Known, needed: frozenset[str]) -> int:
    """Needed folders that this repository made, and that nobody has the list of."""
    made = known.made.union(*(run.wrote for run in known.runs), known.data)
    folders = {md5 for md5 in needed if md5.endswith(FOLDER)}
    return len((folders & made) - known.lists.keys())


def _candidates(known: Known, rules: Rules, *, whole: bool) -> frozenset[str]:
    """What this repository made; without `whole`, no file that is only known as part of a folder.

    A needed folder whose list is lost may hold any of these.
    """
    made = known.made.union(*(run.wrote for run in known.runs))
    read = frozenset().union(*(run.read for run in known.runs))
    data = known.data | (read - made)
    found = made | data if rules.data else made
    if whole:
        found = expand(found, known.lists) | known.left
    else:
        found = frozenset(md5 for md5 in found if not md5.endswith(FOLDER))
    return found if rules.data else found - expand(data, known.lists)


def _whole_folders(known: Known, free: frozenset[str]) -> frozenset[str]:
    """`free` without what is in a folder that stays somewhere, whosever that is."""
    folders = {md5 for place in known.places for md5 in place.sizes if md5.endswith(FOLDER)}
    return free - expand(folders - free, known.lists)


def _recorded(known: Known) -> frozenset[str]:
    """What the ledger tells of, and not only commits: these a fork has, too."""
    return expand(known.left.union(*(run.wrote | run.read for run in known.runs)), known.lists)


def _familiar(known: Known, needed: frozenset[str]) -> frozenset[str]:
    """Every object that something here knows."""
    runs = (run.wrote | run.read for run in known.runs)
    named = known.made | known.data | known.mentioned | known.left
    return expand(named.union(*runs), known.lists) | needed


def _removal(
    place: Place,
    free: frozenset[str],
    familiar: frozenset[str],
    recorded: frozenset[str],
    rules: Rules,
) -> Removal:
    sizes = place.sizes
    strangers = [md5 for md5 in sizes if md5 not in familiar]
    objects = tuple(sorted(md5 for md5 in sizes if md5 in free))
    refused, unrecorded = place.closed if objects else "", 0
    if refused:
        objects = ()
    elif place.name == STORAGE and not rules.shared:
        if strangers and objects:
            objects = ()
            refused = "it has objects that nothing here knows, so others may keep data in it"
        unrecorded = sum(md5 not in recorded for md5 in objects)
        objects = tuple(md5 for md5 in objects if md5 in recorded)
    away = set(objects) | set(strangers)
    kept = [size for md5, size in sizes.items() if md5 not in away]
    return Removal(
        name=place.name,
        where=place.where,
        objects=objects,
        sizes=tuple(sizes[md5] for md5 in objects),
        strangers=len(strangers),
        strangers_size=sum(sizes[md5] for md5 in strangers),
        kept=len(kept),
        kept_size=sum(kept),
        unrecorded=unrecorded,
        refused=refused,
    )


def _gone(known: Known, removals: Iterable[Removal]) -> frozenset[str]:
    """What is nowhere any more afterwards."""
    gone: set[str] = set()
    stays: set[str] = set()
    for place, removal in zip(known.places, removals, strict=True):
        gone.update(removal.objects)
        stays.update(place.sizes.keys() - set(removal.objects))
    return frozenset(gone - stays)


def _freed(
    known: Known,
    removals: tuple[Removal, ...],
    versions: tuple[VersionKey, ...],
    runs: tuple[RunKey, ...],
) -> Iterator[Freed]:
    """By model; an object of two models counts for the first."""
    sizes: dict[str, int] = {}
    for place, removal in zip(known.places, removals, strict=True):
        for md5 in removal.objects:
            sizes[md5] = sizes.get(md5, 0) + place.sizes[md5]
    wrote: dict[str, set[str]] = {}
    for run in known.runs:
        wrote.setdefault(run.key.model, set()).update(expand(run.wrote, known.lists))
    lost = losses(versions, runs)
    for model in sorted(wrote):
        mine = {md5: sizes.pop(md5) for md5 in wrote[model] & sizes.keys()}
        numbers, count = lost.get(model, ((), 0))
        if mine or numbers or count:
            yield Freed(f"model.{model}", numbers, count, len(mine), sum(mine.values()))
    data = expand(known.data, known.lists) & sizes.keys()
    for address, md5s in (("data", data), ("earlier commits", sizes.keys() - data)):
        if md5s:
            yield Freed(address, (), 0, len(md5s), sum(sizes[md5] for md5 in md5s))


def losses(
    versions: Iterable[VersionKey], runs: Iterable[RunKey]
) -> dict[str, tuple[tuple[int, ...], int]]:
    """The versions, and how many runs, that each model loses the files of."""
    numbers: dict[str, list[int]] = {}
    for key in versions:
        numbers.setdefault(key.model, []).append(key.number)
    counts = Counter(key.model for key in runs)
    return {
        model: (tuple(sorted(numbers.get(model, ()))), counts[model])
        for model in numbers.keys() | counts.keys()
    }


def _old_files(known: Known, versions: Mapping[VersionKey, Kept]) -> Iterator[OldFile]:
    for release in sorted(known.releases, key=lambda release: release.path):
        used = release.in_use or release.recent or release.digest in known.serving
        if not used and release.version not in versions:
            yield OldFile("release", release.path, release.size)
    for log in sorted(known.logs, key=lambda log: log.path):
        if not log.recent:
            yield OldFile("logs", log.path, log.size)


def _told(
    known: Known,
    versions: Mapping[VersionKey, Kept],
    runs: Mapping[RunKey, Kept],
    needed: frozenset[str],
) -> Iterator[Kept]:
    """Versions and runs that stay, in order; those without files stay for nothing."""
    for version in sorted(known.versions, key=lambda version: version.key):
        kept = versions.get(version.key)
        if kept is not None:
            yield kept
        elif not version.freed and version.artifact in needed:
            yield Kept(f"model.{version.key.model}@{version.key.number}", Why.NEEDED)
    for run in sorted(known.runs, key=lambda run: run.key):
        kept = runs.get(run.key)
        if kept is not None:
            yield kept
