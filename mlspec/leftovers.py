"""Files that a killed mlspec, or a Git that it ran, had no time to give a name or to take away.

Comes in: a repository. Goes out: paths. They do no harm, but somebody may commit them.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from mlspec.atomic import OWN
from mlspec.fetching.sink import STAGING
from mlspec.git import Git

_OURS = re.compile(r"\.mlspec-([a-z0-9_]{8}\.tmp|[0-9a-f]{16}(\d+|\.tmp))")
"""As :mod:`mlspec.atomic` and :mod:`mlspec.dvc.objects` name what is not whole yet."""
_PACK = re.compile(r"tmp_pack_[0-9a-f]{16}\d+")


def find_leftovers(root: Path, git: Git, storage: Path | None = None) -> Iterator[Path]:
    """What is left in the worktree, in DVC's cache, in a `storage` folder, and among Git's packs.

    The caller holds the lock: nobody else writes such files then, but who saves a plan just now.
    """
    yield from _walk(str(root))
    if storage is not None and not storage.is_relative_to(root):
        yield from _walk(str(storage))
    packs = git.common_dir / "objects/pack"
    yield from (path for path in packs.glob("tmp_pack_*") if _PACK.fullmatch(path.name))
    yield from (path for path in git.common_dir.glob(".mlspec-*") if _OURS.fullmatch(path.name))


def remove_leftovers(root: Path, git: Git, storage: Path | None = None) -> None:
    """Take away what is left, and what may be."""
    shutil.rmtree(root / OWN / STAGING, ignore_errors=True)
    for path in find_leftovers(root, git, storage):
        with suppress(OSError):
            path.unlink()


def _walk(folder: str) -> Iterator[Path]:
    try:
        entries = [*os.scandir(folder)]
    except OSError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            if entry.name != ".git":
                yield from _walk(entry.path)
        elif _OURS.fullmatch(entry.name):
            yield Path(entry.path)
