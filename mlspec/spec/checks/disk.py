"""What the spec names on disk: links, pipes, folders and the lines of the requirements."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from mlspec.spec import tree
from mlspec.spec.checks.paths import declared
from mlspec.spec.files import UnreadableError, kind_of, read_inside
from mlspec.spec.models import Spec
from mlspec.spec.show import escape, show
from mlspec.spec.tree import Problem

_REQUIREMENTS = ("python", "requirements")
_REQUIREMENT = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*+\s*+(?:\[[A-Za-z0-9._,\s-]*+\])?\s*+"
    r"(?:(?:===?|[<>!~]=?)\s*+[A-Za-z0-9.*+!_-]++\s*+,?\s*+)*+(?:;.*)?"
)
_LONGEST_LINE = 4096
_HASH = re.compile(r"\s+--hash=sha(?:256|384|512):[0-9a-f]+")


def check_files(spec: Spec, root: Path) -> Iterator[Problem]:
    """Problems of what is on disk; a path where nothing is yet has none."""
    base = Path(os.path.realpath(root))
    folders: set[str] = set()
    for at, path, _ in declared(spec):
        if _is_relative(path) and at != _REQUIREMENTS and not _is_ordinary(path, base, folders):
            yield from _check_disk(at, path, root, base)
    yield from _requirements(spec, root)


def _is_relative(path: str) -> bool:
    return not path.startswith("/") and ".." not in path.split("/") and "\0" not in path


def _is_ordinary(path: str, base: Path, folders: set[str]) -> bool:
    """Whether no link is on the way to a file or folder, or to where one will be.

    `folders` are known to be so; the paths of a big spec have most of theirs in common.
    """
    for end in [*(match.start() for match in re.finditer("/", path)), len(path)]:
        part = path[:end]
        if part in folders:
            continue
        try:
            mode = os.lstat(f"{base}/{part}").st_mode
        except FileNotFoundError:
            return True
        except OSError:
            return False
        if stat.S_ISDIR(mode):
            folders.add(part)
        else:
            return stat.S_ISREG(mode) and end == len(path)
    return True


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
