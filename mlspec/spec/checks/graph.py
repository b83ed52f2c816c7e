"""Cycles in a graph of names."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from typing import TypeVar

T = TypeVar("T", bound=Hashable)


def cycles(edges: Mapping[T, Iterable[T]]) -> Iterator[list[T]]:
    """One cycle of every tangle, as the nodes along it; the walk keeps its own stack."""
    done: set[T] = set()
    for start in edges:
        trail: dict[T, Iterator[T]] = {}
        node: T | None = start if start not in done else None
        while node is not None:
            trail[node] = iter(edges.get(node, ()))
            node = None
            while trail and node is None:
                last = next(reversed(trail))
                for following in trail[last]:
                    if following in trail:
                        walk = list(trail)
                        yield walk[walk.index(following) :]
                    elif following not in done:
                        node = following
                        break
                else:
                    done.add(last)
                    del trail[last]


def describe(cycle: Iterable[object]) -> str:
    """`a -> b -> a`, shortened when long."""
    names = [str(name) for name in cycle]
    shown = names if len(names) <= 8 else [*names[:4], f"({len(names) - 6} more)", *names[-2:]]
    return " -> ".join([*shown, names[0]])
