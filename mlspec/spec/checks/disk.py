"""What the spec names on disk: links, pipes, folders and the lines of the requirements."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Container, Iterator
from pathlib import Path

from mlspec.spec import tree
from mlspec.spec.checks.paths import declared, declared_in
from mlspec.spec.files import UnreadableError, kind_of, read_inside
from mlspec.spec.models import Model, Spec
from mlspec.spec.paths import parents
from mlspec.spec.show import escape, show
from mlspec.spec.tree import Problem

_REQUIREMENTS = ("python", "requirements")
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*+\s*+(?:\[[A-Za-z0-9._,\s-]*+\])?\s*+"
    r"(?:(?:===?|[<>!~]=?)\s*+[A-Za-z0-9.*+!_-]++\s*+,?\s*+)*+(?:;.*)?"
)
_LONGEST_LINE = 4096
_HASH = re.compile(r"\s+--hash=sha(?:256|384|512):[0-9a-f]+")


class Disk:
    """Looks at what is on disk; a path where nothing is yet has no problems."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._base = os.path.realpath(root)
        self._folders: set[str] = set()
        self._missing: set[str] = set()

    def check_head(self, spec: Spec) -> Iterator[Problem]:
        """Problems of what datasets name, and of the requirements."""
        for at, path, _ in declared(spec):
            if at != _REQUIREMENTS:
                yield from self._check(at, path)
        yield from _requirements(spec, self._root)

    def check_model(self, name: str, model: Model, datasets: Container[str]) -> Iterator[Problem]:
        """Problems of what a model names."""
        for at, path, _ in declared_in(name, model, datasets):
            yield from self._check(at, path)

    def _check(self, at: tree.Path, path: str) -> Iterator[Problem]:
        if _is_relative(path) and not self._is_ordinary(path):
            yield from _check_disk(at, path, self._root, Path(self._base))

    def _is_ordinary(self, path: str) -> bool:
        """Whether no link is on the way to a file or folder, or to where one will be."""
        folder = path.rpartition("/")[0]
        if folder and folder not in self._folders:
            if folder in self._missing:
                return True
            for parent in (*parents(folder), folder):
                if parent in self._folders:
                    continue
                mode = self._mode(parent)
                if mode is None:
                    self._missing.add(folder)
                    return True
                if not stat.S_ISDIR(mode):
                    return False
                self._folders.add(parent)
        mode = self._mode(path)
        return mode is None or stat.S_ISREG(mode) or stat.S_ISDIR(mode)

    def _mode(self, path: str) -> int | None:
        """What is at `path`; none if nothing is; 0, which is no kind of file, if nobody can say."""
        try:
            return os.lstat(f"{self._base}/{path}").st_mode
        except FileNotFoundError:
            return None
        except (OSError, ValueError):
            return 0


def _is_relative(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/") and "\0" not in path


def _check_disk(at: tree.Path, path: str, root: Path, base: Path) -> Iterator[Problem]:
    try:
        resolved = Path(os.path.realpath(root / path, strict=True))
        mode = resolved.stat().st_mode
    except FileNotFoundError:
        # What a link leads to may be missing; where it leads is known all the same.
        resolved, mode = Path(os.path.realpath(root / path)), stat.S_IFREG
    except OSError as error:
        why = (error.strerror or "it cannot be read").lower()
        yield Problem("MLS062", at, f"cannot be followed: {why}", "remove the link")
        return
    if not resolved.is_relative_to(base) and not _is_cache_link(root / path):
        hint = "copy the data into the repository, or declare a dataset with a `source`"
        yield Problem("MLS062", at, "a link leads out of the repository", hint)
    elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        yield Problem("MLS063", at, f"is {kind_of(mode)}, not a file or a folder", "use a file")


def _is_cache_link(path: Path) -> bool:
    """Whether DVC put the link there: its cache may lie outside, its files are named by hash."""
    return (
        path.is_symlink()
        and re.search(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}(?:\.dir)?$", str(path.readlink()))
        is not None
    )


def _requirements(spec: Spec, root: Path) -> Iterator[Problem]:
    at = _REQUIREMENTS
    relative = spec.python.requirements
    if not _is_relative(relative) or not os.path.lexists(root / relative):
        return
    try:
        text = read_inside(root, relative).decode()
    except (UnreadableError, UnicodeDecodeError) as error:
        why = str(error) if isinstance(error, UnreadableError) else "it is not UTF-8"
        yield Problem("MLS063", at, f"cannot read {show(relative)}: {why}", "use a text file")
        return
    file = tree.File(relative, tuple(text.splitlines()))
    for number, line in enumerate(file.lines, start=1):
        wanted = _HASH.sub("", re.sub(r"(?:^|\s)#.*", "", line).rstrip("\\ ")).strip()
        plain = len(wanted) <= _LONGEST_LINE and _REQUIREMENT.fullmatch(wanted)
        if wanted and (escape(wanted) != wanted or not plain):
            hint = "write NAME==VERSION; index and find-links belong to pip's own configuration"
            message = f"not a plain requirement: {show(wanted)}"
            place = file.place(number, 1, len(line))
            yield Problem("MLS071", at, message, hint, place=place)
