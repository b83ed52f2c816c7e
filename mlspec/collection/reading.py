"""What `mlspec gc` must know: the ledger, all that Git names, the spec, and where objects lie.

Comes in: a project, with the locks held if anything is to be removed. Goes out:
:class:`~mlspec.planner.known.Known`. Whatever cannot be read raises: it may name what is needed.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from mlspec.collection.named import find_named
from mlspec.dvc.client import Dvc
from mlspec.dvc.hashing import DIRECTORY
from mlspec.dvc.settings import Unusual, load_settings, settings_files
from mlspec.dvc.shelf import FolderShelf, RemoteShelf, Shelf
from mlspec.git import Git
from mlspec.ledger.paths import version_path
from mlspec.ledger.records import Run
from mlspec.ledger.snapshot import Snapshot
from mlspec.ledger.state import Recorded
from mlspec.planner.known import (
    STORAGE,
    Known,
    LogFact,
    Pin,
    Place,
    ReleaseFact,
    Rules,
    RunFact,
    RunKey,
    VersionFact,
    VersionKey,
)
from mlspec.planner.quarantine import why_quarantined
from mlspec.providers.local.release import RELEASES
from mlspec.providers.local.rundir import list_runs, load_state
from mlspec.reconcile import Project
from mlspec.spec.models import Quarantine
from mlspec.spec.moves import Renames

CACHE = "cache"
LOGS = ".mlspec/logs"
_DAY = 86400
_UNASKED = "no Git remote is asked what others need of it (git config mlspec.remote NAME)"
_ADDRESS = re.compile(r"remote\..*\.url")
_LOG = re.compile(r"(\d{8}T\d{6})-\d+")


@dataclass(frozen=True, slots=True)
class Shelves:
    """Where objects lie that may be removed, by the place's name; why others are left alone.

    `closed` is why nothing may go from one of them.
    """

    by_name: Mapping[str, Shelf]
    closed: Mapping[str, str] = field(default_factory=dict)
    left_alone: tuple[str, ...] = ()


def find_shelves(git: Git, dvc: Dvc) -> Shelves:
    """The cache of this checkout and the default remote: a folder, or what `dvc` reaches.

    Others may need what storage has, so without a question to their Git remote it is closed.
    """
    root = git.root
    shelves: dict[str, Shelf] = {}
    alone = []
    cache = root / ".dvc/cache"
    storage: Path | None = None
    if (root / ".dvc/config").exists():
        with suppress(Unusual):
            storage = load_settings(settings_files(root)).storage
        if storage is not None:
            shelves[STORAGE] = FolderShelf(storage)
        else:  # DVC's settings say more than mlspec writes, or storage is on the network
            places = dvc.places()
            cache = Path(places["cache"])
            if places["storage"]:
                shelves[STORAGE] = RemoteShelf(dvc, places["storage"])
            else:
                alone.append("DVC has no default remote that keeps objects by their md5")
    cache = cache.resolve()
    if cache == root.resolve() / ".dvc/cache":
        shelves = {CACHE: FolderShelf(cache), **shelves}
    else:
        alone.append(f"DVC's cache is {cache}, which other projects may share")
    asks = git.remote or not any(map(_ADDRESS.fullmatch, git.config))
    return Shelves(shelves, {} if asks else {STORAGE: _UNASKED}, tuple(alone))


def read_known(project: Project, shelves: Shelves, rules: Rules, left: Iterable[str]) -> Known:
    """Everything of this moment, with the ledger as it was last seen; `left` of an earlier gc."""
    since = int(time.time()) - rules.keep_days * _DAY
    recorded = project.recorded()
    before = _snapshot_at(project, since)
    changed = _changed(project, before)
    named = find_named(project.git, since)
    runs = tuple(_runs(project, recorded, changed))
    states = {model: recorded.model_state(model) for model in recorded.models()}
    deployed = {
        address: record
        for address, record in recorded.deployments().items()
        if record.status != "refused"
    }
    taken = _taken(project, recorded)
    places = tuple(
        Place(name, shelf.where, shelf.sizes(), shelves.closed.get(name, ""))
        for name, shelf in shelves.by_name.items()
    )
    md5s = named.mentioned.union(taken, *(run.wrote | run.read for run in runs))
    for place in places:  # also folders of others: what is in one that stays must stay
        if place.name == CACHE or rules.shared:
            md5s |= place.sizes.keys()
    return Known(
        runs=runs,
        versions=tuple(_versions(project, recorded, changed, named.quarantined)),
        heads=frozenset((*_heads(recorded), *_heads(Recorded(before)))),
        wanted=frozenset(_wanted(project, recorded)),
        served={address: VersionKey(d.model, d.version) for address, d in deployed.items()},
        serving=frozenset(record.release for record in deployed.values()),
        pins=tuple(_under_every_name((*_pins(project), *named.pins), project.moves.renames)),
        retired=frozenset(m for m, state in states.items() if state is None or state.retired),
        tips=named.tips,
        named={**dict.fromkeys(taken, "the ledger's datasets"), **named.named},
        made=frozenset(named.made),
        data=frozenset(named.data) | taken,
        mentioned=frozenset(named.mentioned),
        lists=_lists(shelves, {md5 for md5 in md5s if md5.endswith(DIRECTORY)}),
        left=frozenset(left),
        places=places,
        releases=tuple(_releases(project.root, since)),
        logs=tuple(_logs(project.root, since)),
    )


def _snapshot_at(project: Project, since: int) -> Snapshot:
    """The ledger before the first record of after that time.

    All of it is looked at: where a clock was wrong, an older record may follow a newer one.
    """
    ledger = project.ledger
    before = ledger.tip
    for _, commit in ledger.chain(ledger.tip):
        if commit.seconds > since:
            before = commit.parent
    return Snapshot(ledger.objects, before)


def _changed(project: Project, before: Snapshot) -> frozenset[str]:
    """The records that were written after that state."""
    now = project.ledger.snapshot
    return frozenset(path for path, _ in project.ledger.objects.changes(before.tree, now.tree))


def _runs(project: Project, recorded: Recorded, changed: frozenset[str]) -> Iterator[RunFact]:
    for path in project.ledger.list("models"):
        match path.split("/"):
            case ["models", _, model, "runs", stage, file]:
                run = recorded.run(model, stage, file.removesuffix(".json"))
                assert run is not None
                yield RunFact(
                    key=RunKey(model, stage, run.fingerprint),
                    wrote=frozenset(_md5s(run, "outs")),
                    read=frozenset(_md5s(run, "deps")),
                    commit="" if run.dirty else run.commit,
                    recent=path in changed,
                    freed=run.freed,
                )


def _md5s(run: Run, part: str) -> Iterator[str]:
    for item in run.entry.get(part, ()):
        if isinstance(md5 := item.get("md5"), str):
            yield md5


def _versions(
    project: Project, recorded: Recorded, changed: frozenset[str], quarantined: Iterable[int]
) -> Iterator[VersionFact]:
    spec, renames = project.loaded.spec, project.moves.renames
    elsewhere = [Quarantine(version=number, reason="a spec says so") for number in quarantined]
    for model in recorded.models():
        asked = spec.models.get(renames.name_now("model", model) or model)
        quarantine = (*(asked.quarantine if asked is not None else ()), *elsewhere)
        for version in recorded.versions(model):
            candidate = recorded.candidate(model, version.fingerprint)
            accepted = candidate is not None and candidate.status == "accepted"
            held = why_quarantined(recorded, model, version, quarantine)
            yield VersionFact(
                key=VersionKey(model, version.number),
                runs=frozenset(RunKey(model, *stage) for stage in version.stages.items()),
                artifact=version.artifact.md5 if version.artifact else "",
                commit="" if version.dirty else version.commit,
                good=accepted and not held and version.artifact is not None,
                recent=version_path(model, version.number) in changed,
                freed=version.freed,
            )


def _heads(recorded: Recorded) -> Iterator[RunKey]:
    """The last runs of the models that the spec has, or had."""
    for model in recorded.models():
        state = recorded.model_state(model)
        if state is not None and not state.retired:
            yield from (RunKey(model, *run) for run in state.runs.items())


def _taken(project: Project, recorded: Recorded) -> frozenset[str]:
    """What the ledger has of the datasets of the spec, and of scores that are there."""
    found = (recorded.imported(name) for name in project.loaded.spec.datasets)
    scores = (each.scored for each in recorded.deployments().values())
    written = {str(each[key]) for each in scores if each for key in ("read", "wrote")}
    return frozenset(record.md5 for record in found if record is not None) | written


def _wanted(project: Project, recorded: Recorded) -> Iterator[RunKey]:
    """Runs that the spec stands for, of models that are not as they were recorded last."""
    for address, fingerprint in project.facts.fingerprints.items():
        kind, _, rest = address.partition(".")
        model, _, stage = rest.partition(".")
        if kind == "stage" and recorded.run(model, stage, fingerprint) is not None:
            yield RunKey(model, stage, fingerprint)


def _pins(project: Project) -> Iterator[Pin]:
    for deployment in project.loaded.spec.served.values():
        for number in deployment.pin.values():
            yield Pin(deployment.model, number, "the spec")


def _under_every_name(pins: Iterable[Pin], renames: Renames) -> Iterator[Pin]:
    """Each pin, also under the names that its model had before or has now."""
    for pin in pins:
        now = renames.name_now("model", pin.model) or pin.model
        for name in {pin.model, now, *renames.former_names("model", now)}:
            yield replace(pin, model=name)


def _lists(shelves: Shelves, folders: set[str]) -> dict[str, tuple[str, ...]]:
    """What folders are made of, from the first place that knows."""
    found: dict[str, tuple[str, ...]] = {}
    for shelf in shelves.by_name.values():
        found |= shelf.lists(folders - found.keys())
    return found


def _releases(root: Path, since: int) -> Iterator[ReleaseFact]:
    """What was built here; a folder that is not whole is no release and is left alone."""
    states = filter(None, map(load_state, list_runs(root)))
    in_use = {str(state.get("folder")) for state in states}
    for file in sorted((root / RELEASES).glob("[!.]*/release.json")):
        folder = file.parent
        with suppress(OSError, ValueError, KeyError, TypeError):
            content = json.loads(file.read_bytes())
            yield ReleaseFact(
                path=folder.relative_to(root).as_posix(),
                digest=str(content["digest"]),
                version=VersionKey(str(content["model"]), int(content["version"])),
                size=_size(folder),
                in_use=str(folder.resolve()) in in_use or folder.is_symlink(),
                recent=folder.stat().st_mtime > since,
            )


def _logs(root: Path, since: int) -> Iterator[LogFact]:
    for folder in sorted((root / LOGS).glob("*")):
        found = _LOG.fullmatch(folder.name)
        if found and folder.is_dir() and not folder.is_symlink():
            with suppress(ValueError):
                made = datetime.strptime(found[1], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
                path = folder.relative_to(root).as_posix()
                yield LogFact(path, _size(folder), made.timestamp() > since)


def _size(folder: Path) -> int:
    """The bytes of all files in and below a folder."""
    return sum(
        path.lstat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not path.is_symlink()
    )
