"""`matrix`: a model that is written once and stands for many.

Comes in: the tree with defaults merged. Goes out: the tree in which each such model is replaced by
its members, which are models like any others; what they share they share as nodes. A member's
values keep the place where they were written, so that a problem is shown where it is mended.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

from mlspec.spec.checks.names import check_name, is_fine
from mlspec.spec.files import UnreadableError, check_relative
from mlspec.spec.holes import (
    ALIKE,
    HOLE,
    REFERENCE,
    Holes,
    Values,
    fill,
    fill_text,
    find_holes,
    find_slips,
)
from mlspec.spec.literals import BY_REFERENCE, LOOKS_SECRET, is_secret
from mlspec.spec.models import TEMPLATE_KEYS, Limits, Model
from mlspec.spec.rows import NAME, parse_rows
from mlspec.spec.show import escape, shorten, show
from mlspec.spec.suggest import closest, did_you_mean, known_words
from mlspec.spec.tree import Node, Path, Problem

_HARMLESS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")

_Rows = Mapping[str, tuple[Node, ...]]
"""The values of members, by name."""
ReadFile = Callable[[str], bytes]
"""Reads a file of the repository, or raises :class:`UnreadableError`."""


@dataclass(frozen=True, slots=True)
class Family:
    """The models that one model with a `matrix` stands for."""

    name: str
    template: Node
    """What they have in common, without the keys that are about them."""
    keys: tuple[str, ...]
    rows: _Rows
    overrides: Mapping[str, Node]
    source: str | None
    """The CSV file that the values come from."""
    _holes: Holes | None = None

    def values(self, member: str) -> Values:
        return dict(zip(self.keys, self.rows[member], strict=True))

    def member(self, name: str) -> Node:
        """The model that a member is."""
        values = self.values(name)
        if name in self.overrides:
            whole = override(self.template, self.overrides[name])
            holes = find_holes(whole)
        else:
            whole, holes = self.template, self._holes
        return fill(whole, holes, values) if holes is not None else whole


@dataclass(frozen=True, slots=True)
class Expanded:
    """The tree with all members written out, and what is wrong with the matrices."""

    top: Node
    families: Mapping[str, str]
    """Of each member, the name of the model that it was written as."""
    matrices: Collection[str]
    """The names that models with a `matrix` were written as."""
    problems: tuple[Problem, ...]
    complete: bool
    """Whether every matrix could be expanded."""

    def matrix_at(self, path: Path) -> str | None:
        """The name of the model with a `matrix` that what is at `path` comes from."""
        name = str(path[1]) if path[:1] == ("models",) and len(path) > 1 else ""
        return self.families.get(name, name if name in self.matrices else None)


def expand_matrices(top: Node, read_file: ReadFile, only: str | None = None) -> Expanded:
    """The tree with its members, or with `only` one of them."""
    models = top.value.get("models") if isinstance(top.value, dict) else None
    if models is None or not isinstance(models.value, dict):
        return Expanded(top, {}, (), (), complete=True)
    reader = FamilyReader(member_limit(top), read_file)
    reader.know(models)
    value: dict[str, Node] = {}
    keys: dict[str, Node] = {}
    families: dict[str, str] = {}
    matrices = {name for name, model in models.value.items() if is_template(model)}
    whole = True
    for name, model in models.value.items():
        key = models.keys[name]
        if not is_template(model):
            if reader.is_misspelt(name, model):
                whole = False
                continue
            reader.check_plain(name, model)
            value[name], keys[name] = model, key
            continue
        family = reader.read(name, model)
        if family is None:
            whole = False
            continue
        for member in family.rows if only is None else {only} & family.rows.keys():
            value[member], keys[member] = family.member(member), key
            families[member] = name
    expanded = top.holding(
        {**top.value, "models": models.holding(value, keys)},  # type: ignore[dict-item]
        top.keys,
    )
    return Expanded(expanded, families, matrices, tuple(reader.problems), whole)


def is_template(model: Node) -> bool:
    """Whether a model is one that stands for many."""
    return isinstance(model.value, dict) and "matrix" in model.value


def member_limit(top: Node) -> int:
    """How many members all matrices may have together, as the spec says or by default."""
    node = top
    for step in ("limits", "members"):
        inner = node.value.get(step) if isinstance(node.value, dict) else None
        if inner is None:
            return Limits().members
        node = inner
    given = node.value
    return given if isinstance(given, int) and given > 0 else Limits().members


class FamilyReader:
    """Reads the families of a spec one by one; what is wrong is collected in `problems`."""

    def __init__(self, limit: int, read_file: ReadFile) -> None:
        self.problems: list[Problem] = []
        self._limit = limit
        self._left = limit
        self._read_file = read_file
        self._known: dict[str, Node] = {}

    def know(self, models: Node) -> None:
        """Take note of the names of models, which no member may have."""
        assert isinstance(models.value, dict)
        for name, model in models.value.items():
            if not is_template(model):
                self._known[name] = models.keys[name]

    def is_misspelt(self, name: str, model: Node) -> bool:
        """Whether a model has a `matrix` but for its spelling: all else would follow from that."""
        if not isinstance(model.value, dict):
            return False
        at = ("models", name)
        meant = (key for key in model.value if closest(key, ("matrix",), ALIKE))
        key = next((key for key in meant if key not in Model.model_fields), None)
        if key is None or not any(HOLE in node.text for _, node in _strings(model, at)):
            return False
        where, hint = model.keys[key], "did you mean `matrix`?"
        self._report("MLS010", where, (*at, key), "unknown key", hint)
        return True

    def check_plain(self, name: str, model: Node) -> None:
        """Problems of a model without a matrix that is written as if it had one."""
        if not isinstance(model.value, dict):
            return
        at = ("models", name)
        for key in TEMPLATE_KEYS[1:]:
            if key in model.value:
                hint = "add `matrix: {KEY: [...]}`, or remove it"
                message = f"`{key}` is about the members of a `matrix`, which this model lacks"
                self.problems.append(Problem("MLS080", (*at, key), message, hint, on_key=True))
        for path, node in _strings(model, at):
            if HOLE in node.text:
                hint = "add `matrix: {KEY: [...]}`, or write the value out"
                self._report("MLS081", node, path, "this model has no `matrix`", hint)

    def read(self, name: str, model: Node) -> Family | None:
        """The family of a model that has a `matrix`, if nothing is wrong with it."""
        before = len(self.problems)
        assert isinstance(model.value, dict)
        at = ("models", name)
        matrix = _Matrix(model.value["matrix"], (*at, "matrix"))
        rows = self._rows(matrix)
        if len(self.problems) > before:
            return None
        holding = {key: node for key, node in model.value.items() if key not in TEMPLATE_KEYS}
        keys = {key: node for key, node in model.keys.items() if key not in TEMPLATE_KEYS}
        template = model.holding(holding, keys)
        self._check_holes(template, at, matrix.keys)
        named = self._named(name, model, rows, matrix)
        if len(self.problems) > before:
            return None
        overrides = self._overrides(model, template, at, named, matrix.keys)
        self._check_values_fit([template, *overrides.values()], named, matrix, at)
        if len(self.problems) > before:
            return None
        self._known |= dict.fromkeys(named, model.value["matrix"])
        self._left -= len(named)
        holes = find_holes(template)
        return Family(name, template, matrix.keys, named, overrides, matrix.source, holes)

    def _rows(self, matrix: _Matrix) -> list[tuple[Node, ...]]:
        """The values of each member, in the order that they are written in."""
        node, at = matrix.node, matrix.at
        if not isinstance(node.value, dict):
            message = f"expected lists of values by key, got {node.kind}"
            self._report("MLS080", node, at, message, "write {KEY: [a, b]} or {from: FILE.csv}")
        elif "from" in node.value:
            return self._rows_of_file(matrix)
        elif not node.value:
            self._report("MLS080", node, at, "the matrix has no values", "write {KEY: [a, b]}")
        else:
            return self._rows_of_lists(matrix)
        return []

    def _rows_of_lists(self, matrix: _Matrix) -> list[tuple[Node, ...]]:
        assert isinstance(matrix.node.value, dict)
        before = len(self.problems)
        lists = []
        for key, given in matrix.node.value.items():
            at = (*matrix.at, key)
            if not NAME.fullmatch(key):
                hint = "use letters, digits, `_` and `-`"
                message = f"{show(key)} is not the name of a value"
                self._report("MLS080", matrix.node.keys[key], matrix.at, message, hint)
            if not isinstance(given.value, list) or not given.value:
                got = "an empty list" if given.value == [] else given.kind
                message = f"expected a list of values, got {got}"
                meant = did_you_mean(key, ("from",)) if isinstance(given.value, str) else ""
                self._report("MLS080", given, at, message, meant or "write [a, b]")
                continue
            self._check_values(given.value, at)
            lists.append(given.value)
        if len(self.problems) > before or not self._fits(math.prod(map(len, lists)), matrix):
            return []
        matrix.keys = tuple(matrix.node.value)
        return list(product(*lists))

    def _check_values(self, values: list[Node], at: Path) -> None:
        seen: dict[tuple[type, object], Node] = {}
        for index, node in enumerate(values):
            where = (*at, index)
            if isinstance(node.value, (list, dict)) or node.value is None:
                message = f"expected text, a number, true or false, got {node.kind}"
                self._report("MLS080", node, where, message, "write plain values")
                continue
            other = seen.setdefault((type(node.value), node.value), node)
            if other is not node:
                message = f"the value {show(node.text)} stands twice"
                self._report("MLS082", node, where, message, "remove one of them")

    def _rows_of_file(self, matrix: _Matrix) -> list[tuple[Node, ...]]:
        assert isinstance(matrix.node.value, dict)
        at = (*matrix.at, "from")
        given = matrix.node.value["from"]
        for key, node in matrix.node.keys.items():
            if key != "from":
                message = "`from` says all values, so no other key may stand beside it"
                hint = "add a column to the file, or list all values here"
                self._report("MLS080", node, (*matrix.at, key), message, hint)
        if not isinstance(given.value, str):
            message = f"expected the path of a CSV file, got {given.kind}"
            self._report("MLS080", given, at, message, "write {from: FILE.csv}")
            return []
        try:
            check_relative(given.value)
            data = self._read_file(given.value)
        except UnreadableError as error:
            message = f"cannot read {show(given.value)}: {error}"
            self._report("MLS086", given, at, message, "name a CSV file of the repository")
            return []
        table = parse_rows(data, given.value, self._left)
        if not self._fits(len(table.rows), matrix):
            return []
        for each in table.problems:
            problem = Problem(each.code, at, each.message, each.hint, place=each.place)
            self.problems.append(problem)
        if not table.rows and not table.problems:
            message = f"{show(given.value)} has a header and no rows"
            self._report("MLS080", given, at, message, "add a row for each member")
        matrix.keys = tuple(cell.text for cell in table.header)
        matrix.source = given.value
        return list(table.rows)

    def _fits(self, count: int, matrix: _Matrix) -> bool:
        if count <= self._left:
            return True
        used = self._limit - self._left
        before = f", beside {used:,} of others" if used else ""
        # Of a file no more rows are read than it takes to know.
        more = f"{count:,}" if matrix.is_list else f"more than {self._left:,}"
        message = f"the matrix has {more} members{before}; the limit is {self._limit:,}"
        enough = count + used if matrix.is_list else "NUMBER"
        hint = f"if so many are meant, write `limits: {{members: {enough}}}` into the root file"
        self._report("MLS087", matrix.node, matrix.at, message, hint)
        return False

    def _check_holes(self, template: Node, at: Path, keys: tuple[str, ...]) -> None:
        """Problems of what stands in `${matrix.…}`, and of what is surely meant so."""
        for path, node in _strings(template, at):
            for written, meant in find_slips(node.text, keys) if "$" in node.text else ():
                message = f"`{written}` is not replaced by a value of the matrix"
                self._report("MLS081", node, path, message, f"did you mean `{meant}`?")
            for key in REFERENCE.findall(node.text):
                if key not in keys:
                    hint = did_you_mean(key, keys) or known_words(keys)
                    message = f"no value `{shorten(escape(key), 40)}` in the matrix"
                    self._report("MLS081", node, path, message, hint)
        for key in _keys(template):
            if HOLE in key.text:
                message = "`${matrix.…}` is replaced in values, not in keys"
                self._report("MLS081", key, at, message, "write the key out")

    def _named(
        self, name: str, model: Node, rows: list[tuple[Node, ...]], matrix: _Matrix
    ) -> dict[str, tuple[Node, ...]]:
        """The values of each member by its name."""
        assert isinstance(model.value, dict)
        given = model.value.get("name")
        at = ("models", name)
        if given is not None:
            if not isinstance(given.value, str):
                message = f"expected text, got {given.kind}"
                self._report("MLS012", given, (*at, "name"), message, "write demand-${matrix.KEY}")
                return {}
            before = len(self.problems)
            self._check_holes(given, (*at, "name"), matrix.keys)
            if len(self.problems) > before:
                return {}
        pattern = given.text if given is not None else None
        used = REFERENCE.findall(pattern) if pattern is not None else matrix.keys
        named: dict[str, tuple[Node, ...]] = {}
        for row in rows:
            values = dict(zip(matrix.keys, row, strict=True))
            if not self._are_harmless((values[key] for key in used), at, "a name", matrix):
                continue
            slugs = {key: slug(values[key].text) for key in used}
            if pattern is None:
                member = "-".join((name, *slugs.values()))
            else:
                member = REFERENCE.sub(lambda hole: slugs[hole[1]], pattern)  # noqa: B023
            place = row[0] if matrix.source or given is None else given
            self._check_name(member, place, at, named, row)
            named.setdefault(member, row)
        return named

    def _check_name(
        self,
        member: str,
        node: Node,
        at: Path,
        named: _Rows,
        row: tuple[Node, ...],
    ) -> None:
        if not is_fine(member):
            for problem in check_name(member, at, on_key=False):
                message = f"the member {show(member)}: {problem.message}"
                self._report("MLS030", node, at, message, "give the model a `name` that fits")
        twin = named.get(member)
        if twin is not None:
            values = (", ".join(cell.text for cell in each) for each in (twin, row))
            message = f"two members are called `{member}`: {' and '.join(map(show, values))}"
            if [cell.value for cell in twin] == [cell.value for cell in row]:
                hint = "both have the same values: remove one of them"
            elif node is row[0]:
                hint = "remove one, or put every key that tells members apart into `name`"
            else:
                hint = "put every key that tells members apart into `name`, as ${matrix.KEY}"
            if node is row[0] and twin[0] is not row[0]:
                hint += f"; the other one is at {twin[0].place}"
            self._report("MLS083", node, at, message, hint)
        elif member in self._known:
            message = f"a member is called `{member}`, and so is another model"
            hint = f"the other one is at {self._known[member].place}; rename one of them"
            self._report("MLS083", node, at, message, hint)

    def _overrides(
        self,
        model: Node,
        template: Node,
        at: Path,
        named: Mapping[str, object],
        keys: tuple[str, ...],
    ) -> dict[str, Node]:
        assert isinstance(model.value, dict)
        given = model.value.get("overrides")
        at = (*at, "overrides")
        if given is None:
            return {}
        if not isinstance(given.value, dict):
            message = f"expected a mapping, got {given.kind}"
            hint = "write what is different below the name of a member"
            self._report("MLS012", given, at, message, hint)
            return {}
        for member, node in given.value.items():
            where = (*at, member)
            if member not in named:
                hint = did_you_mean(member, named) or known_words(named)
                message = f"no member {show(member)}"
                self._report("MLS084", given.keys[member], where, message, hint)
            elif not isinstance(node.value, dict):
                message = f"expected a mapping, got {node.kind}"
                hint = "write what is different about this member"
                self._report("MLS012", node, where, message, hint)
            self._check_parts(node, template, where)
            self._check_holes(node, at, keys)
        return dict(given.value)

    def _check_parts(self, given: Node, template: Node, at: Path) -> None:
        """Problems of stages and gates that an override is about and the model does not have."""
        for section, needed in (("stages", "command"), ("gates", "metric")):
            part, known = _entry(given, section), _entry(template, section)
            names = known.value if known is not None and isinstance(known.value, dict) else {}
            if part is None or not isinstance(part.value, dict):
                continue
            for name, node in part.value.items():
                if name not in names and _entry(node, needed) is None:
                    what = section.removesuffix("s")
                    message = f"the model has no {what} {show(name)}"
                    hint = did_you_mean(name, names) or f"a {what} of its own needs a `{needed}`"
                    path = (*at, section, name)
                    self._report("MLS084", part.keys[name], path, message, hint)

    def _check_values_fit(
        self, wholes: list[Node], named: _Rows, matrix: _Matrix, at: Path
    ) -> None:
        """Problems of values that a shell or a file system would see, and of made up secrets."""
        used: dict[str, str] = {}
        suspects = []
        for whole in wholes:
            for what, node in _exposed(whole):
                for key in REFERENCE.findall(node.text):
                    used.setdefault(key, what)
            suspects += [
                (path, node) for path, node in _strings(whole, at) if _is_suspect(path, node)
            ]
        if not used and not suspects:
            return
        for row in named.values():
            values = dict(zip(matrix.keys, row, strict=True))
            for key, what in used.items():
                self._are_harmless((values[key],), at, what, matrix)
            for path, node in suspects:
                if is_secret(path, fill_text(node, values)):
                    self._report("MLS027", node, path, LOOKS_SECRET, BY_REFERENCE)

    def _are_harmless(
        self, values: Iterator[Node] | tuple[Node, ...], at: Path, what: str, matrix: _Matrix
    ) -> bool:
        bad = [node for node in values if not _HARMLESS.fullmatch(node.text)]
        for node in bad:
            if id(node) in matrix.refused:
                continue
            matrix.refused.add(id(node))
            message = f"the value {show(node.text)} cannot be part of {what}"
            hint = "use letters, digits, `_`, `.`, `+` and `-`, a letter or digit first"
            if what == "a name":
                hint += "; or write a `name` with other keys"
            self._report("MLS085", node, at, message, hint)
        return not bad

    def _report(self, code: str, node: Node, path: Path, message: str, hint: str) -> None:
        problem = Problem(code, path, message, hint, place=node.place)
        self.problems.append(problem)


@dataclass(slots=True)
class _Matrix:
    """A `matrix` that is being read."""

    node: Node
    at: Path
    keys: tuple[str, ...] = ()
    source: str | None = None
    refused: set[int] = field(default_factory=set)

    @property
    def is_list(self) -> bool:
        return isinstance(self.node.value, dict) and "from" not in self.node.value


def slug(text: str) -> str:
    """A value as a part of a name: in small letters, with `-` for what names may not hold."""
    return re.sub(r"[_.+]", "-", text.lower())


def override(template: Node, given: Node) -> Node:
    """What a member says of itself over what all say: mappings key by key, in the order of all."""
    if not isinstance(template.value, dict) or not isinstance(given.value, dict):
        return given
    value = dict(template.value)
    for key, node in given.value.items():
        value[key] = override(value[key], node) if key in value else node
    return template.holding(value, {**given.keys, **template.keys})


def _strings(node: Node, path: Path = ()) -> Iterator[tuple[Path, Node]]:
    for step, child in node.children():
        yield from _strings(child, (*path, step))
    if isinstance(node.value, str):
        yield path, node


def _entry(node: Node, key: str) -> Node | None:
    return node.value.get(key) if isinstance(node.value, dict) else None


def _keys(node: Node) -> Iterator[Node]:
    yield from node.keys.values()
    for _, child in node.children():
        yield from _keys(child)


_PATHS = ("inputs", "outputs", "code", "metrics", "predictions")


def _exposed(model: Node) -> Iterator[tuple[str, Node]]:
    """The texts of a model that become paths or commands, and which of them."""
    for key, child in model.children():
        if key == "artifact":
            for step, inner in child.children():
                if step in ("path", "code"):
                    yield from (("a path", text) for _, text in _strings(inner))
        elif key == "stages":
            for _, stage in child.children():
                for step, inner in stage.children():
                    if step == "command":
                        yield "a command", inner
                    elif step in _PATHS:
                        yield from (("a path", text) for _, text in _strings(inner))


def _is_suspect(path: Path, node: Node) -> bool:
    """Whether some value would make a text a secret."""
    return HOLE in node.text and is_secret(path, REFERENCE.sub("x" * 40, node.text))
