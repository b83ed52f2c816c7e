"""Many files changed as one: cut short, even by a kill, they go back to what they were.

Before a file is changed, it is copied to `.mlspec/adopting`, and an index says where it belongs.
The index goes last, when all is done. While it is there nothing that was written counts: the next
`mlspec adopt` takes it back and begins anew, and other commands refuse.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlspec.atomic import OWN, make_own_folder, sync_folder, write_atomic
from mlspec.errors import MlspecError

_FOLDER = "adopting"
_INDEX = "index.json"


class Undo:
    """What it takes to undo changes of the repository at `root`; the caller has the lock."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / OWN / _FOLDER
        self._index: dict[str, int | None] = {}

    def keep(self, paths: Iterable[str]) -> None:
        """Have a copy of what is at `paths`, before it is changed; nothing may be there."""
        new = [path for path in paths if path not in self._index]
        if not new:
            return
        make_own_folder(self._root, _FOLDER)
        for path in new:
            place = self._root / path
            mode = None
            if place.is_file():
                mode = place.stat().st_mode & 0o7777
                copy = self._folder / str(len(self._index))
                shutil.copyfile(place, copy)
                # it may have passwords
                copy.chmod(0o600)
                _sync(copy)
            self._index[path] = mode
        sync_folder(self._folder)
        write_atomic(self._folder / _INDEX, json.dumps(self._index), mode=0o600)
        sync_folder(self._root / OWN)

    def done(self) -> None:
        """What was changed stays."""
        (self._folder / _INDEX).unlink(missing_ok=True)
        if self._folder.is_dir():
            sync_folder(self._folder)
            shutil.rmtree(self._folder, ignore_errors=True)

    def take_back(self) -> None:
        """Have everything as it was kept, also by one that was killed."""
        try:
            text = (self._folder / _INDEX).read_text("utf-8")
        except (FileNotFoundError, NotADirectoryError):
            return
        try:
            kept = {str(path): mode for path, mode in json.loads(text).items()}
        except (ValueError, AttributeError) as error:
            raise MlspecError(
                f"{OWN}/{_FOLDER}/{_INDEX} is damaged, so what an adoption changed is not known",
                hint=f"compare with Git (git status), then remove {OWN}/{_FOLDER}",
            ) from error
        for number, (path, mode) in reversed(list(enumerate(kept.items()))):
            place = self._root / path
            if mode is None:
                place.unlink(missing_ok=True)
                _remove_empty(self._root, place.parent)
            else:
                place.parent.mkdir(parents=True, exist_ok=True)
                temporary = place.with_name(f".mlspec-undo{number:04d}.tmp")
                shutil.copyfile(self._folder / str(number), temporary)
                temporary.chmod(mode)
                _sync(temporary)
                temporary.replace(place)
                sync_folder(place.parent)
        self.done()


@contextmanager
def whole_or_not_at_all(root: Path) -> Iterator[Undo]:
    """What is kept within goes back to what it was, unless the block ends well."""
    undo = Undo(root)
    try:
        yield undo
    except BaseException:
        undo.take_back()
        raise
    undo.done()


def is_unfinished(root: Path) -> bool:
    """Whether an adoption is at work, or was cut short."""
    return (root / OWN / _FOLDER / _INDEX).exists()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_empty(root: Path, folder: Path) -> None:
    while folder != root and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent
