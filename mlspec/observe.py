"""What is there: generated files, runs in the worktree, services on this machine. Changes nothing.

Comes in: the desired state, which says where to look. Goes out: :class:`Observed`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from mlspec.compilers.dvc import lock_path
from mlspec.compilers.generated import MARK
from mlspec.dvc.lock import LockEntry, entry_as_dict, parse_lock
from mlspec.providers.targets import found_here, make_target, target_of
from mlspec.resolve import BLOCKS
from mlspec.resources import (
    DatasetResource,
    DeploymentResource,
    Desired,
    FileResource,
    Observed,
    ObservedDataset,
    ObservedDeployment,
    ObservedFile,
    ObservedStage,
    StageResource,
)
from mlspec.worktree import Worktree

_GENERATED = (
    "pipelines/*/dvc.yaml",
    "pipelines/*/params.json",
    "services/*/*",
    "cards/*.md",
    ".github/workflows/mlspec.yml",
)
"""Where generated files are looked for that nothing asks for any more."""

_HEAD = 2000
"""Characters at the start of a file within which its mark stands."""


def observe(desired: Desired, worktree: Worktree) -> Observed:
    """The three kinds of things that can be seen, by path or address."""
    return Observed(
        files=dict(_files(desired, worktree)),
        datasets=dict(_datasets(desired, worktree)),
        stages=dict(_stages(desired, worktree)),
        deployments=dict(_deployments(desired, worktree.root)),
        place=place_of(worktree.root),
    )


def place_of(root: Path) -> str:
    """A name for this checkout on this machine that tells neither."""
    where = f"{os.uname().nodename}\0{root.resolve()}"
    return hashlib.sha256(where.encode()).hexdigest()[:16]


def _files(desired: Desired, worktree: Worktree) -> Iterator[tuple[str, ObservedFile]]:
    wanted = {resource.generated.path for resource in desired.of(FileResource)}
    for path in sorted(wanted):
        text = worktree.read_text(path)
        if text is not None:
            ours = path in BLOCKS or MARK in text[:_HEAD] or not text.strip()
            yield path, ObservedFile(text, ours)
    for pattern in _GENERATED:
        for found in sorted(worktree.root.glob(pattern)):
            path = found.relative_to(worktree.root).as_posix()
            if path not in wanted and path.isprintable() and _is_left_over(found):
                yield path, ObservedFile("", ours=True)


def _is_left_over(found: Path) -> bool:
    """Whether a file that nothing asks for was generated: people's own have no mark."""
    try:
        if found.is_symlink() or not found.is_file():
            return False
        with found.open("rb") as file:
            return MARK.encode() in file.read(_HEAD)
    except OSError:
        return False


def _datasets(desired: Desired, worktree: Worktree) -> Iterator[tuple[str, ObservedDataset]]:
    for resource in desired.of(DatasetResource):
        seen = worktree.digest(resource.dataset.path)
        recorded = None if resource.in_git else worktree.recorded_digest(resource.dataset.path)
        yield (
            resource.address,
            ObservedDataset(
                md5=seen.md5 if seen else None, recorded_md5=recorded.md5 if recorded else None
            ),
        )


def _stages(desired: Desired, worktree: Worktree) -> Iterator[tuple[str, ObservedStage]]:
    locks: dict[str, dict[str, LockEntry]] = {}
    for stage in desired.of(StageResource):
        path = lock_path(stage.model)
        if path not in locks:
            text = worktree.read_text(path)
            locks[path] = parse_lock(text, path) if text else {}
        entry = locks[path].get(stage.name)
        digests = {written: worktree.digest(written) for written in stage.writes}
        yield (
            stage.address,
            ObservedStage(
                entry=entry_as_dict(entry) if entry else None,
                outputs={written: found.md5 for written, found in digests.items() if found},
            ),
        )


def _deployments(desired: Desired, root: Path) -> Iterator[tuple[str, ObservedDeployment]]:
    """Those of the spec, wherever they run, and whatever else runs here."""
    wanted = {(r.name, r.target): target_of(root, r) for r in desired.of(DeploymentResource)}
    found = {place: make_target(root, place[1]) for place in found_here(root)}
    for (name, target_name), target in {**found, **wanted}.items():
        running = target.observe(name)
        if running is not None:
            serves = running.status == "serving"
            address = f"deployment.{name}@{target_name}"
            yield address, ObservedDeployment(serves, running.release)
