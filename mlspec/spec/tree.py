"""A YAML file as a tree whose every key and value knows where it was written.

Made by :mod:`mlspec.spec.yaml`, walked by :mod:`mlspec.spec.load` and the checks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

from mlspec.errors import Diagnostic, Place
from mlspec.spec.show import redact

Path = tuple[str | int, ...]
"""Keys and positions from the top of the spec down to a value."""

SECTIONS = {
    "executors": "executor",
    "datasets": "dataset",
    "models": "model",
    "targets": "target",
    "deployments": "deployment",
}
"""The sections that hold named resources, and how the address of one starts."""


@dataclass(frozen=True, slots=True, eq=False)
class File:
    """A file that was read: its path relative to the root, and its lines without ends."""

    path: str
    lines: tuple[str, ...]
    is_table: bool = False
    """Whether it is the CSV file of a matrix."""

    def place(self, line: int, column: int, length: int) -> Place:
        return Place(self.path, line, column, max(1, length), _shown_line(self, line))


@lru_cache(maxsize=8)
def _shown_line(file: File, line: int) -> str:
    """A line without secrets; a long one often has many problems."""
    return redact(file.lines[line - 1]) if line <= len(file.lines) else ""


@dataclass(slots=True, eq=False)
class Node:
    """A value and its span; `text` is how a scalar was written, `keys` where a mapping's are."""

    file: File
    line: int
    column: int
    length: int
    value: str | int | float | bool | list[Node] | dict[str, Node] | None
    text: str = ""
    keys: dict[str, Node] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        return self.file.place(self.line, self.column, self.length)

    def holding(self, value: dict[str, Node], keys: dict[str, Node]) -> Node:
        """A mapping at the same place with other entries."""
        return Node(self.file, self.line, self.column, self.length, value, "", keys)

    @property
    def kind(self) -> str:
        """What it is, in words."""
        match self.value:
            case dict():
                return "a mapping"
            case list():
                return "a list"
            case None:
                return "nothing"
            case bool():
                return "true or false"
            case int() | float():
                return "a number"
            case str():
                return "text"

    def children(self) -> Iterator[tuple[str | int, Node]]:
        match self.value:
            case dict():
                yield from self.value.items()
            case list():
                yield from enumerate(self.value)

    def plain(self) -> object:
        """The value as plain data."""
        match self.value:
            case dict():
                return {key: child.plain() for key, child in self.value.items()}
            case list():
                return [child.plain() for child in self.value]
            case scalar:
                return scalar


@dataclass(frozen=True, slots=True)
class Problem:
    """A diagnostic that knows its place as a path in the spec, on the key or on the value.

    `place` is set for a problem in another file that the value at `path` names.
    """

    code: str
    path: Path
    message: str
    hint: str = ""
    on_key: bool = False
    place: Place | None = None


def find(top: Node, path: Path, *, on_key: bool = False) -> Node:
    """The node at `path`, or the nearest one above it."""
    node = top
    for depth, step in enumerate(path):
        parent = node
        match node.value, step:
            case dict() as entries, str() if step in entries:
                node = entries[step]
            case list() as items, int() if step < len(items):
                node = items[step]
            case _:
                return _nearest(top, path[:depth])
        if on_key and depth == len(path) - 1 and step in parent.keys:
            return parent.keys[str(step)]
    return node


def _nearest(top: Node, path: Path) -> Node:
    """Where a thing that is not written would belong: the key of what should hold it."""
    return find(top, path, on_key=True) if path else top


def name(path: Path) -> tuple[str, str]:
    """The address and the field of a path: `model.credit-risk`, `gates.accuracy.min`."""
    address = ""
    if len(path) > 1 and path[0] in SECTIONS:
        address, path = f"{SECTIONS[str(path[0])]}.{path[1]}", path[2:]
    written = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return address, written.removeprefix(".")


def diagnose(problem: Problem, top: Node) -> Diagnostic:
    """The problem with its address, field and place."""
    address, field = name(problem.path)
    place = problem.place or find(top, problem.path, on_key=problem.on_key).place
    return Diagnostic(problem.code, problem.message, address, field, place, problem.hint)
