"""The words of hints that several checks use."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice

from mlspec.spec.tree import Node, Path, Problem

_MOST = 500
"""Names that are compared with a word."""
_SHOWN = 30
"""Names that are listed."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` with the closest known word, or nothing when none is close."""
    close = closest(word, known)
    return f"did you mean `{close}`?" if close else ""


def closest(word: str, known: Iterable[str], likeness: float = 0.6) -> str:
    """The known word that is most like `word`, if any is; `likeness` 1 is the same."""
    # `difflib` takes long, and a name that is meant is about as long as what was written.
    known = list(islice((name for name in known if abs(len(name) - len(word)) <= 8), _MOST))
    folded = {name.casefold().replace("_", "-"): name for name in known}
    exact = folded.get(word.casefold().replace("_", "-"))
    if exact:
        return exact
    return next(iter(difflib.get_close_matches(word[:100], known, n=1, cutoff=likeness)), "")


def known_words(words: Iterable[str]) -> str:
    """A hint that lists what may stand here."""
    known = sorted(words)
    more = [f"and {len(known) - _SHOWN:,} more"] if len(known) > _SHOWN else []
    return "known: " + ", ".join([*known[:_SHOWN], *more])


def mapping_expected(path: Path, node: Node) -> Problem:
    """Something stands where keys with values should."""
    hint = "write `key: value` lines below it, or remove it"
    return Problem("MLS012", path, f"expected a mapping, got {node.kind}", hint)
