"""The state machine of a rollout: state, time and what was seen in; what is next out. Pure.

::

    baking ──pass──▶ baking (next step) ──▶ ... ──▶ promoted
      │ ▲
    pause resume          a limit broken, a candidate that is not well, an order: ──▶ aborted
      ▼ │
    paused

A step ends when it was baked and its verdict is `pass`; with one in doubt it waits. Limits count
while it is paused, too: nobody may be there to see them broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from mlspec.rollouts.judge import Answer, Limits, Query, Verdict
from mlspec.spec.models import Rollout


class Phase(StrEnum):
    """Where a rollout is; the last two are its ends."""

    BAKING = "baking"
    PAUSED = "paused"
    PROMOTED = "promoted"
    ABORTED = "aborted"


class Order(StrEnum):
    """What a person tells a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    ABORT = "abort"


@dataclass(frozen=True, slots=True)
class Terms:
    """How a rollout is to go: the candidate's share of requests at each step, and its limits.

    Each step takes `bake` seconds at least. One that is still in doubt `wait` seconds later ends
    the rollout; without `wait` it goes on until it is certain.
    """

    strategy: str
    shares: tuple[float, ...]
    bake: float
    wait: float | None = None
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class State:
    """Where a rollout is: its step (from 0) and when that began, in seconds of the driver's clock.

    `refused` tells of one that was aborted whether the release is to blame: it is not tried again.
    """

    phase: Phase
    step: int
    since: float
    paused: float | None = None
    verdict: Verdict | None = None
    reason: str = ""
    refused: bool = False

    @property
    def ended(self) -> bool:
        return self.phase in (Phase.PROMOTED, Phase.ABORTED)

    def as_dict(self) -> dict[str, Any]:
        """The state for machines."""
        plain = asdict(replace(self, verdict=None))
        return {**plain, "verdict": self.verdict.as_dict() if self.verdict else None}


@dataclass(frozen=True, slots=True)
class Seen:
    """What is seen at one look: the verdict so far, and what is wrong with the candidate, if so."""

    verdict: Verdict
    trouble: str = ""
    order: Order | None = None


def make_terms(rollout: Rollout) -> Terms:
    """The terms that a spec gives; all traffic at once is the one step of blue/green."""
    asked = rollout.abort_if
    latencies = {0.5: asked.latency_p50, 0.95: asked.latency_p95, 0.99: asked.latency_p99}
    said = asked.query
    query = None if said is None else Query(said.prometheus, said.expr, said.max)
    limits = Limits(
        error_rate=asked.error_rate,
        latencies={key: value for key, value in latencies.items() if value is not None},
        prediction_drift=asked.prediction_drift,
        query=query,
        least=rollout.min_requests,
    )
    shares = rollout.steps if rollout.splits else (1.0,)
    return Terms(rollout.strategy, shares, rollout.bake, rollout.wait, limits)


def begin(terms: Terms, now: float, step: int = 0) -> State:
    """The state at the start, or at the step that an earlier try of the same had come to."""
    return State(Phase.BAKING, min(max(step, 0), len(terms.shares) - 1), now)


def advance(terms: Terms, state: State, now: float, seen: Seen) -> State:
    """What is next. An ended rollout stays as it is."""
    if state.ended:
        return state
    state = replace(state, verdict=seen.verdict)
    if seen.order is Order.ABORT:
        return _aborted(state, "it was aborted by hand", refused=True)
    if seen.trouble:
        return _aborted(state, seen.trouble, refused=True)
    if seen.verdict.result is Answer.FAIL:
        return _aborted(state, seen.verdict.detail, refused=seen.verdict.blames)
    if seen.order is Order.PAUSE and state.phase is Phase.BAKING:
        return replace(state, phase=Phase.PAUSED, paused=now)
    if seen.order is Order.RESUME and state.paused is not None:
        # the time that it was paused is not baked
        since = state.since + max(0.0, now - state.paused)
        state = replace(state, phase=Phase.BAKING, since=since, paused=None)
    if state.phase is Phase.PAUSED or now - state.since < terms.bake:
        return state
    if seen.verdict.result is Answer.PASS:
        if state.step + 1 < len(terms.shares):
            return State(Phase.BAKING, state.step + 1, now, verdict=seen.verdict)
        return replace(state, phase=Phase.PROMOTED)
    if terms.wait is not None and now - state.since >= terms.bake + terms.wait:
        return _aborted(state, f"it stayed in doubt: {seen.verdict.detail}", refused=False)
    return state


def _aborted(state: State, reason: str, *, refused: bool) -> State:
    return replace(state, phase=Phase.ABORTED, reason=reason, refused=refused)


def load_step(plain: Mapping[str, Any]) -> int:
    """The step of a state that was written by :meth:`State.as_dict`."""
    step = plain.get("step", 0)
    return step if isinstance(step, int) else 0
