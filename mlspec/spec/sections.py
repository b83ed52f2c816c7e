"""Several spec files to one tree: which file may say what, and what is said twice."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mlspec.errors import Diagnostic
from mlspec.spec.show import escape, shorten
from mlspec.spec.tree import SECTIONS, Node

ROOT_ONLY = ("mlspec", "project", "include", "limits", "reconcile")
JOINED = (*SECTIONS, "monitors", "alerts")
"""Sections of named resources, which several files may have."""
LISTED = ("moved", "removed")
"""Sections that are lists, which several files may have too."""


def merge(files: Sequence[Node]) -> tuple[Node, tuple[Diagnostic, ...]]:
    """One tree of the root file's and the included files' trees, and what clashes.

    Sections of named resources, and lists, are joined; any other section stands in one file only.
    """
    root = files[0]
    top = Node(root.file, root.line, root.column, root.length, {})
    problems = [problem for file in files for problem in _add(top, file, first=file is root)]
    return top, tuple(problems)


def _add(top: Node, file: Node, *, first: bool) -> Iterator[Diagnostic]:
    assert isinstance(file.value, dict) and isinstance(top.value, dict)
    for section, node in file.value.items():
        key = file.keys[section]
        if section in ROOT_ONLY and not first:
            message = f"`{section}` may stand in the root file only"
            yield Diagnostic("MLS025", message, field=section, place=key.place, hint="remove it")
        elif section not in top.value:
            top.value[section] = _copy(node)
            top.keys[section] = key
        elif _joinable(section, node, top.value[section]):
            yield from _join(section, top.value[section], node)
        elif section in LISTED and isinstance(node.value, list):
            _append(top.value[section], node.value)
        else:
            yield Diagnostic(
                "MLS025",
                f"`{_named(section)}` stands in two files",
                field=_named(section),
                place=key.place,
                hint=f"the other one is at {top.keys[section].place}; keep it in one of them",
            )


def _append(into: Node, items: list[Node]) -> None:
    if isinstance(into.value, list):  # anything else is told as a wrong value
        into.value += items


def _copy(node: Node) -> Node:
    """The node, such that joining into it leaves the file's own tree alone."""
    if isinstance(node.value, list):
        return replace(node, value=list(node.value))
    if not isinstance(node.value, dict):
        return node
    return node.holding(dict(node.value), dict(node.keys))


def _joinable(section: str, node: Node, other: Node) -> bool:
    return section in JOINED and isinstance(node.value, dict) and isinstance(other.value, dict)


def _join(section: str, into: Node, node: Node) -> Iterator[Diagnostic]:
    assert isinstance(into.value, dict) and isinstance(node.value, dict)
    for name, resource in node.value.items():
        if name not in into.value:
            into.value[name] = resource
            into.keys[name] = node.keys[name]
            continue
        address = f"{SECTIONS.get(section, section.removesuffix('s'))}.{_named(name)}"
        yield Diagnostic(
            "MLS026",
            "declared in two files",
            address,
            place=node.keys[name].place,
            hint=f"the other one is at {into.keys[name].place}; rename or remove one of them",
        )


def _named(text: str) -> str:
    return shorten(escape(text), 40)
