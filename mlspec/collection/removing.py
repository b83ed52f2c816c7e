"""Carries out what :mod:`mlspec.planner.garbage` planned; killed at any moment, it leaves no harm.

First the ledger says which runs and versions have lost their files, then these go. So nothing is
ever restored or deployed that may be half gone, and what is left when it is killed goes next time:
it is written down beside the ledger's lock. The caller holds the lock of an apply, and DVC's.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlspec.atomic import write_atomic
from mlspec.collection.reading import CACHE, Shelves
from mlspec.dvc.shelf import in_order, remove_empty_runs
from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger.entry import Entry, make_entry
from mlspec.ledger.paths import run_path, version_path
from mlspec.ledger.records import Record
from mlspec.ledger.state import load_recorded
from mlspec.ledger.unfinished import at_work
from mlspec.planner.garbage import Garbage, losses, show_bytes, show_numbers
from mlspec.providers.local.release import STAGING
from mlspec.reconcile import Project

FREE = "free"
"""The action of the entries that tell what was removed."""


@dataclass(slots=True)
class Removed:
    """What went: objects of DVC, folders of logs and releases, and bytes."""

    objects: int = 0
    files: int = 0
    size: int = 0

    def __str__(self) -> str:
        said = f"{self.objects} object{'' if self.objects == 1 else 's'}"
        if self.files:
            said += f" and {self.files} folder{'' if self.files == 1 else 's'}"
        return f"{said}, {show_bytes(self.size)}"


def journal_file(git: Git) -> Path:
    return git.common_dir / "mlspec-gc.json"


def load_left(git: Git) -> frozenset[str]:
    """Objects that an earlier one was about to remove, and may not have removed."""
    with suppress(OSError, ValueError):
        left = json.loads(journal_file(git).read_bytes())
        return frozenset(md5 for md5 in left if isinstance(md5, str))
    return frozenset()


def carry_out(project: Project, plan: Garbage, shelves: Shelves) -> Removed:
    """Remove what the plan says, and record it.

    Raises :class:`MlspecError` when others wrote to the ledger meanwhile, with nothing removed, and
    for what the system or storage refuses: the rest goes the next time.
    """
    entry = make_entry(project.git, "gc", str(plan.as_dict()["digest"]))
    objects = {md5 for removal in plan.removals for md5 in removal.objects}
    removed = Removed()
    with at_work(project.ledger, entry):
        left = load_left(project.git) | objects
        write_atomic(journal_file(project.git), json.dumps(sorted(left)) + "\n")
        _mark(project, plan, entry)
        try:
            _remove_objects(project, plan, shelves, removed)
            if CACHE in shelves.by_name:
                remove_empty_runs(project.root / ".dvc/cache", frozenset(objects))
            _remove_files(project.root, plan, removed)
        except MlspecError:
            project.ledger.record({}, entry.about("", FREE, "failed", str(removed)))
            project.ledger.publish()
            raise
        project.ledger.record({}, entry.about("", FREE, "done", str(removed)))
        project.ledger.publish(last=True)
        project.ledger.tidy()
        journal_file(project.git).unlink(missing_ok=True)
    return removed


def _mark(project: Project, plan: Garbage, entry: Entry) -> None:
    """Have the ledger, here and at the remote, say what has lost its files."""
    ledger = project.ledger
    base = ledger.tip
    marks = _records(project, plan, freed=True)
    lost = losses(plan.versions, plan.runs)
    for model, records in marks.items():
        ledger.stage(records, entry.about(f"model.{model}", FREE, "done", _said(*lost[model])))
    ledger.flush()
    tip = ledger.publish()
    if len([*ledger.chain(tip, until=base)]) > len(marks):
        for model, records in _records(project, plan, freed=False).items():
            told = "others wrote to the ledger meanwhile; nothing was removed"
            ledger.stage(records, entry.about(f"model.{model}", FREE, "undone", told))
        ledger.flush()
        ledger.publish()
        raise MlspecError(
            "others wrote to the ledger meanwhile, so nothing was removed",
            hint="run `mlspec gc` again when nobody applies",
        )


def _records(
    project: Project, plan: Garbage, *, freed: bool
) -> Mapping[str, Mapping[str, Record | None]]:
    """The marked runs and versions by path, of each model."""
    recorded = load_recorded(project.ledger)
    update = {"freed": freed}
    found: dict[str, dict[str, Record | None]] = {}
    for key in plan.runs:
        run = recorded.run(*key)
        if run is not None:
            path = run_path(*key)
            found.setdefault(key.model, {})[path] = run.model_copy(update=update)
    for number in plan.versions:
        version = recorded.version(*number)
        if version is not None:
            path = version_path(*number)
            found.setdefault(number.model, {})[path] = version.model_copy(update=update)
    return found


def _said(numbers: tuple[int, ...], runs: int) -> str:
    """What a model loses, in words."""
    parts = []
    if numbers:
        parts.append(f"version{'s' * (len(numbers) > 1)} {show_numbers(numbers)}")
    if runs:
        parts.append(f"{runs} run{'s' * (runs > 1)}")
    return f"the files of {' and '.join(parts)} are removed"


def _remove_objects(project: Project, plan: Garbage, shelves: Shelves, removed: Removed) -> None:
    """The cache last: what storage refuses to let go is then still here, too."""
    lease = project.ledger.lease
    for removal in sorted(plan.removals, key=lambda removal: removal.name == CACHE):
        shelf = shelves.by_name[removal.name]
        sizes = dict(zip(removal.objects, removal.sizes, strict=True))
        for md5 in shelf.remove(in_order(removal.objects)):
            removed.objects += 1
            removed.size += sizes[md5]
            if lease is not None:
                lease.check_late()


def _remove_files(root: Path, plan: Garbage, removed: Removed) -> None:
    for file in plan.files:
        folder = root / file.path
        if file.kind == "release":  # half of one must not look like one
            aside = folder.with_name(f"{STAGING}{folder.name}")
            with suppress(OSError):
                folder.rename(aside)
                folder = aside
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            removed.files += 1
            removed.size += file.size
    for link in (root / ".mlspec/artifacts").glob("*"):
        if link.is_symlink() and not link.exists():
            link.unlink(missing_ok=True)
