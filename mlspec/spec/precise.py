"""The spec with the place of each of its parts, and everything that is wrong with it.

Comes in: the root folder of a repository. Goes out: :class:`Read`, or one
:class:`~mlspec.errors.SpecError` with every problem that could be found.

    bytes -> tree with places   (files, characters, yaml, scalars)
          -> one tree           (sections, defaults, matrix)
          -> Spec               (models, unbuilt, invalid)
          -> checked Spec       (checks)

:mod:`~mlspec.spec.quick` comes to the same spec sooner where nothing is wrong.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from os.path import normpath
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError

from mlspec.errors import Diagnostic, Place, SpecError
from mlspec.spec import tree
from mlspec.spec.checks import Disk, Names, check_head, check_model, check_together
from mlspec.spec.checks.names import check_project
from mlspec.spec.defaults import check_defaults, merge_defaults
from mlspec.spec.files import UnreadableError, read_inside, resolve_pattern
from mlspec.spec.found import ROOT
from mlspec.spec.interfaces import face_of
from mlspec.spec.invalid import explain
from mlspec.spec.literals import check_literals
from mlspec.spec.matrix import Expanded, expand_matrices
from mlspec.spec.models import Spec
from mlspec.spec.repeated import Repeated
from mlspec.spec.sections import merge
from mlspec.spec.show import show
from mlspec.spec.tree import Node, Problem, diagnose, find
from mlspec.spec.unbuilt import check_unbuilt, left_out, without
from mlspec.spec.yaml import Parsed, parse

MAX_INCLUDE = 1000
"""Patterns in `include`."""
MAX_FOUND = 1000
"""Problems of one kind that are looked for."""
MAX_ALIKE = 5
"""Problems of the same part of a matrix that are shown when only names and numbers differ."""
MAX_SHOWN = 200
"""Problems of one load that are shown; when there are more, the first explain the others."""
_MORE = Problem(
    "MLS005", (), f"only the first {MAX_FOUND:,} problems of a kind are counted", "mend these first"
)
_VARYING = re.compile(r"`[^`]*`|\"[^\"]*\"|\d[\d,]*")
"""What differs in messages about the same mistake in several rows."""


@dataclass(frozen=True, slots=True)
class Read:
    """A valid spec and its tree.

    `files` are relative to the root: the root file, what it includes, and the tables of matrices.
    """

    spec: Spec
    top: Node
    files: tuple[str, ...]


def read_spec(root: Path, instead: Mapping[str, bytes] = MappingProxyType({})) -> Read:
    """The spec of the repository at `root`; raises :class:`SpecError` with all its problems.

    `instead` has contents, by path, that count for those on disk.
    """
    tops, problems = read_files(root, instead)
    if not tops:
        raise SpecError(_distinct(problems))
    top, clashes = merge(tops)
    problems += clashes
    tables = _Tables(root)
    spec, merged, more = _build(top, root, tables)
    said = {problem.place for problem in problems}
    problems += [problem for problem in more if problem.place not in said]
    if spec is None or problems:
        raise SpecError(_distinct(problems))
    return Read(spec, merged, (*(node.file.path for node in tops), *tables.found))


class _Tables:
    """Reads the tables of matrices, and knows which there are."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.found: dict[str, None] = {}

    def read(self, relative: str) -> bytes:
        self.found[normpath(relative)] = None
        return read_inside(self._root, relative)


def read_tree(root: Path, files: Iterable[str], model: str) -> Node | None:
    """The tree of some files of a spec that was right a moment ago, if it still is.

    Of the members of matrices it has only `model`.
    """
    tops = [_read(root, relative).top for relative in files]
    whole = [top for top in tops if top is not None]
    if len(whole) < len(tops):
        return None
    top, _ = merge(whole)
    return expand_matrices(merge_defaults(top), _Tables(root).read, model).top


