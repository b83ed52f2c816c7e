"""Carries a rollout out: asks the engine what is next, and has the target do it.

Comes in: terms, a :class:`Trial` that a target gives, a clock. Goes out: the last state, promoted
or aborted. Whatever happens on the way, what served before serves again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

from mlspec.rollouts.counts import Counts
from mlspec.rollouts.engine import Order, Phase, Seen, State, Terms, advance, begin
from mlspec.rollouts.judge import judge

LOOK_SECONDS = 1.0
MOST_MISSED = 5
"""Looks in a row at which the candidate may fail to tell its metrics."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What both have counted since they began, and what is wrong with the candidate, if so."""

    champion: Counts
    candidate: Counts
    trouble: str = ""


@dataclass(slots=True)
class Told:
    """What champion and candidate told last, for the looks at which one of them tells nothing."""

    champion: Counts = field(default_factory=Counts)
    candidate: Counts = field(default_factory=Counts)
    missed: int = 0
    """Looks in a row at which the candidate told nothing."""

    def take(self, champion: Counts | None, candidate: Counts | None) -> None:
        """Keep what they tell at one look."""
        self.missed = 0 if candidate else self.missed + 1
        self.champion = champion or self.champion
        self.candidate = candidate or self.candidate

    @property
    def trouble(self) -> str:
        """What is wrong if the candidate has been silent for too long, else nothing."""
        if self.missed < MOST_MISSED:
            return ""
        return f"it did not tell its metrics {self.missed} times in a row"


class Trial(Protocol):
    """A candidate that is ready, beside the champion that serves: what a target must be able to."""

    def weigh(self, share: float) -> None:
        """Have the candidate get this share of requests, from 0 to 1, without failing one."""

    def read(self) -> Reading:
        """Look at both."""

    def promote(self) -> None:
        """Give it all requests for good; the champion ends when its last ones are answered."""

    def abort(self) -> None:
        """Give all requests back to the champion; the candidate ends likewise."""


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is, in seconds, and how to wait; another one in tests.

    `sleep` returns early, with true, when the whole apply is to end.
    """

    now: Callable[[], float] = time.time
    sleep: Callable[[float], bool] = _sleep


class Stopped(Exception):
    """The apply was asked to end: the champion has all requests again, nothing was decided."""


def drive(
    terms: Terms,
    trial: Trial,
    clock: Clock,
    *,
    show: Callable[[State], None],
    order: Callable[[], Order | None],
    query: Callable[[], float | None] = lambda: None,
    step: int = 0,
) -> State:
    """Go through the steps, from `step`, until the candidate is promoted or aborted.

    `show` is told each state, `order` asked for what a person wants, `query` for a number that
    others measure. Raises what the trial raises, and :class:`Stopped`, after a return to the
    champion.
    """
    state = begin(terms, clock.now(), step)
    try:
        trial.weigh(terms.shares[state.step])
        before = _baseline(terms, state, trial.read())
        show(state)
        while not state.ended:
            if clock.sleep(LOOK_SECONDS):
                raise Stopped
            now = trial.read()
            champion = now.champion.since(before.champion)
            candidate = now.candidate.since(before.candidate)
            verdict = judge(terms.limits, champion, candidate, queried=query())
            earlier = state
            seen = Seen(verdict, now.trouble, order())
            state = advance(terms, state, clock.now(), seen)
            if state.step != earlier.step:
                trial.weigh(terms.shares[state.step])
                before = _baseline(terms, state, trial.read())
            if not state.ended:
                show(state)
        if state.phase is Phase.PROMOTED:
            trial.promote()
    except BaseException:
        trial.abort()
        raise
    if state.phase is Phase.ABORTED:
        trial.abort()
    show(state)
    return state


def _baseline(terms: Terms, state: State, reading: Reading) -> Reading:
    """What is not of this step. A champion without requests is compared by all it had before."""
    if terms.shares[state.step] >= 1:
        return replace(reading, champion=Counts())
    return reading
