"""What of this machine is free: commands that run at the same time never want more than there is.

Comes in: what stages want. Goes out: which of those that wait may start. A stage that wants more
than the machine has is let start alone: its executor then says what is missing.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import add, sub

from mlspec.executors.capacity import Machine
from mlspec.spec.models import Resources

Claim = tuple[int, ...]
"""How much of each thing that is counted: jobs, thousandths of cores, gpus, bytes, remote jobs."""

NOTHING: Claim = (0, 0, 0, 0, 0)
ONE_JOB: Claim = (1, 0, 0, 0, 0)
ELSEWHERE: Claim = (0, 0, 0, 0, 1)
"""A command that another machine runs: here it costs no more than a thread that waits for it."""
MOST_ELSEWHERE = 200


class Slots:
    """Counts what runs. `jobs` is how many commands may run here at the same time."""

    def __init__(self, machine: Machine, jobs: int) -> None:
        self._machine = machine
        self._jobs = jobs
        self._gpus = 0
        memory = machine.memory or 0
        self._free: Claim = (jobs, machine.cpus * 1000, 0, memory, MOST_ELSEWHERE)
        self._first: int | None = None
        self._lacked: Claim = NOTHING

    def here(self, resources: Resources) -> Claim:
        """What a command takes of this machine, at most all that it has."""
        machine = self._machine
        cpus = max(1, min(round(resources.cpus * 1000), machine.cpus * 1000))
        memory = min(int(resources.memory or 0), machine.memory or 0)
        gpus = min(resources.gpus, self._count_gpus()) if resources.gpus else 0
        return (1, cpus, gpus, memory, 0)

    def take(self, claim: Claim) -> None:
        self._free = tuple(map(sub, self._free, claim))

    def give(self, claim: Claim) -> None:
        self._free = tuple(map(add, self._free, claim))

    def choose(self, waiting: Iterable[tuple[int, Claim]]) -> int | None:
        """The first of `waiting` (number and claim) that may start, if any.

        The first that has to wait keeps what it has lacked, so that no number of smaller ones can
        hold it up; others pass it as long as they leave that alone.
        """
        kept = NOTHING
        for number, claim in waiting:
            lacked = tuple(
                want if want > max(0, free - keep) else 0
                for want, free, keep in zip(claim, self._free, kept, strict=True)
            )
            if not any(lacked):
                return number
            if kept == NOTHING:
                kept = self._keep(number, lacked)
        return None

    def _keep(self, number: int, lacked: Claim) -> Claim:
        """What the first that waits has lacked so far."""
        if number != self._first:
            self._first, self._lacked = number, NOTHING
        self._lacked = tuple(map(max, self._lacked, lacked))
        return self._lacked

    def _count_gpus(self) -> int:
        """Looked for when somebody wants one: that may start a program."""
        if not self._gpus:
            self._gpus = self._machine.gpus
            self.give((0, 0, self._gpus, 0, 0))
        return self._gpus
