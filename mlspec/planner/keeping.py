"""Which versions and runs stay when `mlspec gc` clears up, and the strongest reason of each.

Comes in: :class:`~mlspec.planner.known.Known` and the user's rules. Goes out: :class:`Kept`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from mlspec.planner.known import Known, Pin, Rules, RunKey, VersionFact, VersionKey, address_of


class Why(StrEnum):
    """What keeps a version or a run, the strongest reason first."""

    SERVED = "served"
    PINNED = "pinned"
    BEFORE = "before the one that serves"
    CHAMPION = "champion"
    WANTED = "what the spec stands for"
    LAST = "last run of its stage"
    COMMIT = "made from a commit that is still named"
    NAMED = "named in Git"
    NEWEST = "newest of its model"
    RECENT = "recent"
    NEEDED = "needed by a version that is kept"


@dataclass(frozen=True, slots=True)
class Kept:
    """A version or a run that stays, and why; `by` says what does it."""

    address: str
    why: Why
    by: str = ""


def find_kept_versions(known: Known, rules: Rules) -> Iterator[tuple[VersionKey, Kept]]:
    """Each version that stays, once, with its strongest reason."""
    found: dict[VersionKey, Kept] = {}

    def keep(key: VersionKey, why: Why, by: str = "") -> None:
        found.setdefault(key, Kept(f"model.{key.model}@{key.number}", why, by))

    by_model: dict[str, list[VersionFact]] = {}
    for version in sorted(known.versions, key=lambda version: version.key, reverse=True):
        by_model.setdefault(version.key.model, []).append(version)
    for address, key in sorted(known.served.items()):
        keep(key, Why.SERVED, address)
    for pin in known.pins:
        for version in _pinned(pin, by_model, known.versions):
            keep(version.key, Why.PINNED, pin.where)
    for address, key in sorted(known.served.items()):
        for version in _before(by_model.get(key.model, ()), key.number):
            keep(version.key, Why.BEFORE, address)
    for model, versions in by_model.items():
        whole = [version for version in versions if not version.freed]
        if model not in known.retired:
            for version in _up_to_good(whole):
                keep(version.key, Why.CHAMPION)
        for version in whole:
            if version.runs and version.runs <= known.wanted:
                keep(version.key, Why.WANTED)
            if version.commit in known.tips:
                keep(version.key, Why.COMMIT, known.tips[version.commit])
            if version.artifact in known.named:
                keep(version.key, Why.NAMED, known.named[version.artifact])
        if model not in known.retired:
            for version in whole[: rules.keep_versions]:
                keep(version.key, Why.NEWEST)
        for version in whole:
            if version.recent:
                keep(version.key, Why.RECENT)
    yield from found.items()


def _pinned(
    pin: Pin, by_model: Mapping[str, list[VersionFact]], versions: Iterable[VersionFact]
) -> list[VersionFact]:
    """Where the model has no such version, any that does: it may have had another name."""
    for among in (by_model.get(pin.model, ()), versions):
        found = [v for v in among if pin.number is None or v.key.number == pin.number]
        if found:
            return found
    return []


def _before(versions: Iterable[VersionFact], number: int) -> Iterator[VersionFact]:
    """Those to go back to from `number`: all down to the newest good one."""
    return _up_to_good(v for v in versions if v.key.number < number and not v.freed)


def _up_to_good(newest_first: Iterable[VersionFact]) -> Iterator[VersionFact]:
    first = True
    for version in newest_first:
        if first or version.good:
            yield version
        first = False
        if version.good:
            return


def find_kept_runs(known: Known, versions: Mapping[VersionKey, Kept]) -> dict[RunKey, Kept]:
    """Each run that stays; those of `versions`, which stay, among them."""
    needed = {
        run: kept.address
        for version in known.versions
        if (kept := versions.get(version.key)) is not None
        for run in version.runs
    }
    found: dict[RunKey, Kept] = {}
    for run in known.runs:
        key = run.key
        if run.freed:
            continue
        if key in known.wanted:
            why, by = Why.WANTED, ""
        elif key in known.heads:
            why, by = Why.LAST, ""
        elif key in needed:
            why, by = Why.NEEDED, needed[key]
        elif run.commit in known.tips:
            why, by = Why.COMMIT, known.tips[run.commit]
        elif run.recent:
            why, by = Why.RECENT, ""
        else:
            continue
        found[key] = Kept(address_of(key), why, by)
    return found
