"""Where objects lie, to look at all of them and to take some away: a folder, or storage elsewhere.

Comes in: a folder as :mod:`mlspec.dvc.objects` has it, or DVC's process. Goes out: sizes by md5.
Only what has the name and the place of an object is seen, and no symbolic link is followed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mlspec.dvc.client import Dvc
from mlspec.dvc.hashing import DIRECTORY, md5_of_bytes, object_path
from mlspec.errors import unusable

_REST = re.compile(r"[0-9a-f]{30}(\.dir)?")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_AT_ONCE = 200
"""Objects that are taken away from storage elsewhere by one request."""


class Shelf(Protocol):
    """Objects somewhere; raises :class:`MlspecError` for what the system refuses."""

    @property
    def where(self) -> str: ...
    def sizes(self) -> dict[str, int]:
        """The bytes of all objects, by md5."""

    def lists(self, md5s: Iterable[str]) -> dict[str, tuple[str, ...]]:
        """The objects that folders are made of, by the folder's md5; of those whole and there."""

    def remove(self, md5s: Sequence[str]) -> Iterator[str]:
        """Take objects away; each, when it is gone."""


@dataclass(frozen=True, slots=True)
class FolderShelf:
    """The objects below a folder of this machine."""

    root: Path

    @property
    def where(self) -> str:
        return str(self.root)

    def sizes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        try:
            with _opened(self.root, "files/md5") as top:
                if top is None:
                    return found
                for name in sorted(os.listdir(top)):  # noqa: PTH208
                    if len(name) == 2 and _REST.fullmatch(name + "0" * 28):
                        found.update(_objects(top, name))
        except OSError as error:
            raise unusable(error) from error
        return found

    def lists(self, md5s: Iterable[str]) -> dict[str, tuple[str, ...]]:
        return {
            md5: listing
            for md5 in md5s
            if (listing := read_list(md5, self._bytes(md5))) is not None
        }

    def remove(self, md5s: Sequence[str]) -> Iterator[str]:
        for md5 in md5s:
            try:
                with _opened(self.root, f"files/md5/{md5[:2]}") as folder:
                    if folder is not None and _is_file(folder, md5[2:]):
                        os.unlink(md5[2:], dir_fd=folder)
                        yield md5
            except FileNotFoundError:
                continue
            except OSError as error:
                raise unusable(error) from error

    def _bytes(self, md5: str) -> bytes:
        try:
            return (self.root / object_path(md5)).read_bytes()
        except OSError:
            return b""


@dataclass(frozen=True, slots=True)
class RemoteShelf:
    """Storage that DVC itself has to reach."""

    dvc: Dvc
    where: str

    def sizes(self) -> dict[str, int]:
        return {md5: size for md5, size in self.dvc.sizes().items() if _looks_right(md5)}

    def lists(self, md5s: Iterable[str]) -> dict[str, tuple[str, ...]]:
        texts = self.dvc.read_lists(sorted(md5s))
        lists = {md5: read_list(md5, text.encode()) for md5, text in texts.items()}
        return {md5: listing for md5, listing in lists.items() if listing is not None}

    def remove(self, md5s: Sequence[str]) -> Iterator[str]:
        # by one request objects go in any order, and folders must go before their files
        folders = [md5 for md5 in md5s if md5.endswith(DIRECTORY)]
        files = [md5 for md5 in md5s if not md5.endswith(DIRECTORY)]
        for part in (folders, files):
            for start in range(0, len(part), _AT_ONCE):
                some = part[start : start + _AT_ONCE]
                self.dvc.remove(some)
                yield from some


def read_list(md5: str, data: bytes) -> tuple[str, ...] | None:
    """What a folder's own object says; none if it is not there or not whole."""
    if md5_of_bytes(data) != md5.removesuffix(DIRECTORY):
        return None
    try:
        return tuple(str(item["md5"]) for item in json.loads(data))
    except (ValueError, TypeError, KeyError):
        return None


def in_order(md5s: Iterable[str]) -> list[str]:
    """Folders first: DVC takes the files of a folder that is there to be there too."""
    return sorted(md5s, key=lambda md5: (not md5.endswith(DIRECTORY), md5))


def remove_empty_runs(root: Path, freed: frozenset[str]) -> int:
    """Take entries of DVC's run cache away that name a freed output; how many went."""
    gone = 0
    for path in sorted((root / "runs").glob("[0-9a-f][0-9a-f]/*/*")):
        if path.is_symlink() or not path.is_file() or path.stat().st_size > 2**20:
            continue
        outs = path.read_bytes().partition(b"\nouts:")[2].decode("utf-8", "replace")
        if not freed.isdisjoint(re.findall(r"md5: ([0-9a-f]{32}(?:\.dir)?)", outs)):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
                gone += 1
    return gone


def _objects(top: int, name: str) -> Iterator[tuple[str, int]]:
    try:
        folder = os.open(name, _FOLDER, dir_fd=top)
    except (NotADirectoryError, FileNotFoundError):
        return
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link
            return
        raise
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if _REST.fullmatch(entry.name):
                    found = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(found.st_mode):
                        yield name + entry.name, found.st_size
    finally:
        os.close(folder)


@contextmanager
def _opened(root: Path, below: str) -> Iterator[int | None]:
    """A folder below `root`, reached through no link; none if there is no such folder."""
    handles: list[int] = []
    try:
        try:
            handles.append(os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            for name in below.split("/"):
                handles.append(os.open(name, _FOLDER, dir_fd=handles[-1]))
        except (FileNotFoundError, NotADirectoryError):
            yield None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            yield None
        else:
            yield handles[-1]
    finally:
        for handle in handles:
            os.close(handle)


def _is_file(folder: int, name: str) -> bool:
    found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    return bool(_REST.fullmatch(name)) and stat.S_ISREG(found.st_mode)


def _looks_right(md5: str) -> bool:
    return bool(re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5))
