"""How far an apply is: what runs, how many steps are done, and how long the rest may take.

Comes in: steps as they start and end. Goes out: numbers. Each call takes the same time however many
steps there are.
"""

from __future__ import annotations

from collections import Counter

from mlspec.plan import Action, Outcome, Plan, Status, Step


class Tally:
    """Counts the steps of a plan; times are readings of one clock, in seconds."""

    def __init__(self, plan: Plan, jobs: int) -> None:
        self.ended: Counter[Status] = Counter()
        self.running: dict[str, tuple[Step, float]] = {}
        """Steps that run, by address, each with the time when it began."""
        self._jobs = jobs
        self.steps = len(plan.steps)
        self._left = 0.0
        """Seconds that the commands which are still to start will take, where that is known."""
        self._unknown = 0
        """How many of them have never run."""
        self._measured = 0.0
        self._runs = 0
        for step in plan.steps:
            self._expect(step, 1)

    @property
    def waiting(self) -> int:
        return self.steps - self.ended.total() - len(self.running)

    def start(self, step: Step, now: float) -> None:
        self._expect(step, -1)
        self.running[step.address] = step, now

    def end(self, outcome: Outcome) -> None:
        """A step ended; one that was skipped never began."""
        if self.running.pop(outcome.step.address, None) is None:
            self._expect(outcome.step, -1)
        self.ended[outcome.status] += 1
        if outcome.status is Status.DONE and outcome.step.action is Action.RUN:
            self._measured += outcome.seconds
            self._runs += 1

    def remaining(self, now: float) -> float | None:
        """Seconds until all is done; none while too little is known.

        From past runs, and for what has none from those of this apply. Commands share the jobs; the
        one that takes longest ends it at the earliest.
        """
        usual = self._measured / self._runs if self._runs else None
        rests = []
        for step, began in tuple(self.running.values()):
            if step.action is Action.RUN:
                seconds = step.estimate.seconds if step.estimate else usual
                if seconds is None:
                    return None
                rests.append(max(0.0, seconds - (now - began)))
        if self._unknown and usual is None:
            return None
        work = sum(rests) + self._left + self._unknown * (usual or 0.0)
        return max([work / self._jobs, *rests])

    def _expect(self, step: Step, sign: int) -> None:
        if step.action is not Action.RUN:
            return
        if step.estimate is None:
            self._unknown += sign
        else:
            self._left += sign * step.estimate.seconds
