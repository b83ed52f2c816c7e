"""Two slots behind HAProxy: a candidate in the free one, as a :class:`mlspec.rollouts` trial.

Comes in: how a target weighs, promotes and goes back, and how it looks at both. Goes out: what
happens in which order, so that what served has all requests whatever goes wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from mlspec.compilers.haproxy import BLUE, GREEN
from mlspec.errors import MlspecError, RolledBack
from mlspec.rollouts.counts import Counts
from mlspec.rollouts.driver import Reading, Told


class NotUp(Exception):
    """HAProxy has no way to the release."""


@dataclass(frozen=True, slots=True)
class Look:
    """What champion and candidate tell, if they do, and what is wrong with the candidate."""

    champion: Counts | None
    candidate: Counts | None
    trouble: str


@dataclass(slots=True)
class SlotTrial:
    """`give`, `take` and `leave` are the target's ways to weigh, promote and abort; `settled` tells
    whether the record says that the candidate serves."""

    look: Callable[[], Look]
    give: Callable[[float], None]
    take: Callable[[], None]
    leave: Callable[[], None]
    settled: Callable[[], bool]
    _told: Told = field(default_factory=Told)

    def weigh(self, share: float) -> None:
        self.give(share)

    def read(self) -> Reading:
        seen = self.look()
        self._told.take(seen.champion, seen.candidate)
        trouble = seen.trouble or self._told.trouble
        return Reading(self._told.champion, self._told.candidate, trouble)

    def promote(self) -> None:
        self.take()

    def abort(self) -> None:
        if not self.settled():  # what went wrong after that takes nothing back
            self.leave()


def other_slot(slot: str | None) -> str:
    """The one that is free, if a release has this one."""
    return GREEN if slot == BLUE else BLUE


def share_out(slot: str, share: float) -> dict[str, float]:
    """The share of each slot, if one of them has this."""
    return {slot: share, other_slot(slot): 1.0 - share}


@contextmanager
def trying(trial: SlotTrial, prepare: Callable[[], None], failed: str) -> Iterator[None]:
    """What served before has all requests if the block fails, unless the candidate is settled.

    `prepare` is the first that is done. What HAProxy does not reach is rolled back, for which
    `failed` are the words.
    """
    try:
        prepare()
        yield
    except NotUp as late:
        trial.abort()
        raise RolledBack(f"{failed}: {late}") from None
    except BaseException:
        with suppress(MlspecError):
            trial.abort()
        raise
