"""What is told once for many: like models of a plan, like rows, like failures.

Comes in: things, and what is said of each. Goes out: the same things in groups that read alike.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import TypeVar

from mlspec.render.style import escape

MOST_ALIKE = 3
"""As many that are alike are each told in full."""
NAMED = 3
"""Of more, so many are named; none is left out alone."""

_WORD = re.compile(r"[^\W_]+")

Item = TypeVar("Item")


def fold(
    items: Sequence[Item], key: Callable[[Item], Hashable], most: int = MOST_ALIKE
) -> Iterator[list[Item]]:
    """Items with equal keys together, where the first of them was; up to `most` stay apart."""
    groups: dict[Hashable, list[Item]] = {}
    keys = [key(item) for item in items]
    for item, its in zip(items, keys, strict=True):
        groups.setdefault(its, []).append(item)
    for item, its in zip(items, keys, strict=True):
        group = groups[its]
        if len(group) <= most:
            yield [item]
        elif group[0] is item:
            yield group


def name_of(address: str) -> str:
    """What an address is about: `shop` of `model.shop`, `gate.shop.error` and `deployment.shop@t`.

    Like models have like names, and what is said of them differs in these.
    """
    rest = address.partition(".")[2].partition("@")[0]
    return rest if address.startswith("file.") else rest.partition(".")[0]


def nameless(text: str, name: str) -> str:
    """`text` with the words of `name` as their places in it: equal for like things.

    A small number stays: the 2 of `shop-2` is as likely a version or a value.
    """
    places = {
        word: f"\0{place}"
        for place, word in enumerate(_WORD.findall(name))
        if len(word) > 2 or not word.isdigit()
    }
    return _WORD.sub(lambda found: places.get(found[0], found[0]), text.replace(name, "\0"))


def listed(names: Sequence[str]) -> str:
    """The first names and how many more there are: `a, b, c and 7 more`; not to be escaped."""
    if len(names) > NAMED + 1:
        return f"{', '.join(map(escape, names[:NAMED]))} and {len(names) - NAMED} more"
    *first, last = map(escape, names)
    return " and ".join(filter(None, [", ".join(first), last]))


def counted(number: int, word: str) -> str:
    """`1 step`, `2 steps`."""
    return f"{number} {word}{'' if number == 1 else 's'}"
