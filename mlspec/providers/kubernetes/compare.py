"""What of an object that a cluster has is not as it was applied: two objects in, differences out.

A cluster adds to an object: defaults, its state, what others own. So only what was applied is
looked for, and what is more does not matter; of a list, each item must be where it was, and no
other item in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Difference = tuple[str, Any, Any]
"""A field, by path; what was applied, and what is there instead (`None`: nothing)."""

_PLACES = {"containers", "volumes", "ports", "env", "volumeMounts"}
"""Lists whose items have names: what others inject stands beside them."""


def compare_objects(
    applied: Sequence[Mapping[str, Any]], live: Sequence[Mapping[str, Any]]
) -> Iterator[Difference]:
    """What differs, object by object."""
    found = {_key(each): each for each in live}
    for wanted in applied:
        kind, name = _key(wanted)
        seen = found.get((kind, name))
        if seen is None:
            yield f"{kind}/{name}", "applied", None
        else:
            for path, before, now in compare(wanted, seen):
                if path not in ("apiVersion", "metadata.namespace"):
                    yield f"{kind}/{name}.{path}", before, now


def compare(wanted: Any, seen: Any, path: str = "") -> Iterator[Difference]:
    """What of `wanted` is not in `seen`."""
    if isinstance(wanted, Mapping) and isinstance(seen, Mapping):
        for key, value in wanted.items():
            place = f"{path}.{key}" if path else str(key)
            if key in seen:
                yield from compare(value, seen[key], place)
            elif value not in ({}, []):
                yield place, value, None
    elif isinstance(wanted, list) and isinstance(seen, list):
        yield from _lists(wanted, seen, path)
    elif wanted != seen:
        yield path, wanted, seen


def _lists(wanted: list[Any], seen: list[Any], path: str) -> Iterator[Difference]:
    if path.rpartition(".")[2] in _PLACES and all(_named(each) for each in wanted):
        there = {_named(each): each for each in seen if isinstance(each, Mapping)}
        for each in wanted:
            place = f"{path}[{_named(each)}]"
            if _named(each) in there:
                yield from compare(each, there[_named(each)], place)
            else:
                yield place, each, None
        return
    if len(wanted) != len(seen):
        yield path, wanted, seen
        return
    for index, (one, other) in enumerate(zip(wanted, seen, strict=True)):
        yield from compare(one, other, f"{path}[{index}]")


def _named(item: Any) -> Any:
    return item.get("mountPath") or item.get("name") if isinstance(item, Mapping) else None


def _key(item: Mapping[str, Any]) -> tuple[str, str]:
    return str(item.get("kind")), str((item.get("metadata") or {}).get("name"))
