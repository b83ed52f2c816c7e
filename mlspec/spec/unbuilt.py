"""What the language has and this version does not do yet: refused by name, never ignored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlspec.spec.tree import Node, Path, Problem

KEYS: tuple[str, ...] = (
    "monitors",
    "alerts",
    "retraining",
    "datasets.*.contract",
    "models.*.gates.*.by",
    "models.*.gates.*.confidence",
    "models.*.gates.*.max_gap",
    "models.*.gates.*.measure",
    "models.*.gates.*.min_rows",
    "deployments.*.capture.keep",
    "ci.gitlab",
    "policy.branches",
)
"""Keys, by path; `*` is any name."""

VALUES: dict[str, frozenset[str]] = {
    "targets.*.kind": frozenset({"bentocloud"}),
    "models.*.artifact.format": frozenset({"pickle", "tensorflow"}),
    "models.*.gates.*.against": frozenset({"baseline"}),
}
"""Values, by the path of their key."""


def check_unbuilt(top: Node) -> Iterator[Problem]:
    """A problem for each key and value of the language that is not built yet."""
    for pattern in KEYS:
        for path, _ in _find(top, pattern.split(".")):
            yield _problem(path, str(path[-1]), on_key=True)
    for pattern, values in VALUES.items():
        for path, node in _find(top, pattern.split(".")):
            if isinstance(node.value, str) and node.value in values:
                yield _problem(path, f"{path[-1]}: {node.value}", on_key=False)


def _problem(path: Path, what: str, *, on_key: bool) -> Problem:
    message = f"`{what}` is part of the language but this version does not do it yet"
    return Problem("MLS022", path, message, "remove it for now", on_key)


def _find(node: Node, steps: list[str], path: Path = ()) -> Iterator[tuple[Path, Node]]:
    if not steps:
        yield path, node
    elif isinstance(node.value, dict):
        for key in node.value if steps[0] == "*" else steps[:1]:
            if key in node.value:
                yield from _find(node.value[key], steps[1:], (*path, key))


def left_out(problem: Problem) -> Path:
    """What to leave out so that the rest can be checked: the key, or all that it gives meaning."""
    match problem.path:
        case ("models", _, "gates", _, *_):
            return problem.path[:4]
        case ("targets", *_) | ("models", _, "artifact" | "from", *_):
            return problem.path[:2]
        case path:
            return path


def without(node: Node, paths: Iterable[Path]) -> Node:
    """The tree without the values at `paths`."""
    gone: set[str | int] = set()
    inner: dict[str | int, list[Path]] = {}
    for path in paths:
        if len(path) == 1:
            gone.add(path[0])
        elif path:
            inner.setdefault(path[0], []).append(path[1:])
    if not isinstance(node.value, dict) or not (gone or inner):
        return node
    value = {
        key: without(child, inner.get(key, ()))
        for key, child in node.value.items()
        if key not in gone
    }
    keys = {key: mark for key, mark in node.keys.items() if key in value}
    return node.holding(value, keys)
