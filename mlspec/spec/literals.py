"""What no value may be, wherever it stands: a secret, or nothing at all."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.spec.show import holds_secret, names_secret
from mlspec.spec.tree import Node, Path, Problem

LOOKS_SECRET = "this looks like a secret"
BY_REFERENCE = "name an environment variable or your CI's secret store; change the secret now"
_FREE = ("params", "input")
"""Mappings of the user's own words, in which nothing is a value too."""


def check_literals(top: Node) -> Iterator[Problem]:
    """Problems of single values, in the order of the file."""
    pending: list[tuple[Path, Node]] = [((), top)]
    while pending:
        path, node = pending.pop()
        pending += [((*path, step), child) for step, child in node.children()]
        if node.value is None and not any(word in path for word in _FREE):
            hint = "write a value, or remove the key"
            yield Problem("MLS023", path, "the key has no value", hint)
        elif isinstance(node.value, str) and is_secret(path, node.value):
            yield Problem("MLS027", path, LOOKS_SECRET, BY_REFERENCE)


def is_secret(path: Path, value: str) -> bool:
    """Whether a text at `path` looks like a secret, by itself or by the name of its key."""
    named = bool(path) and isinstance(path[-1], str) and names_secret(path[-1])
    return holds_secret(value) or (named and len(value) >= 8 and " " not in value)
