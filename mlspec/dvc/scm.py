"""What DVC asks of Git about an output: is it tracked, is it ignored? And `.gitignore` itself.

Comes in: paths of outputs. Goes out: lines in the `.gitignore` beside each, as DVC writes them.
"""

from __future__ import annotations

import os
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from mlspec.dvc.settings import Unusual
from mlspec.git import Git

if TYPE_CHECKING:
    from dulwich.ignore import IgnoreFilterManager

_SPECIAL = re.compile(r"[\[\]!*#?\\]|^\s|\s$")
"""Of a name: what has a meaning in a `.gitignore`."""


class Scm:
    """One worktree of Git at `root`."""

    def __init__(self, root: Path, git: Git) -> None:
        self._root = root
        self._git = git
        self._tracked: tuple[tuple[int, ...], frozenset[str]] = ((), frozenset())

    def is_tracked(self, path: str) -> bool:
        """Whether Git's index has the file `path`, or a file below it."""
        try:
            found = self._index.stat()
        except FileNotFoundError:
            return False
        stamp = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if stamp != self._tracked[0]:
            files = self._git.run("ls-files", "-z").split("\0")
            paths = {file[:end] for file in files for end in _ends(file)}
            self._tracked = stamp, frozenset(paths)
        return path in self._tracked[1]

    def listed(self, path: str) -> bool:
        """Whether the `.gitignore` beside `path` has it, and no line that could take it back."""
        text = self._read(path)
        return f"\n{_entry(path)}\n" in f"\n{text}" and "\n!" not in f"\n{text}"

    def ignored(self) -> IgnoreFilterManager:
        """Answers by DVC's own rules whether a path is ignored."""
        from dulwich.ignore import IgnoreFilter, IgnoreFilterManager

        paths = (self._folder / "info/exclude", self._excludes)
        filters = [IgnoreFilter.from_path(path) for path in paths if path.is_file()]
        caseless = self._git.config.get("core.ignorecase", "").lower() == "true"
        return IgnoreFilterManager(str(self._root), filters, caseless)

    def ignore(self, path: str) -> None:
        """Add a line for `path` to the `.gitignore` beside it."""
        text = self._read(path)
        start = "" if not text or text.endswith("\n") else "\n"
        line = f"{start}{_entry(path)}\n".encode()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(self._beside(path), flags, 0o666)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError(28, os.strerror(28), str(self._beside(path)))
        finally:
            os.close(descriptor)

    def _read(self, path: str) -> str:
        try:
            with self._beside(path).open(encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return ""
        except ValueError as error:
            raise Unusual from error

    def _beside(self, path: str) -> Path:
        return (self._root / path).with_name(".gitignore")

    @cached_property
    def _folder(self) -> Path:
        """Git's folder for this worktree."""
        return Path(self._git.run("rev-parse", "--absolute-git-dir"))

    @cached_property
    def _index(self) -> Path:
        return self._root / self._git.run("rev-parse", "--git-path", "index")

    @property
    def _excludes(self) -> Path:
        """The user's own file of patterns."""
        given = self._git.config.get("core.excludesfile")
        home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return Path(given or f"{home}/git/ignore").expanduser()


def _entry(path: str) -> str:
    name = path.rpartition("/")[2]
    if _SPECIAL.search(name):
        raise Unusual
    return f"/{name}"


def _ends(file: str) -> list[int]:
    """Where the path of a file and those of the folders that it lies in end."""
    return [at for at, char in enumerate(file) if char == "/"] + [len(file)]