def read_matrices(root: Path, files: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """The members of each model with a `matrix`, of a spec that was right a moment ago."""
    with suppress(UnreadableError):
        parsed = [
            _read(root, relative).top
            for relative in files
            if relative == ROOT or b"matrix" in read_inside(root, relative)
        ]
        tops = [top for top in parsed if top is not None and isinstance(top.value, dict)]
        top, _ = merge(tops)
        members: dict[str, list[str]] = {}
        for member, name in expand_matrices(top, _Tables(root).read).families.items():
            members.setdefault(name, []).append(member)
        return members
    return {}


def read_files(
    root: Path, instead: Mapping[str, bytes] = MappingProxyType({})
) -> tuple[list[Node], list[Diagnostic]]:
    """The trees of the root file and of those that it includes; none without the first."""
    parsed = _parsed(instead[ROOT], ROOT) if ROOT in instead else _read(root, ROOT)
    problems = list(parsed.problems)
    if parsed.top is None:
        return [], problems
    tops = [parsed.top]
    for node, relative in _included(root, parsed.top, problems):
        known = instead.get(relative)
        inner = _read(root, relative, node) if known is None else _parsed(known, relative)
        problems += inner.problems
        tops += [inner.top] if inner.top else []
    return tops, problems


def _read(root: Path, relative: str, named_at: Node | None = None) -> Parsed:
    """The tree of one file; a file without a mapping at its top has no tree."""
    try:
        data = read_inside(root, relative)
    except UnreadableError as error:
        return Parsed(None, (_unreadable(relative, str(error), named_at),))
    return _parsed(data, relative)


def _parsed(data: bytes, relative: str) -> Parsed:
    parsed = parse(data, relative)
    if parsed.top is None and not parsed.problems:
        return Parsed(None, (_not_mapping("the file is empty", relative),))
    if parsed.top is not None and not isinstance(parsed.top.value, dict):
        if parsed.problems:
            return Parsed(None, parsed.problems)
        empty = parsed.top.value is None
        message = "the file is empty" if empty else f"expected a mapping, got {parsed.top.kind}"
        return Parsed(None, (_not_mapping(message, relative, parsed.top.place),))
    return parsed


def _unreadable(relative: str, why: str, named_at: Node | None) -> Diagnostic:
    if named_at is not None:
        message = f"cannot read {show(relative)}: {why}"
        return Diagnostic("MLS002", message, field="include", place=named_at.place)
    if why == "there is no such file":
        hint = "run `mlspec init`, or go to the folder that has one"
        return Diagnostic("MLS001", f"no {ROOT} here", hint=hint)
    return Diagnostic("MLS002", f"cannot read {ROOT}: {why}", place=Place(ROOT, 1, 1))


def _not_mapping(message: str, relative: str, place: Place | None = None) -> Diagnostic:
    hint = "start with `mlspec: 1` and `project: ...`" if relative == ROOT else "add a section"
    return Diagnostic("MLS008", message, place=place or Place(relative, 1, 1), hint=hint)


def _included(root: Path, top: Node, problems: list[Diagnostic]) -> Iterator[tuple[Node, str]]:
    """Each included file once, in the order of its path, with the pattern that names it."""
    assert isinstance(top.value, dict)
    include = top.value.get("include")
    if include is None or not isinstance(include.value, list):
        return
    if len(include.value) > MAX_INCLUDE:
        message = f"{len(include.value):,} patterns; the limit is {MAX_INCLUDE:,}"
        hint = "name folders, such as specs/*.yaml"
        problems.append(
            Diagnostic("MLS024", message, field="include", place=include.place, hint=hint)
        )
        return
    found: dict[str, Node] = {}
    for node in include.value:
        if not isinstance(node.value, str):
            continue
        try:
            for relative in resolve_pattern(root, node.value):
                found.setdefault(relative, node)
        except UnreadableError as error:
            message = f"cannot include {show(node.value)}: {error}"
            problems.append(Diagnostic("MLS024", message, field="include", place=node.place))
    found.pop(ROOT, None)
    yield from ((found[relative], relative) for relative in sorted(found))


def _build(top: Node, root: Path, tables: _Tables) -> tuple[Spec | None, Node, list[Diagnostic]]:
    """The spec of a whole tree, its tree with defaults merged, and everything wrong with it.

    A resource that is wrong in itself is left out, so that the others are still checked against
    each other; its name stays known, so that a reference to it is not called dangling.
    """
    literals = list(islice(check_literals(top), MAX_FOUND))
    found = list(check_defaults(top))
    expanded = expand_matrices(merge_defaults(top), tables.read)
    merged = expanded.top
    unbuilt = list(check_unbuilt(merged))
    found += unbuilt
    usable = without(merged, {left_out(problem) for problem in unbuilt})
    names = Names.of(merged, complete=expanded.complete)
    spec, invalid = _validate(usable)
    found += _first(invalid)
    if spec is None:
        broken = {problem.path[:2] for problem in invalid if _in_resource(problem.path)}
        broken |= {problem.path[:1] for problem in invalid if not _in_resource(problem.path)}
        rest = without(usable, broken)
        checked, _ = _validate(_with_head(rest))
    else:
        checked = spec
    found += check_project(merged)
    found += _first(names.check())
    if checked is not None:
        found += _first(_check(checked, names, usable, expanded.families))
        found += _first(_check_disk(checked, root))
    said = {problem.path for problem in literals}
    problems = [diagnose(problem, top) for problem in literals]
    for some in (expanded.problems, found):
        # A value that is wrong in itself is wrong in what comes of it, and said once.
        places = {problem.place for problem in problems}
        new = (each for each in some if each.path not in said)
        problems += _locate(new, places, top, expanded)
    if not any(problem.more for problem in problems):
        problems = [problem for problem in problems if problem.message != _MORE.message]
    return spec, merged, problems


def _locate(
    problems: Iterable[Problem], said: Container[Place | None], top: Node, expanded: Expanded
) -> list[Diagnostic]:
    """The problems with their places, but for places where something was `said` already.

    One that members of a matrix share is there once, and of those alike the first few are.
    """
    found = Repeated(MAX_ALIKE, "other members")
    for index, problem in enumerate(problems):
        whole = top if problem.path[:1] == ("defaults",) else expanded.top
        each = diagnose(problem, whole)
        if each.place in said:
            continue
        same: Hashable = index
        kind: Hashable = index
        matrix = expanded.matrix_at(problem.path)
        if matrix is not None:
            same = (matrix, each.code, each.message, each.field, each.place)
            steps = tuple(step for step in problem.path[2:] if isinstance(step, str))
            kind = (matrix, steps, each.code, _VARYING.sub("", each.message))
        if found.is_new(same, kind):
            found.told.append(each)
    return found.told


def _check(
    spec: Spec, names: Names, written: Node, families: Mapping[str, str]
) -> Iterator[Problem]:
    """Every problem of a spec whose types are right."""
    yield from check_head(spec)
    faces = {}
    for name, model in spec.models.items():
        yield from check_model(name, model, spec.datasets, written)
        plain = find(written, ("models", name)).plain()
        assert isinstance(plain, dict)
        faces[name] = face_of(model, plain)
    yield from check_together(spec, faces, names, families)


def _check_disk(spec: Spec, root: Path) -> Iterator[Problem]:
    """Every problem of what is on disk."""
    disk = Disk(root)
    yield from disk.check_head(spec)
    for name, model in spec.models.items():
        yield from disk.check_model(name, model, spec.datasets)


def _validate(top: Node) -> tuple[Spec | None, list[Problem]]:
    """The spec, or what is wrong with it. As JSON, so that `true` is no number, nor "3"."""
    try:
        return Spec.model_validate_json(json.dumps(top.plain())), []
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)
        return None, [explain(detail, top) for detail in details[: MAX_FOUND + 1]]


def _first(problems: Iterable[Problem]) -> list[Problem]:
    """No more of them than are looked for."""
    some = list(islice(problems, MAX_FOUND + 1))
    return some if len(some) <= MAX_FOUND else [*some[:-1], _MORE]


def _in_resource(path: tree.Path) -> bool:
    return len(path) > 1 and path[0] in tree.SECTIONS


def _with_head(top: Node) -> Node:
    """The tree with a head that is valid, for the checks of everything below it."""
    assert isinstance(top.value, dict)
    version, project = (Node(top.file, 1, 1, 1, given) for given in (1, "unnamed"))
    value = {"mlspec": version, "project": project} | top.value
    return top.holding(value, top.keys)


def _distinct(problems: list[Diagnostic]) -> list[Diagnostic]:
    """Each problem once, in the order of the files, up to as many as a person would read."""
    once = dict.fromkeys(problems)
    shown = sorted(once, key=lambda problem: (problem.place or Place("", 0, 0), problem.code))
    if len(shown) > MAX_SHOWN:
        message = f"only the first {MAX_SHOWN} problems are shown"
        shown[MAX_SHOWN:] = [Diagnostic("MLS005", message, hint="mend these first")]
    return shown
