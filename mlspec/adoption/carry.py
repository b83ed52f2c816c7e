"""Carries over what was run: dvc.lock for the new pipelines, and the ledger's records.

Comes in: an :class:`Adoption` and the project that its spec makes. Goes out: entries that have the
digests which DVC recorded, and of what DVC did not watch (code that was found, the requirements)
those of now, on trust.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlspec.adoption.convert import Adoption, Taken
from mlspec.compilers.dvc import lock_path
from mlspec.dvc.hashing import dir_listing, md5_of_dir, md5_of_file
from mlspec.dvc.lock import LockedPath, LockEntry, dump_lock, entry_as_dict
from mlspec.dvc.objects import ObjectFolder
from mlspec.dvc.scm import Scm
from mlspec.errors import MlspecError
from mlspec.fingerprint import entry_fingerprint
from mlspec.git import Git
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import dataset_path, run_path, state_path
from mlspec.ledger.records import Imported, ModelState, Record, Run
from mlspec.metrics import load_metrics
from mlspec.reconcile import Project
from mlspec.resources import StageResource
from mlspec.undo import Undo


@dataclass(frozen=True, slots=True)
class Carried:
    """A run that was carried over."""

    taken: Taken
    resource: StageResource
    entry: LockEntry


def carry_runs(adoption: Adoption, project: Project) -> list[Carried]:
    """The runs of all stages that need not run again."""
    return [
        _carry(adoption, project, taken, project.desired.get(StageResource, taken.address))
        for taken in adoption.stages
        if not taken.stale
    ]


def lock_files(carried: list[Carried]) -> dict[str, str]:
    """The text of each dvc.lock, by path."""
    entries: dict[str, dict[str, LockEntry]] = {}
    for each in carried:
        entries.setdefault(lock_path(each.taken.model), {})[each.taken.name] = each.entry
    return {path: dump_lock(stages) for path, stages in entries.items()}


def ignoring(path: str) -> str:
    """The file in which Git is told to leave `path` alone."""
    folder, slash, _ = path.rpartition("/")
    return f"{folder}{slash}.gitignore"


def keep_outputs(carried: list[Carried], root: Path, objects: Path, undo: Undo) -> list[str]:
    """Have in DVC's cache, at `objects`, what it left to Git; which paths that are.

    The generated pipelines keep all outputs in the cache, so that any run can be brought back.
    """
    cache, scm = ObjectFolder(objects), Scm(root, Git(root))
    moved = []
    for each in carried:
        for path in [out.path for out in each.taken.old.outs if not out.cache]:
            locked = next(out for out in each.entry.outs if out.path == path)
            _keep(cache, locked, root / path)
            if not scm.listed(path):
                undo.keep([ignoring(path)])
                scm.ignore(path)
            moved.append(path)
    cache.flush()
    return sorted(moved)


def _keep(cache: ObjectFolder, locked: LockedPath, place: Path) -> None:
    if place.is_file():
        cache.add_file(locked.md5, place)
    elif place.is_dir():
        files = {file.relative_to(place).as_posix(): file for file in place.rglob("*")}
        digests = {name: md5_of_file(file) for name, file in files.items() if file.is_file()}
        if md5_of_dir(digests) == locked.md5:
            for name, md5 in digests.items():
                cache.add_file(md5, files[name])
            cache.add_bytes(locked.md5, dir_listing(digests))


def record(adoption: Adoption, carried: list[Carried], project: Project, objects: Path) -> None:
    """Have the ledger know the runs and the data; the caller holds the lock."""
    head, recorded = make_entry(project.git, "adopt"), project.recorded()
    for data in adoption.data:
        known = data.known
        kept = Imported(
            dataset=data.name,
            source=data.source,
            md5=known.md5,
            size=known.size or 0,
            nfiles=known.nfiles,
        )
        if recorded.imported(data.name) == kept:
            continue  # by an adoption that was cut short afterwards
        about = head.about(f"dataset.{data.name}", "adopt", "done", known.path)
        project.ledger.stage({dataset_path(data.name): kept}, about)
    states: dict[str, ModelState] = {}
    for each in carried:
        metrics = _metrics(each, project.root, objects)
        run = _run(each, metrics, head.commit, dirty=head.dirty)
        model, name = each.taken.model, each.taken.name
        state = states.get(model) or recorded.model_state(model) or ModelState()
        if state.runs.get(name) == run.fingerprint and recorded.run(model, name, run.fingerprint):
            continue  # likewise
        runs = {**state.runs, name: run.fingerprint}
        states[model] = state.model_copy(update={"runs": runs, "retired": False})
        records: dict[str, Record | None] = {
            run_path(model, name, run.fingerprint): run,
            state_path(model): states[model],
        }
        about = head.about(each.taken.address, "adopt", "done", str(each.taken.old.place))
        project.ledger.stage(records, about)
    project.ledger.flush()


def _carry(adoption: Adoption, project: Project, taken: Taken, resource: StageResource) -> Carried:
    outs = {out.path: out.known.locked for out in taken.old.outs}
    entry = LockEntry(
        cmd=resource.command,
        deps=tuple(_dependencies(adoption, project, resource)),
        params=resource.params,
        outs=tuple(outs[path] for path in resource.writes),
    )
    return Carried(taken, resource, entry)


def _dependencies(
    adoption: Adoption, project: Project, resource: StageResource
) -> Iterator[LockedPath]:
    for dependency in resource.dependencies:
        path = dependency.path
        if path in adoption.contents:
            yield adoption.contents[path].locked
            continue
        found = project.worktree.digest(path)
        if found is None:
            raise MlspecError(
                f"{resource.address} reads {path}, which is not there",
                hint="bring it back, then adopt again; nothing was changed",
            )
        executable = found.nfiles is None and bool((project.root / path).stat().st_mode & 0o111)
        yield LockedPath(path, found.md5, found.size, found.nfiles, executable)


def _run(each: Carried, metrics: dict[str, float], commit: str, *, dirty: bool) -> Run:
    entry = entry_as_dict(each.entry)
    return Run(
        stage=each.taken.name,
        fingerprint=entry_fingerprint(entry),
        entry=entry,
        metrics=metrics,
        seconds=0.0,
        commit=commit,
        dirty=dirty,
        adopted=True,
    )


def _metrics(each: Carried, root: Path, objects: Path) -> dict[str, float]:
    """What the run measured, from the worktree or else the cache; nothing if it is in neither."""
    path = each.resource.stage.metrics
    if path is None:
        return {}
    md5 = next(out.md5 for out in each.entry.outs if out.path == path)
    places = (root / path, ObjectFolder(objects).path(md5))
    found = next((place for place in places if place.is_file()), None)
    return load_metrics(found, path) if found else {}
