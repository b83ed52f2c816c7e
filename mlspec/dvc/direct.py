"""What DVC does, done without it, where a repository is as mlspec generates it.

Comes in: a pipeline file and the name of a stage. Goes out: what :mod:`mlspec.dvc.worker` would
have done, in a fraction of the time; or :class:`~mlspec.dvc.settings.Unusual`, with nothing done
that the worker would not do too.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path

from mlspec.dvc.commit import Digest, commit_stage, digest_of
from mlspec.dvc.lock import LockEntry, parse_lock
from mlspec.dvc.locking import locked
from mlspec.dvc.objects import ObjectFolder
from mlspec.dvc.pipeline import PipelineStage, load_stages
from mlspec.dvc.scm import Scm
from mlspec.dvc.settings import Settings, Unusual, load_settings, settings_files
from mlspec.dvc.storage import copy_objects
from mlspec.errors import MlspecError
from mlspec.git import Git, GitError

_Stamp = tuple[int, ...]
_MANY = 100
"""Pipelines that are remembered: what is asked for next is mostly one of the last."""


class Direct:
    """One repository, whose settings and pipelines are looked at anew for every request."""

    def __init__(self, root: Path, digest: Digest | None) -> None:
        self._root = root
        self._digest = digest or partial(digest_of, root)
        self._scm = Scm(root, Git(root))
        self._settings: tuple[tuple[_Stamp, ...], Settings] | None = None
        self._settings_files = settings_files(root)
        self._pipelines: dict[str, tuple[_Stamp, dict[str, PipelineStage | None]]] = {}

    def settings(self) -> Settings:
        """DVC's settings, if they are plain."""
        stamps = tuple(map(_stamp, self._settings_files))
        if self._settings is None or self._settings[0] != stamps:
            if not (self._root / ".dvc").is_dir():
                raise Unusual
            self._settings = stamps, load_settings(self._settings_files)
        return self._settings[1]

    def needs_help(self) -> bool:
        """Whether DVC's settings, if there are any yet, leave something to DVC itself."""
        try:
            return (self._root / ".dvc/config").exists() and self.settings().storage is None
        except Unusual:
            return True

    def find_tracked(self, paths: Iterable[str]) -> list[str]:
        """Those of `paths` that Git tracks, which DVC then does not record."""
        try:
            self.settings()
        except Unusual:
            return []
        return [path for path in paths if self._scm.is_tracked(path)]

    def commit(self, dvcfile: str, stage: str) -> None:
        """Take what the stage wrote into the cache, dvc.lock, .gitignore and the run cache."""
        self.settings()
        found = self._stage(dvcfile, stage)
        with locked(self._root, found.writes):
            try:
                lock = self._lock_path(dvcfile)
                commit_stage(self._root, lock, stage, found, self._scm, self._digest)
            except GitError as error:
                raise Unusual from error

    def push(self, dvcfile: str, stage: str | None) -> None:
        """Have in storage what is recorded."""
        storage = self.settings().storage
        if storage is None or stage is None:
            raise Unusual
        with locked(self._root):
            outs = {out.md5 for out in self._entry(dvcfile, stage).outs}
            copy_objects(outs, self._cache(), ObjectFolder(storage))

    def fetch(self, outs: Mapping[str, str]) -> dict[str, str]:
        """Have objects in the cache; `outs`: md5 by any name. Answers where each lies."""
        storage = self.settings().storage
        cache = self._cache()
        with locked(self._root):
            if storage is not None:
                copy_objects(set(outs.values()), ObjectFolder(storage), cache)
            elif not all(map(cache.complete, outs.values())):
                raise Unusual
            return {name: str(cache.path(md5)) for name, md5 in outs.items()}

    def _cache(self) -> ObjectFolder:
        return ObjectFolder(self._root / ".dvc/cache")

    def _lock_path(self, dvcfile: str) -> Path:
        return (self._root / dvcfile).with_suffix(".lock")

    def _entry(self, dvcfile: str, stage: str) -> LockEntry:
        self._stage(dvcfile, stage)
        path = self._lock_path(dvcfile)
        try:
            return parse_lock(path.read_text("utf-8"), path.name)[stage]
        except (FileNotFoundError, ValueError, KeyError, MlspecError) as error:
            raise Unusual from error

    def _stage(self, dvcfile: str, stage: str) -> PipelineStage:
        path = self._root / dvcfile
        stamp, known = _stamp(path), self._pipelines.get(dvcfile)
        if known is None or known[0] != stamp:
            try:
                text = path.read_text("utf-8")
            except (OSError, ValueError) as error:
                raise Unusual from error
            if len(self._pipelines) > _MANY:
                self._pipelines.clear()
            known = self._pipelines[dvcfile] = stamp, load_stages(text, os.path.normpath(dvcfile))
        body = known[1].get(stage)
        if body is None:
            raise Unusual
        return body


def _stamp(path: Path) -> _Stamp:
    """What changes when the file does; the same for all that cannot be read."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError:
        return ()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
