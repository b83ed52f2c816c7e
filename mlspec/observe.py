"""What is there: generated files, runs in the worktree, services on this machine. Changes nothing.

Comes in: the desired state, which says where to look. Goes out: :class:`Observed`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mlspec.compilers.bento import CONVERTED
from mlspec.compilers.dvc import lock_path
from mlspec.compilers.generated import MARK
from mlspec.compilers.github import BATCH_PATH as BATCH
from mlspec.compilers.github import PATH as WORKFLOW
from mlspec.dvc.lock import LockEntry, entry_as_dict, parse_lock
from mlspec.errors import RemoteUnreachable
from mlspec.ledger.moves import renamed_lock
from mlspec.providers.target import Target
from mlspec.providers.targets import found_here, make_target, target_of
from mlspec.resolve import BLOCKS
from mlspec.resources import (
    DatasetResource,
    DeploymentResource,
    Desired,
    FileResource,
    ModelResource,
    Observed,
    ObservedDataset,
    ObservedDeployment,
    ObservedFile,
    ObservedStage,
    Resource,
    StageResource,
)
from mlspec.worktree import Worktree

_AT_ONCE = 8
_HEAD = 2000
"""Characters at the start of a file within which its mark stands."""


def observe(desired: Desired, worktree: Worktree) -> Observed:
    """The three kinds of things that can be seen, by path or address."""
    observed = Observed({}, {}, {}, {}, place_of(worktree.root))
    observe_resources(desired.resources.values(), worktree, observed)
    observe_surroundings(desired, worktree, observed)
    return observed


def observe_resources(resources: Iterable[Resource], worktree: Worktree, into: Observed) -> None:
    """Look at the files, the data and the runs of these resources."""
    locks: dict[str, dict[str, LockEntry]] = {}
    for resource in resources:
        match resource:
            case FileResource(generated=generated):
                text = worktree.read_text(generated.path)
                if text is not None:
                    empty = not text.strip("\0 \r\n\t")  # zeros are what a crash may leave
                    ours = generated.path in BLOCKS or MARK in text[:_HEAD] or empty
                    into.files[generated.path] = ObservedFile(text, ours)
            case DatasetResource():
                into.datasets[resource.address] = _dataset(resource, worktree)
            case StageResource():
                into.stages[resource.address] = _stage(resource, worktree, locks)


def observe_surroundings(desired: Desired, worktree: Worktree, into: Observed) -> None:
    """Look at what the spec may not name: files that were left over, and whatever runs here."""
    for path in _left_over(desired, worktree.root):
        into.files[path] = ObservedFile("", ours=True)
    into.deployments.update(_deployments(desired, worktree.root))


def place_of(root: Path) -> str:
    """A name for this checkout on this machine that tells neither."""
    where = f"{os.uname().nodename}\0{root.resolve()}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _left_over(desired: Desired, root: Path) -> Iterator[str]:
    """Generated files that nothing asks for any more. A model's and its card's always are."""
    models, deployments = desired.spec.models, desired.spec.served
    bare = {each.name for each in desired.of(ModelResource) if not each.stages}
    made = _names(root, "pipelines")
    for name in sorted(made.difference(models) | (made & bare)):
        yield from _generated(root, f"pipelines/{name}", ("dvc.yaml", "params.json"))
    for name in sorted(_names(root, "services")):
        wanted = desired.resources if name in deployments else ()
        for folder in (f"services/{name}", f"services/{name}/{CONVERTED}"):
            for path in _generated(root, folder, _names(root, folder)):
                if f"file.{path}" not in wanted:
                    yield path
    cards = {name for name in _names(root, "cards") if name.endswith(".md")}
    yield from _generated(root, "cards", cards.difference(map("{}.md".format, models)))
    for workflow in (WORKFLOW, BATCH):
        if f"file.{workflow}" not in desired.resources:
            yield from _generated(root, ".github/workflows", (workflow.rpartition("/")[2],))


def _names(root: Path, folder: str) -> set[str]:
    """What a folder holds; nothing if there is no such folder."""
    try:
        return set(os.listdir(root / folder))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return set()


def _generated(root: Path, folder: str, names: Iterable[str]) -> Iterator[str]:
    """The paths of those files of a folder that mlspec wrote."""
    for name in sorted(names):
        path = f"{folder}/{name}"
        if path.isprintable() and _is_left_over(root / path):
            yield path


def _is_left_over(found: Path) -> bool:
    """Whether a file that nothing asks for was generated: people's own have no mark."""
    try:
        if found.is_symlink() or not found.is_file():
            return False
        with found.open("rb") as file:
            return MARK.encode() in file.read(_HEAD)
    except OSError:
        return False


def _dataset(resource: DatasetResource, worktree: Worktree) -> ObservedDataset:
    seen = worktree.digest(resource.dataset.path)
    recorded = None if resource.in_git else worktree.recorded_digest(resource.dataset.path)
    return ObservedDataset(
        md5=seen.md5 if seen else None, recorded_md5=recorded.md5 if recorded else None
    )


def _stage(
    stage: StageResource, worktree: Worktree, locks: dict[str, dict[str, LockEntry]]
) -> ObservedStage:
    path = lock_path(stage.model)
    if path not in locks:
        locks[path] = _lock(stage, worktree)
    entry = locks[path].get(stage.name)
    digests = {written: worktree.digest(written) for written in stage.writes}
    return ObservedStage(
        entry=entry_as_dict(entry) if entry else None,
        outputs={written: found.md5 for written, found in digests.items() if found},
    )


def _lock(stage: StageResource, worktree: Worktree) -> dict[str, LockEntry]:
    """The lock of the stage's model; if there is none yet, that of its former name."""
    for name in (stage.model, *stage.former):
        path = lock_path(name)
        text = worktree.read_text(path)
        if text:
            entries = parse_lock(text, path)
            if name == stage.model:
                return entries
            return renamed_lock(entries, name, stage.model, worktree.read_bytes)
    return {}


def _deployments(desired: Desired, root: Path) -> Iterator[tuple[str, ObservedDeployment]]:
    """Those of the spec, wherever they run, and whatever else runs here."""
    wanted = {(r.name, r.target): r for r in desired.of(DeploymentResource)}
    found = {place: make_target(root, place[1]) for place in found_here(root)}
    here = {place: target_of(root, r) for place, r in wanted.items() if not r.place}
    for (name, target_name), target in {**found, **here}.items():
        seen = _look(target, name)
        if seen is not None:
            yield f"deployment.{name}@{target_name}", seen
    yield from _far([r for r in wanted.values() if r.place], root)


def _far(
    resources: Sequence[DeploymentResource], root: Path
) -> Iterator[tuple[str, ObservedDeployment]]:
    """Those on other machines, which take their time to answer: several are asked at once."""
    if not resources:
        return
    from concurrent.futures import ThreadPoolExecutor  # most plans have no such targets

    with ThreadPoolExecutor(_AT_ONCE) as pool:
        looks = pool.map(lambda r: _look(target_of(root, r), r.name), resources)
        for resource, seen in zip(resources, looks, strict=True):
            if seen is not None:
                yield resource.address, seen


def _look(target: Target, name: str) -> ObservedDeployment | None:
    try:
        running = target.observe(name)
    except RemoteUnreachable as error:
        return ObservedDeployment(running=False, unseen=error.message)
    if running is None:
        return None
    return ObservedDeployment(running.status == "serving", running.release, running.differs)
