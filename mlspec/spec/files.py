"""Reads the files of a spec: regular files inside the repository, whatever the names pretend."""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from mlspec.spec.characters import MAX_BYTES
from mlspec.spec.show import escape

MAX_FILES = 20_000
MAX_VISITED = 200_000


class UnreadableError(Exception):
    """A file that cannot be a part of the spec, and why."""


def read_inside(root: Path, relative: str) -> bytes:
    """The bytes of a file of the repository, up to one more than a spec file may have.

    Links are resolved first; then every component is opened without following links, so a link
    put there in between is refused, and without blocking, so a pipe is not waited for.
    """
    base = Path(os.path.realpath(root))
    try:
        resolved = Path(os.path.realpath(root / relative, strict=True))
    except FileNotFoundError:
        raise UnreadableError("there is no such file") from None
    except OSError as error:
        raise UnreadableError(_why(error)) from None
    if not resolved.is_relative_to(base):
        raise UnreadableError("it is a link that leaves the repository")
    try:
        return _read_parts(base, resolved.relative_to(base).parts)
    except OSError as error:
        raise UnreadableError(_why(error)) from None


def _read_parts(base: Path, parts: tuple[str, ...]) -> bytes:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts:
            inner = os.open(part, flags, dir_fd=handle)
            os.close(handle)
            handle = inner
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            raise UnreadableError(f"it is {kind_of(mode)}, not a file")
        with os.fdopen(os.dup(handle), "rb") as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(handle)


def kind_of(mode: int) -> str:
    """What a file's mode says it is, in words."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "a file")


def _why(error: OSError) -> str:
    return (error.strerror or "it cannot be read").lower()


def resolve_pattern(root: Path, pattern: str) -> list[str]:
    """The files that a path or a pattern of `include` names, relative to the root and sorted.

    Raises :class:`UnreadableError` for one that may lead elsewhere, or would look at too much.
    """
    check_relative(pattern)
    if not any(character in pattern for character in "*?["):
        return [os.path.normpath(pattern)]
    return expand(root, pattern)


def check_relative(path: str) -> None:
    """Raises :class:`UnreadableError` for a path or pattern that the spec may not read."""
    steps = path.split("/")
    if path.startswith(("/", "~")) or ".." in steps or "\\" in path or "$" in path:
        raise UnreadableError("it is not relative to the root file, or leaves its folder")
    if escape(path) != path or not path.strip("./"):
        raise UnreadableError("it is not a pattern of file names")
    if steps[0] in (".git", ".dvc", ".mlspec"):
        raise UnreadableError("nothing in this folder is a part of the spec")


def expand(root: Path, pattern: str) -> list[str]:
    """The files that a relative pattern names, sorted; `**` is any number of folders.

    Hidden folders are not entered and links to folders are not followed. Raises
    :class:`UnreadableError` when the pattern would look at too much.
    """
    steps = [step for step in pattern.split("/") if step not in ("", ".")]
    if steps.count("**") > 1:
        raise UnreadableError("`**` may stand once in a pattern")
    budget = iter(range(MAX_VISITED))
    found = sorted(set(_match(root, "", steps, budget)))
    if len(found) > MAX_FILES:
        raise UnreadableError(f"it names {len(found):,} files; the limit is {MAX_FILES:,}")
    return found


def _match(root: Path, prefix: str, steps: list[str], budget: Iterator[int]) -> Iterator[str]:
    step, rest = steps[0], steps[1:]
    fits = re.compile(fnmatch.translate(step)).match
    for entry in _entries(root / prefix, budget):
        name = entry.name
        if step != "**" and not fits(name):
            continue
        folder = entry.is_dir(follow_symlinks=False)
        path = f"{prefix}{name}"
        if step == "**":
            if folder and not name.startswith("."):
                yield from _match(root, f"{path}/", steps, budget)
        elif not name.startswith(".") or step.startswith("."):
            if rest and folder:
                yield from _match(root, f"{path}/", rest, budget)
            elif not rest and not folder:
                yield path
    if step == "**" and rest:
        yield from _match(root, prefix, rest, budget)


def _entries(folder: Path, budget: Iterator[int]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as scan:
            entries = []
            for entry in scan:
                if next(budget, None) is None:
                    raise UnreadableError(f"it would look at more than {MAX_VISITED:,} files")
                entries.append(entry)
            return entries
    except OSError as error:
        raise UnreadableError(_why(error)) from None
