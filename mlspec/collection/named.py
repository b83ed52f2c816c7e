"""What Git's commits and the checkouts name: objects, and versions that a spec pins.

Comes in: a repository. Goes out: :class:`Named`. Whatever cannot be read raises: it may name what
is needed. Each content is read once, however many commits have it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

from mlspec.atomic import OWN
from mlspec.dvc.needs import PATTERNS, is_of_dvc, made_by, named_in
from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.git.trees import (
    Trees,
    Worktree,
    check_all_fetched,
    every_commit,
    find_tips,
    list_worktrees,
    read_blobs,
)
from mlspec.planner.known import Pin

_MODULE = "160000"
"""How Git marks a submodule where a file may be."""
_SPECS = ("*.yaml", "*.yml")
_FEW = 500
"""Of so many tips it is told which of them keeps something."""
_NUMBER = re.compile(rb"(?<![\w.])[1-9][0-9]{0,8}(?![\w.])")
_NEAR = 500
"""Bytes after a key that are searched for numbers where a spec is no YAML."""


@dataclass(slots=True)
class Named:
    """`tips` are commits by id, with a name; `named` are objects that these need, with whose.

    `quarantined` are versions of any model that a spec anywhere does not let serve.
    `made` and `data` are outputs and data of any commit, `mentioned` is all that any names.
    """

    tips: Mapping[str, str]
    named: dict[str, str] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)
    data: set[str] = field(default_factory=set)
    mentioned: set[str] = field(default_factory=set)
    pins: list[Pin] = field(default_factory=list)
    quarantined: set[int] = field(default_factory=set)

    def need(self, files: Iterable[tuple[str, bytes]], by: str) -> None:
        """Take what these files name as needed."""
        for path, data in files:
            self._learn(path, data)
            for md5 in named_in(data, f"{path} ({by})"):
                self.named.setdefault(md5, by)

    def heed(self, specs: Iterable[tuple[str, bytes]], by: str) -> None:
        """Take what these files, which may be specs, say of versions."""
        for path, data in specs:
            if not path.endswith("dvc.yaml"):
                self.pins += pins_in(data, by)
                self.quarantined.update(quarantined_in(data))

    def mention(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Know what files of commits name that nobody names any more."""
        for path, data in files:
            self._learn(path, data)

    def _learn(self, path: str, data: bytes) -> None:
        (self.data if path.endswith(".dvc") else self.made).update(made_by(data))
        with suppress(MlspecError):
            self.mentioned |= named_in(data, path)


def find_named(git: Git, since: int) -> Named:
    """What all commits that have a name need, and those that are newer than `since`."""
    tips = find_tips(git)
    if git.remote:
        for oid, name in check_all_fetched(git, git.remote).items():
            tips.setdefault(oid, f"{name} of {git.remote}")
    found = Named(tips)
    for worktree in list_worktrees(git):
        if not worktree.path.is_dir():
            continue
        for files in (_checked_out(worktree, PATTERNS), _ignored(worktree)):
            found.need(files, f"the checkout {worktree.path}")
        found.heed(_checked_out(worktree, _SPECS), f"the checkout {worktree.path}")
    groups = [([oid], name) for oid, name in tips.items()]
    if len(groups) > _FEW:
        groups = [([*tips], "a branch or tag")]
    specs = Trees(git, *_SPECS)
    for commits, name in groups:
        found.heed(read_blobs(git, specs.new_files(commits)), name)
    locks, every = Trees(git, *PATTERNS), every_commit(git)
    recent = [oid for oid, seconds in every.items() if seconds > since]
    for commits, name in (*groups, (recent, "a recent commit")):
        found.need(read_blobs(git, locks.new_files(commits)), name)
    found.mention(read_blobs(git, locks.new_files(every)))
    return found


def pins_in(data: bytes, where: str) -> Iterator[Pin]:
    """The versions that a spec pins; if it is no YAML, every number that may be one."""
    for holder, pin in _values_of("pin", data):
        model = holder.get("model")
        name = model if isinstance(model, str) and "$" not in model else ""
        for number in _each(pin):
            yield Pin(name, number if _is_number(number) else None, where)


def quarantined_in(data: bytes) -> Iterator[int]:
    """The versions of any model that a spec quarantines; if it is no YAML, as for pins."""
    for _, entries in _values_of("quarantine", data):
        for entry in _each(entries):
            number = entry.get("version") if isinstance(entry, dict) else entry
            if _is_number(number) and number > 0:
                yield number


def _each(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else (value,)


def _is_number(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _values_of(key: str, data: bytes) -> Iterator[tuple[Mapping[str, Any], Any]]:
    """What a file has under such a key, and the mapping that this is in.

    Each is looked at once, however many aliases it has: also of itself.
    """
    word = re.compile(rb"\b%s\b\W{0,3}:" % key.encode())
    if not word.search(data):
        return
    content = _yaml(data)
    if content is None:
        for match in word.finditer(data):
            near = data[match.end() : match.end() + _NEAR]
            yield from (({}, int(number)) for number in _NUMBER.findall(near))
    left, seen = [content], set[int]()
    while left:
        value = left.pop()
        if id(value) in seen or not isinstance(value, (dict, list)):
            continue
        seen.add(id(value))
        if isinstance(value, list):
            left += value
            continue
        if value.get(key) is not None:
            yield value, value[key]
        left += (inner for name, inner in value.items() if name != key)


def _yaml(data: bytes) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with suppress(yaml.YAMLError, ValueError, RecursionError):
        return yaml.load(data, Loader=loader)
    return None


def _checked_out(worktree: Worktree, patterns: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """What a checkout has of such files, in its folders and staged."""
    globs = [f":(glob)**/{pattern}" for pattern in patterns]
    with _opened(worktree) as git:
        yield from _listed(git, "-co", *globs)
        staged = git.run("ls-files", "-z", "-s", "--", *globs)
        rows = (row.partition("\t") for row in staged.split("\0") if row[:6] not in ("", _MODULE))
        yield from read_blobs(git, {about.split()[1]: path for about, _, path in rows})


def _ignored(worktree: Worktree) -> Iterator[tuple[str, bytes]]:
    """What DVC wrote to a checkout though Git ignores it; others may call their files the same."""
    globs = [f":(glob)**/{pattern}" for pattern in PATTERNS]
    with _opened(worktree) as git:
        for name, data in _listed(git, "-oi", *globs, ":(exclude).dvc", f":(exclude){OWN}"):
            if is_of_dvc(data):
                yield name, data


def _listed(git: Git, which: str, *paths: str) -> Iterator[tuple[str, bytes]]:
    """Files of a checkout that `git ls-files` lists, as they are on disk."""
    listed = git.run("ls-files", "-z", which, "--exclude-standard", "--", *paths)
    for name in sorted({*listed.split("\0")} - {""}):
        data = _read(git.root / name)
        if data is not None:
            yield name, data


@contextmanager
def _opened(worktree: Worktree) -> Iterator[Git]:
    git = Git(worktree.path)
    try:
        yield git
    finally:
        git.close()


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes() if path.is_file() else None
    except OSError as error:
        raise MlspecError(
            f"cannot read {path}, which may name what must be kept: {error.strerror}"
        ) from error
