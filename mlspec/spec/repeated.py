"""Problems that many share: each is told once, those like it a few times, and the others counted.

Comes in: problems, one after the other. Goes out: :class:`~mlspec.errors.Diagnostic`, of which the
hint says that others have it too, and `more` how many others are like it.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from mlspec.errors import Diagnostic


class Repeated:
    """Collects problems; `most` of a kind are told, `others` is who has the same ones."""

    def __init__(self, most: int, others: str) -> None:
        self.told: list[Diagnostic] = []
        self._most = most
        self._others = f"{others} have it too"
        self._same: dict[Hashable, int] = {}
        self._kinds: dict[Hashable, list[int]] = {}

    def is_new(self, same: Hashable, kind: Hashable) -> bool:
        """Whether a problem is one to add to `told`; if not, it is counted there.

        Equal problems have an equal `same`, and those alike an equal `kind`.
        """
        if same in self._same:
            first = self.told[self._same[same]]
            if self._others not in first.hint:
                hint = f"{first.hint} ({self._others})" if first.hint else self._others
                self.told[self._same[same]] = replace(first, hint=hint)
            return False
        alike = self._kinds.setdefault(kind, [])
        if len(alike) == self._most:
            last = self.told[alike[-1]]
            self.told[alike[-1]] = replace(last, more=last.more + 1)
            return False
        self._same[same] = len(self.told)
        alike.append(len(self.told))
        return True
