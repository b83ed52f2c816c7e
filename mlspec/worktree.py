"""The files of a repository, as planning reads them.

Comes in: paths from the root, with `/`. Goes out: digests, equal to those that DVC computes.

A digest is cached with the file's inode, size and times, so that a file that did not change is not
read again. A :class:`Watch` collects what was looked at meanwhile, so that a later run can tell by
the same stamps (:class:`Stamps`) whether looking again would show anything else.
"""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from mlspec.cache import Cache
from mlspec.dvc.hashing import FileDigest, md5_of_dir, md5_of_file, sha256_of_file
from mlspec.errors import MlspecError

RACE = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system. A file touched so shortly before it was read
may change once more without a trace, so its digest is not remembered."""
IGNORED_BY_DVC = frozenset({".git", ".hg", ".dvc"})
OWN_FOLDER = "/.mlspec/"
"""As the generated `.dvcignore` has it."""
LISTED = "/"
"""Ends a path whose names were listed; without it only what it is was looked at."""


class Stamp(NamedTuple):
    """What tells a file from what it was before: it changes when the content does."""

    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


ABSENT = Stamp(0, 0, 0, 0)
FOLDER = Stamp(-1, 0, 0, 0)
"""Of a folder only that it is one: whatever comes and goes in it."""
UNREADABLE = Stamp(-2, 0, 0, 0)

T = TypeVar("T")


@dataclass(slots=True)
class Watch:
    """The paths that were looked at, there or not; a folder whose names were listed ends in `/`."""

    paths: set[str] = field(default_factory=set)


class Stamps:
    """The stamps of paths below a folder, many at a time."""

    def __init__(self, base: str) -> None:
        self._base = f"{base}/"

    def read(self, paths: Iterable[str]) -> bytes:
        """The stamps of `paths` as they are now, 32 bytes each."""
        stamps = array("q")
        base, lstat, add = self._base, os.lstat, stamps.extend
        for path in paths:
            try:
                found = lstat(base + path)
            except FileNotFoundError:
                add(ABSENT)
                continue
            except (OSError, ValueError):
                add(_stamp_at(base + path))
                continue
            if found.st_mode & 0o170000 == 0o100000:
                add((found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns))
            else:
                add(_stamp_at(base + path))
        return stamps.tobytes()


STAMP_BYTES = struct.calcsize("4q")


def _stamp_at(whole: str) -> Stamp:
    """The stamp of anything: absent, a folder, one whose names are listed, a link, a file."""
    listed = whole.endswith(LISTED)
    try:
        found = os.lstat(whole.rstrip(LISTED))
        if stat.S_ISLNK(found.st_mode):
            behind = stamp_of(os.stat(whole), listed=listed)  # noqa: PTH116
            return behind._replace(inode=hash((behind.inode, *stamp_of(found))) >> 1)
    except (FileNotFoundError, NotADirectoryError):
        return ABSENT
    except (OSError, ValueError):
        return UNREADABLE
    return stamp_of(found, listed=listed)


def stamp_of(found: os.stat_result, *, listed: bool = False) -> Stamp:
    """The stamp of what `stat` found."""
    if stat.S_ISDIR(found.st_mode):
        return Stamp(found.st_ino, -1, found.st_mtime_ns, found.st_ctime_ns) if listed else FOLDER
    return Stamp(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


class Worktree:
    """Reads below `root`."""

    def __init__(self, root: Path, cache: Cache | None = None) -> None:
        self.root = root.resolve()
        self.cache = cache
        self._base = str(self.root)
        self._known: dict[str, FileDigest | None] = {}
        self._shared: dict[str, tuple[object, frozenset[str]]] = {}
        self._below: dict[str, set[str]] = {}
        """What of these two lies in a folder, but for the newest of them."""
        self._newest: list[str] = []
        self._stamps: dict[str, Stamp] = {}
        self._moving: set[str] = set()
        self._watch: Watch | None = None
        self._inside: set[str] = set()
        self._tracked: frozenset[str] | None = None
        self._index = ""
        self._ignores: Callable[[str], bool] | None = None

    @contextmanager
    def watch(self) -> Iterator[Watch]:
        """Collect what is looked at within; a watch within another one is part of it."""
        outer, self._watch = self._watch, Watch()
        try:
            yield self._watch
        finally:
            if outer is not None:
                outer.paths |= self._watch.paths
            self._watch = outer

    def shared(self, key: str, find: Callable[[], T]) -> T:
        """What `find` finds, once for all who ask for `key`; each has then looked at the same."""
        if key not in self._shared:
            with self.watch() as watch:
                found = find()
            self._shared[key] = found, frozenset(watch.paths)
            self._newest.append(key)
        value, paths = self._shared[key]
        if self._watch is not None:
            self._watch.paths |= paths
        return value  # type: ignore[return-value]

    def stamps(self, paths: Iterable[str], now: int) -> bytes | None:
        """The stamps of `paths` as they were when first looked at, 32 bytes each.

        None if they can not tell: one changed meanwhile or may change without a trace, being so new
        at `now` (nanoseconds since 1970).
        """
        stamps = array("q")
        for path in paths:
            stamp = self._stamps[path]
            if path in self._moving or max(stamp.mtime_ns, stamp.ctime_ns) >= now - RACE:
                return None
            stamps.extend(stamp)
        return stamps.tobytes()

    def _note(self, path: str, stamp: Stamp) -> None:
        if self._stamps.setdefault(path, stamp) != stamp:
            self._moving.add(path)
        if self._watch is not None:
            self._watch.paths.add(path)

    def digest(self, path: str) -> FileDigest | None:
        """What the file or folder `path` holds now, as DVC would say; None if there is none."""
        if path not in self._known:
            self._newest.append(path)
            found = self._stat(path)
            if found is None or not stat.S_ISDIR(found.st_mode):
                self._known[path] = found and FileDigest(self._md5(path, found), found.st_size)
            else:
                self._known[path] = self.shared(path, lambda: self._digest_folder(path))
        elif self._watch is not None:
            self._watch.paths.add(path)
            if path in self._shared:
                self._watch.paths |= self._shared[path][1]
        return self._known[path]

    def forget(self, *paths: str) -> None:
        """Look anew at what was read once: `paths` and all that lies in or above them, or all."""
        if not paths:
            self._known.clear()
            self._shared.clear()
            self._below.clear()
            self._newest.clear()
        for known in self._newest:
            for folder in _folders(known):
                self._below.setdefault(folder, set()).add(known)
        self._newest.clear()
        for path in paths:
            for known in (path, *_folders(path), *self._below.pop(path, ())):
                self._known.pop(known, None)
                self._shared.pop(known, None)

    def recorded_digest(self, path: str) -> FileDigest | None:
        """What `<path>.dvc` says the data are, present or not; None if there is no such file."""
        text = self.read_text(f"{path}.dvc")
        if text is None:
            return None
        from mlspec.dvc.lock import parse_data_file

        return parse_data_file(text, f"{path}.dvc")

    def exists(self, path: str) -> bool:
        """Whether there is a file or folder at `path`."""
        return self._stat(path) is not None

    def is_file(self, path: str) -> bool:
        """Whether `path` is a regular file, or a link to one within the repository."""
        found = self._stat(path)
        return found is not None and stat.S_ISREG(found.st_mode)

    def is_folder(self, path: str) -> bool:
        """Whether `path` is a folder, or a link to one within the repository."""
        found = self._stat(path)
        return found is not None and stat.S_ISDIR(found.st_mode)

    def is_tracked(self, path: str) -> bool:
        """Whether Git's index has the file `path`; false outside of a Git repository."""
        if self._tracked is None:
            self._index = self._git("rev-parse", "--git-path", "index").strip()
            self._tracked = frozenset(self._git("ls-files", "-z").split("\0"))
        if self._index:
            where = os.path.relpath(self.root / self._index, self.root)
            self._note(where, _stamp_at(f"{self._base}/{where}"))
        return path in self._tracked

    def _git(self, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=self.root, capture_output=True, check=False)
        return os.fsdecode(done.stdout) if done.returncode == 0 else ""

    def read_text(self, path: str) -> str | None:
        """The text of a regular file in UTF-8; None if there is none."""
        data = self.read_bytes(path)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise MlspecError(f"{path} is not UTF-8 text") from error

    def read_bytes(self, path: str) -> bytes | None:
        """The bytes of a regular file; None if there is none."""
        found = self._stat(path)
        if found is None or not stat.S_ISREG(found.st_mode):
            return None
        handle = os.open(f"{self._base}/{path}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.read(handle, found.st_size + 1)
            if len(data) == found.st_size:
                return data
            with open(handle, "rb", buffering=0, closefd=False) as file:
                return data + file.read()
        finally:
            os.close(handle)

    def files_below(self, path: str) -> Iterator[str]:
        """Every regular file below the folder `path` (the root: "") that DVC would count."""
        for name in self._names(path):
            below = f"{path}/{name}" if path else name
            found = self._stat(below)
            if found is None:
                continue
            if stat.S_ISDIR(found.st_mode):
                yield from self.files_below(below)
            else:
                yield below

    def _digest_folder(self, path: str) -> FileDigest:
        files = {}
        size = 0
        for file in self.files_below(path):
            inner = self._stat(file)
            if inner is not None:
                files[file.removeprefix(f"{path}/")] = self._md5(file, inner)
                size += inner.st_size
        return FileDigest(md5_of_dir(files), size, len(files))

    def sha256(self, path: str) -> str | None:
        """The sha256 of a regular file in hex; None if there is none."""
        found = self._stat(path)
        if found is None or not stat.S_ISREG(found.st_mode):
            return None
        return self._remembered("sha256", path, found, lambda: sha256_of_file(self.root / path))

    def _md5(self, path: str, found: os.stat_result) -> str:
        whole = f"{self._base}/{path}"
        return self._remembered("digests", path, found, lambda: md5_of_file(whole, found.st_size))

    def _remembered(
        self, table: str, path: str, found: os.stat_result, find: Callable[[], str]
    ) -> str:
        """What `find` finds in the bytes of a file, read once while its stamp is the same."""
        stamp = stamp_of(found)
        key = b"%d %d %d %d " % stamp
        kept = self.cache.get(table, path) if self.cache is not None else None
        if kept is not None and kept.startswith(key):
            return kept.removeprefix(key).decode()
        began = time.time_ns()
        try:
            digest = find()
        except OSError as error:
            raise MlspecError(f"cannot read {path}: {error.strerror}") from error
        if self.cache is not None and max(stamp.mtime_ns, stamp.ctime_ns) < began - RACE:
            self.cache.put(table, path, key + digest.encode())
        return digest

    def _stat(self, path: str) -> os.stat_result | None:
        """Follows links, not out of the repository; refuses what would block or never end."""
        whole = f"{self._base}/{path}"
        try:
            found = os.lstat(whole)
            if stat.S_ISLNK(found.st_mode):
                self._note(path, _stamp_at(whole))
                real = os.path.realpath(whole, strict=True)
                self._check_inside(path, real)
                found = os.lstat(real)
            else:
                self._note(path, stamp_of(found))
        except (FileNotFoundError, NotADirectoryError):
            self._note(path, ABSENT)
            return None
        except OSError as error:
            raise MlspecError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise MlspecError(f"{path!r} is not a path") from error
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise MlspecError(f"{path} is neither a file nor a folder")
        self._check_parent(path, whole.rstrip("/").rpartition("/")[0])
        return found

    def _check_parent(self, path: str, parent: str) -> None:
        """A folder in one that lies inside does so too, unless it is a link."""
        if parent in self._inside:
            return
        if not parent.startswith(f"{self._base}/") or "/../" in f"{parent}/":
            self._check_inside(path, os.path.realpath(parent))
        else:
            self._check_parent(path, parent.rpartition("/")[0])
            if os.path.islink(parent):  # noqa: PTH114
                self._check_inside(path, os.path.realpath(parent))
        self._inside.add(parent)

    def check_place(self, path: str) -> None:
        """Raise if what is written at `path` would end up outside, through a link."""
        self._check_inside(path, os.path.realpath(f"{self._base}/{path}".rpartition("/")[0]))

    def _check_inside(self, path: str, real: str) -> None:
        if real != self._base and not real.startswith(f"{self._base}/"):
            raise MlspecError(
                f"{path} leads out of the repository, to {real}",
                hint="copy the data into the repository, or give the dataset a source",
            )

    def _names(self, folder: str) -> list[str]:
        ignored = self._ignored()
        base = f"{folder}/" if folder else ""
        listing = f"{folder}{LISTED}"
        self._note(listing, _stamp_at(f"{self._base}/{listing}"))
        try:
            with os.scandir(f"{self._base}/{folder}") as entries:
                return sorted(
                    entry.name
                    for entry in entries
                    if entry.name not in IGNORED_BY_DVC
                    and not ignored(f"{base}{entry.name}{'/' if entry.is_dir() else ''}")
                    # DVC does not follow a link to a folder
                    and not (entry.is_symlink() and entry.is_dir())
                )
        except OSError as error:
            raise MlspecError(f"cannot read {folder}: {error.strerror}") from error

    def _ignored(self) -> Callable[[str], bool]:
        if self._ignores is None:
            self._ignores = _make_ignores(self.read_text(".dvcignore") or "")
        else:
            self._stat(".dvcignore")
        return self._ignores


def _make_ignores(text: str) -> Callable[[str], bool]:
    patterns = [line.strip() for line in text.splitlines()]
    patterns = [line for line in patterns if line and not line.startswith("#")]
    if patterns in ([], [OWN_FOLDER]):
        return OWN_FOLDER[1:].__eq__
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns).match_file


def _folders(path: str) -> Iterator[str]:
    """The folders that `path` lies in, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path
