"""What DVC asks of Git about an output: is it tracked, is it ignored? And `.gitignore` itself.

Comes in: paths of outputs. Goes out: lines in the `.gitignore` beside each, as DVC writes them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from mlspec.atomic import write_together
from mlspec.dvc.settings import Unusual
from mlspec.git import Git

_SPECIAL = re.compile(r"[\[\]!*#?\\]|^\s|\s$")
"""Of a name: what has a meaning in a `.gitignore`."""

_SIMPLE = re.compile(r"[\w./ *?+@=,~%-]+")
"""A pattern that means what it seems to."""
_ONE_NAME = re.compile(r"(?m)^/[\w.+@=,~%-]+/?$")
"""A pattern about just that name beside the file: all that most such files have."""


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
        text = self._text(self._beside(path))
        return f"\n{_entry(path)}\n" in f"\n{text}" and "\n!" not in f"\n{text}"

    def ignored(self, paths: Iterable[str]) -> frozenset[str]:
        """Those of `paths` that any of Git's files of patterns has it ignore."""
        texts: dict[str, str] = {}
        doubtful = [path for path in paths if self._may_be_ignored(path, texts)]
        if not doubtful:
            return frozenset()
        asked = "\0".join(doubtful).encode()
        said = self._git.call("check-ignore", "--no-index", "-z", "--stdin", stdin=asked)
        if said.returncode > 1:
            raise self._git.failure("check-ignore", said.stderr)
        return frozenset(said.stdout.decode().split("\0"))

    def _may_be_ignored(self, path: str, texts: dict[str, str]) -> bool:
        """`texts` are the files of patterns that were read already."""
        parts = path.split("/")
        files = [(self._exclude, 0), (self._excludes, 0)]
        files += [(self._beside("/".join(parts[: at + 1])), at) for at in range(len(parts))]
        for file, at in files:
            text = texts.get(file)
            if text is None:
                text = texts[file] = self._text(file)
            if text and _may_match(text, parts[at:]):
                return True
        return False

    def ignore(self, path: str) -> None:
        """Add a line for `path` to the `.gitignore` beside it."""
        file = self._beside(path)
        text = self._text(file)
        start = "" if not text or text.endswith("\n") else "\n"
        write_together({file: f"{text}{start}{_entry(path)}\n".encode()})

    def _text(self, path: str) -> str:
        try:
            with open(path, "rb", buffering=0) as file:  # noqa: PTH123
                return file.read().decode()
        except FileNotFoundError:
            return ""
        except ValueError as error:
            raise Unusual from error

    def _beside(self, path: str) -> str:
        folder, slash, _ = path.rpartition("/")
        return f"{self._root}/{folder}{slash}.gitignore"

    @cached_property
    def _exclude(self) -> str:
        return str(self._root / self._git.run("rev-parse", "--git-path", "info/exclude"))

    @cached_property
    def _index(self) -> Path:
        return self._root / self._git.run("rev-parse", "--git-path", "index")

    @cached_property
    def _excludes(self) -> str:
        """The user's own file of patterns."""
        given = self._git.config.get("core.excludesfile")
        home = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
        return os.path.expanduser(given or f"{home}/git/ignore")  # noqa: PTH111


def _entry(path: str) -> str:
    name = path.rpartition("/")[2]
    if _SPECIAL.search(name):
        raise Unusual
    return f"/{name}"


def _may_match(patterns: str, parts: Sequence[str]) -> bool:
    """Whether one of the patterns may be about the path of `parts`, or a folder that it is in."""
    patterns = f"\n{patterns.lower()}\n"
    names = [part.lower() for part in parts]
    if f"\n/{names[0]}\n" in patterns or f"\n/{names[0]}/\n" in patterns:
        return True
    path = "/".join([*names, ""])
    for line in _ONE_NAME.sub("", patterns).split("\n"):
        pattern = line.rstrip()
        if not pattern or pattern.startswith("#"):
            continue
        if not _SIMPLE.fullmatch(pattern):
            return True
        name = pattern.strip("/")
        if "/" in pattern.rstrip("/"):  # then it is a path from here
            if "*" in name or "?" in name or path.startswith(f"{name}/"):
                return True
        elif any(fnmatchcase(part, name) for part in names):
            return True
    return False


def _ends(file: str) -> list[int]:
    """Where the path of a file and those of the folders that it lies in end."""
    return [at for at, char in enumerate(file) if char == "/"] + [len(file)]
