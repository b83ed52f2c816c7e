"""`${matrix.KEY}` in a text: where it stands, what is put there, and what is nearly one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlspec.spec.show import escape, shorten
from mlspec.spec.suggest import closest
from mlspec.spec.tree import Node

HOLE = "${matrix."
"""How each begins."""
REFERENCE = re.compile(r"\$\{matrix\.([^}]*)\}")
_NEARLY = re.compile(
    r"(?<!\\)\$(?P<open>\{\{?|\(|)\s*(?P<word>[A-Za-z]+)\s*\.\s*(?P<key>[A-Za-z0-9_-]*)[\s})]*"
)
"""What may be meant as `${matrix.KEY}`, as others or in haste write it."""
ALIKE = 0.75
"""How much a word is like `matrix` that is surely meant so; `metrics` and `metric` are not."""
Values = Mapping[str, Node]
"""The values of one member, by key."""


def find_slips(text: str, keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """What is surely meant as `${matrix.KEY}` and is not that, and what is meant.

    A shell and other programs have words with `$` of their own: without braces it must be a KEY
    that there is, and in braces a word that is nearly `matrix`.
    """
    for match in _NEARLY.finditer(text):
        if REFERENCE.match(text, match.start()):
            continue
        key = closest(match["key"], keys)
        in_braces = match["open"].startswith("{")
        if (
            closest(match["word"], ("matrix",), ALIKE)
            if in_braces
            else (match["word"] == "matrix" and key)
        ):
            written = match[0].rstrip() if match["open"] else match[0].rstrip(" })")
            yield shorten(escape(written), 40), f"${{matrix.{key or match['key'] or 'KEY'}}}"


@dataclass(frozen=True, slots=True)
class Holes:
    """Where in a node values stand: in its text, or in some of its children."""

    inner: Mapping[str | int, Holes] = field(default_factory=dict)


def find_holes(node: Node) -> Holes | None:
    """Where in a node `${matrix.…}` stands."""
    if isinstance(node.value, str):
        return Holes() if HOLE in node.text else None
    found = {step: find_holes(child) for step, child in node.children()}
    inner = {step: holes for step, holes in found.items() if holes is not None}
    return Holes(inner) if inner else None


def fill(node: Node, holes: Holes, values: Values) -> Node:
    """The node with values in its holes; what has none is shared with the template."""
    given = node.value
    if isinstance(given, dict):
        value = dict(given)
        for step, inner in holes.inner.items():
            assert isinstance(step, str)
            value[step] = fill(given[step], inner, values)
        return node.holding(value, node.keys)
    filled: str | list[Node]
    if isinstance(given, list):
        filled = list(given)
        for step, inner in holes.inner.items():
            assert isinstance(step, int)
            filled[step] = fill(given[step], inner, values)
        return Node(node.file, node.line, node.column, node.length, filled, "", node.keys)
    match = REFERENCE.fullmatch(node.text)
    if match is not None:
        return values[match[1]]
    filled = fill_text(node, values)
    return Node(node.file, node.line, node.column, node.length, filled, filled, node.keys)


def fill_text(node: Node, values: Values) -> str:
    """A text with values in its holes."""
    return REFERENCE.sub(lambda hole: values[hole[1]].text, node.text)
