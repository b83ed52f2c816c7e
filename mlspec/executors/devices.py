"""Which graphics processors a command gets, so that two at the same time do not share the first.

Comes in: how many it wants. Goes out: what to set in its environment.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from mlspec.executors.capacity import Machine

VARIABLE = "CUDA_VISIBLE_DEVICES"


class Devices:
    """Lends the graphics processors of a machine, or those that the user lets this process see."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._lock = threading.Lock()
        self._lent: set[str] = set()

    @contextmanager
    def lend(self, count: int) -> Iterator[dict[str, str]]:
        """What to set for a command that wants `count`: nothing if it wants none, or all there are.

        Whoever starts commands sees to it that they want no more than there is.
        """
        if not count or count >= len(self._names):
            yield {}
            return
        with self._lock:
            free = [name for name in self._names if name not in self._lent]
            lent = free[:count]
            self._lent.update(lent)
        try:
            yield {VARIABLE: ",".join(lent)} if len(lent) == count else {}
        finally:
            with self._lock:
                self._lent.difference_update(lent)

    @cached_property
    def _names(self) -> tuple[str, ...]:
        visible = os.environ.get(VARIABLE)
        if visible is None:
            return tuple(map(str, range(self._machine.gpus)))
        return tuple(name.strip() for name in visible.split(",") if name.strip())
