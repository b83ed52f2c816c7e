"""The files of a repository, as planning reads them.

Comes in: paths from the root, with `/`. Goes out: digests, equal to those that DVC computes.

A digest is remembered under `.mlspec/cache` with the file's inode, size and times, so that a file
that did not change is not read again. What is remembered is never trusted further than that: a
memory that can't be read, is of another format or can't be written is ignored.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlspec.dvc.hashing import FileDigest, md5_of_dir, md5_of_file
from mlspec.errors import MlspecError

CACHE = Path(".mlspec", "cache")
FORMAT = 1
RACE = 2_000_000_000
"""Nanoseconds: the coarsest clock of a file system. A file touched so shortly before it was read
may change once more without a trace, so its digest is not remembered."""
IGNORED_BY_DVC = frozenset({".git", ".hg", ".dvc"})
OWN_FOLDER = "/.mlspec/"
"""As the generated `.dvcignore` has it."""
MOST_ENTRIES = 500_000

Stamp = tuple[int, int, int, int]


class Memory:
    """A JSON object on disk that may vanish at any time; keys and values are the caller's."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[str, Any] | None = None
        self._seen: set[str] = set()
        self._changed = False

    def get(self, key: str) -> Any:
        """The value of `key`, or None; a value was made by :meth:`put`, perhaps by another run."""
        self._seen.add(key)
        return self._loaded().get(key)

    def put(self, key: str, value: Any) -> None:
        self._seen.add(key)
        self._loaded()[key] = value
        self._changed = True

    def save(self) -> None:
        """Write what is new, whole or not at all."""
        if not self._changed:
            return
        entries = self._loaded()
        if len(entries) > MOST_ENTRIES:
            entries = {key: value for key, value in entries.items() if key in self._seen}
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _write_atomically(self._path, json.dumps({"format": FORMAT, "entries": entries}))
        self._changed = False

    def _loaded(self) -> dict[str, Any]:
        if self._entries is None:
            self._entries = {}
            with contextlib.suppress(OSError, ValueError, RecursionError):
                data = json.loads(self._path.read_bytes())
                if isinstance(data, dict) and data.get("format") == FORMAT:
                    entries = data.get("entries")
                    self._entries = entries if isinstance(entries, dict) else {}
        return self._entries


class Worktree:
    """Reads below `root`. Use it as a context manager, or call :meth:`close` to keep its memory."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        self._base = str(self.root)
        self._digests = Memory(self.root / CACHE / "digests.json")
        self._memories = {"digests": self._digests}
        self._known: dict[str, FileDigest | None] = {}
        self._inside: set[str] = set()
        self._tracked: frozenset[str] | None = None
        self._ignores: Callable[[str], bool] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Keep what was learnt for the next run."""
        for memory in self._memories.values():
            memory.save()

    def memory(self, name: str) -> Memory:
        """A memory beside the digests, saved with them: for what others derive from a digest."""
        if name not in self._memories:
            self._memories[name] = Memory(self.root / CACHE / f"{name}.json")
        return self._memories[name]

    def digest(self, path: str) -> FileDigest | None:
        """What the file or folder `path` holds now, as DVC would say; None if there is none."""
        if path not in self._known:
            self._known[path] = self._digest(path)
        return self._known[path]

    def forget(self, *paths: str) -> None:
        """Look anew at what was read once: `paths` and all that lies in or above them, or all."""
        if not paths:
            self._known.clear()
        for path in paths:
            for known in list(self._known):
                if _overlap(known, path):
                    del self._known[known]

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
            listed = subprocess.run(
                ["git", "ls-files", "-z"], cwd=self.root, capture_output=True, check=False
            )
            self._tracked = frozenset(os.fsdecode(listed.stdout).split("\0"))
        return path in self._tracked

    def read_text(self, path: str) -> str | None:
        """The text of a regular file in UTF-8; None if there is none."""
        data = self.read_bytes(path)
        try:
            return None if data is None else data.decode()
        except UnicodeDecodeError as error:
            raise MlspecError(f"{path} is not UTF-8 text") from error

    def read_bytes(self, path: str) -> bytes | None:
        """The bytes of a regular file; None if there is none."""
        return (self.root / path).read_bytes() if self.is_file(path) else None

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

    def _digest(self, path: str) -> FileDigest | None:
        found = self._stat(path)
        if found is None:
            return None
        if not stat.S_ISDIR(found.st_mode):
            return FileDigest(self._md5(path, found), found.st_size)
        files = {}
        size = 0
        for file in self.files_below(path):
            inner = self._stat(file)
            if inner is not None:
                files[file.removeprefix(f"{path}/")] = self._md5(file, inner)
                size += inner.st_size
        return FileDigest(md5_of_dir(files), size, len(files))

    def _md5(self, path: str, found: os.stat_result) -> str:
        stamp = _stamp(found)
        match self._digests.get(path):
            case [[*known], str(md5)] if tuple(known) == stamp:
                return md5
        began = time.time_ns()
        try:
            md5 = md5_of_file(self.root / path)
        except OSError as error:
            raise MlspecError(f"cannot read {path}: {error.strerror}") from error
        if max(found.st_mtime_ns, found.st_ctime_ns) < began - RACE:
            self._digests.put(path, [list(stamp), md5])
        return md5

    def _stat(self, path: str) -> os.stat_result | None:
        """Follows links, not out of the repository; refuses what would block or never end."""
        whole = f"{self._base}/{path}"
        try:
            found = os.lstat(whole)
            if stat.S_ISLNK(found.st_mode):
                real = os.path.realpath(whole, strict=True)
                self._check_inside(path, real)
                found = os.lstat(real)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise MlspecError(f"cannot read {path}: {error.strerror}") from error
        except ValueError as error:
            raise MlspecError(f"{path!r} is not a path") from error
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            raise MlspecError(f"{path} is neither a file nor a folder")
        parent = whole.rstrip("/").rpartition("/")[0]
        if parent not in self._inside:
            self._check_inside(path, os.path.realpath(parent))
            self._inside.add(parent)
        return found

    def _check_inside(self, path: str, real: str) -> None:
        if real != self._base and not real.startswith(f"{self._base}/"):
            raise MlspecError(
                f"{path} leads out of the repository, to {real}",
                hint="copy the data into the repository, or give the dataset a source",
            )

    def _names(self, folder: str) -> list[str]:
        ignored = self._ignored()
        base = f"{folder}/" if folder else ""
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
        return self._ignores


def _make_ignores(text: str) -> Callable[[str], bool]:
    patterns = [line.strip() for line in text.splitlines()]
    patterns = [line for line in patterns if line and not line.startswith("#")]
    if patterns in ([], [OWN_FOLDER]):
        return OWN_FOLDER[1:].__eq__
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(patterns).match_file


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _overlap(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")


def _write_atomically(path: Path, text: str) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as file:
            file.write(text)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise
