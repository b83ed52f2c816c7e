"""Which steps of a plan are ready, and how those that ended did. Pure; it starts nothing.

Comes in: a plan, and outcomes one by one. Goes out: what may be done next, at last a report. Each
call takes the same time however long the plan is.
"""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Generic, TypeVar

from mlspec.plan import Outcome, Plan, Report, Status, Step

Claim = TypeVar("Claim")
_OF_MODELS = frozenset({"stage", "gate", "model"})


class Agenda(Generic[Claim]):
    """The steps of a plan, ready when all that they come after have ended, well or not.

    What belongs to one model comes before what belongs to the next, so that an apply that is cut
    short leaves models that are done rather than many that were begun.

    They are kept in few queues, one for all with an equal `claim`. That is asked once, when a step
    is ready: with it, and with whether it will be done.
    """

    def __init__(self, plan: Plan, claim: Callable[[Step, bool], Claim]) -> None:
        self._plan = plan
        self._claim = claim
        self._outcomes: dict[str, Outcome] = {}
        self._queues: dict[Claim, list[int]] = {}
        self._steps = sorted(plan.steps, key=_by_model)
        self._number = {step.address: number for number, step in enumerate(self._steps)}
        self._then: dict[str, list[int]] = {}
        self._missing = [0] * len(plan.steps)
        for number, step in enumerate(self._steps):
            before = [address for address in step.after if address in self._number]
            for address in before:
                self._then.setdefault(address, []).append(number)
            self._missing[number] = len(before)
            if not before:
                self._put(number)

    @property
    def done(self) -> bool:
        """Whether every step has ended."""
        return len(self._outcomes) == len(self._steps)

    def heads(self) -> list[tuple[int, Claim]]:
        """The first step of each queue, by its number."""
        heads = ((queue[0], claim) for claim, queue in self._queues.items() if queue)
        return sorted(heads, key=lambda head: head[0])

    def pop(self, number: int, claim: Claim) -> Step:
        """Take one of the heads: it begins."""
        assert heappop(self._queues[claim]) == number
        return self._steps[number]

    def blocker(self, step: Step) -> str | None:
        """The first of what `step` comes after that did not succeed."""
        return next((address for address in step.after if self._stops(address)), None)

    def close(self, outcome: Outcome) -> None:
        """A step ended."""
        address = outcome.step.address
        self._outcomes[address] = outcome
        for number in self._then.get(address, ()):
            self._missing[number] -= 1
            if not self._missing[number]:
                self._put(number)

    def report(self) -> Report:
        """How the steps ended, in the order of the plan."""
        return Report(tuple(self._outcomes[step.address] for step in self._plan.steps))

    def _put(self, number: int) -> None:
        step = self._steps[number]
        claim = self._claim(step, self.blocker(step) is None)
        heappush(self._queues.setdefault(claim, []), number)

    def _stops(self, address: str) -> bool:
        outcome = self._outcomes.get(address)
        return outcome is not None and outcome.status in (Status.FAILED, Status.SKIPPED)


def _by_model(step: Step) -> str:
    """Nothing for files and data, which come first; the sort is stable."""
    kind, _, rest = step.address.partition(".")
    return rest.partition(".")[0] if kind in _OF_MODELS else ""
