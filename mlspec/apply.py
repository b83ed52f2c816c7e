"""Carries a plan out: as much as possible at the same time, each step recorded when it is done.

Comes in: a plan that was just made or just checked, and a way to look again. Goes out: a
:class:`~mlspec.plan.Report`. It decides nothing: what a step turns out to be once the steps before
it are done (a run that was seen before, a candidate that is already a version) is the planner's
answer, asked again.

Steps take turns, so that there is one writer of files, of DVC and of the ledger. Stages that run
have a thread each, and give their turn up while their command runs; so do rollouts. All else is
done in the main thread: a signal reaches it there, and a command that ended well is recorded none
the less.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from types import ModuleType
from typing import Protocol

from mlspec.agenda import Agenda
from mlspec.errors import Interrupted, MlspecError, unusable
from mlspec.executors.capacity import Machine
from mlspec.executors.registry import executor_name
from mlspec.executors.slots import ELSEWHERE, NOTHING, ONE_JOB, Claim, Slots
from mlspec.ledger.records import Record
from mlspec.plan import Action, Outcome, Plan, Report, Status, Step
from mlspec.planner import Facts, Recorded
from mlspec.providers import datasets, deployments, files, gates, models, policies, stages
from mlspec.providers.context import Change, Context, CutShort
from mlspec.resources import DeploymentResource, ModelResource, StageResource
from mlspec.spec.models import Resources

PROVIDERS: dict[str, ModuleType] = {
    "file": files,
    "dataset": datasets,
    "stage": stages,
    "gate": gates,
    "model": models,
    "deployment": deployments,
    "policy": policies,
}

STANDS_FOR = {
    Action.RUN: {Action.RESTORE, Action.ADOPT},
    Action.DEPLOY: {Action.ROLLBACK},
    Action.ROLLBACK: {Action.DEPLOY},
}
"""What a planned action may turn out to be: never something that costs more."""

LEAVES = {Action.DELETE, Action.FORGET, Action.MOVE}
"""Steps about what is not in the spec, at least under that name: there is nothing to look at."""

PATIENCE = 4.0
"""Seconds after which an apply that ends says what it still waits for: commands have ended then."""
LAST_PATIENCE = 2.0
"""Seconds that commands have to be gone after the second signal."""
POLL = 0.05


class World(Protocol):
    """What an apply asks and tells while it goes on, one call at a time."""

    def guard(self, step: Step) -> None:
        """Raise if this apply may not do the step any more."""

    def look(self, address: str) -> Facts:
        """A new survey of what the step at `address` is about."""

    def recorded(self) -> Recorded:
        """What the ledger has now."""

    def record(self, outcome: Outcome, records: Mapping[str, Record | None]) -> None:
        """Have it in the ledger: what is recorded now has it, and it is safe after `settle`."""

    def settle(self, outcome: Outcome) -> None:
        """Have on disk what was recorded. Others may ask and tell meanwhile."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How many commands run here at the same time, and whether a failure ends all."""

    jobs: int = 1
    fail_fast: bool = False


ONE_BY_ONE = Pace()


@dataclass(frozen=True, slots=True)
class Started:
    """A step begins."""

    step: Step


@dataclass(frozen=True, slots=True)
class Printed:
    """The command of a step printed a line."""

    address: str
    line: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step ended."""

    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Lingering:
    """The apply was asked to end; commands of these steps ended well and are being recorded."""

    addresses: tuple[str, ...]


Event = Started | Printed | Ended | Lingering


def apply_plan(
    plan: Plan,
    context: Context,
    *,
    world: World,
    on_event: Callable[[Event], None],
    machine: Machine,
    pace: Pace,
) -> Report:
    """Do each step whose predecessors succeeded, and report on all in the order of the plan.

    Every step is recorded but those of files, which Git keeps. A failure ends what comes after it
    and nothing else, unless `pace` says so. A signal ends the commands that run, by `context.stop`,
    and then the apply, as soon as every command that ended well is recorded; a second one ends it
    at once. Events come one at a time, from any thread.
    """
    apply = _Apply(plan, context, world, on_event, Slots(machine, pace.jobs), pace)
    gc.freeze()  # spec and plan stay to the end: they need not be looked through for garbage
    try:
        return apply.run()
    finally:
        gc.unfreeze()


class _Apply:
    """One apply. The main thread starts steps; each runs in its thread, or else at once."""

    def __init__(
        self,
        plan: Plan,
        context: Context,
        world: World,
        on_event: Callable[[Event], None],
        slots: Slots,
        pace: Pace,
    ) -> None:
        self._context = context
        self._world = world
        self._on_event = on_event
        self._slots = slots
        self._pace = pace
        self._light = NOTHING if pace.jobs > 1 else ONE_JOB
        """What a step without a command takes: with one job, one thing is done after the other."""
        self._agenda = Agenda(plan, self._claim)
        self._threads: dict[str, tuple[Thread, Claim]] = {}
        self._results: SimpleQueue[tuple[Step, Outcome | BaseException | None]] = SimpleQueue()
        """What threads have come to; first none, when a command has ended and leaves its place."""
        self._finishing = 0
        """Steps whose command has left its place to another one."""
        self._failed = ""
        """The address of the first step that failed."""
        self._unstarted: set[str] = set()
        """Steps that were left out for `fail_fast`; what comes after one is so too."""
        self._turn = Lock()
        self._next_turn = Lock()
        """Held by the one thread whose turn is next, so that the main thread cannot overtake it."""
        self._telling = Lock()
        self._mute = False

    def run(self) -> Report:
        try:
            while not self._agenda.done:
                while not self._results.empty():
                    self._take(*self._results.get())
                chosen = self._choose()
                if chosen is not None:
                    self._begin(*chosen)
                elif not self._agenda.done:
                    self._take(*self._results.get())
        except BaseException:
            self._wind_up()
            raise
        return self._agenda.report()

    # What is done when ----------------------------------------------------------------------------

    def _claim(self, step: Step, to_do: bool) -> Claim:
        """What a step takes of this machine; little if it is only to be skipped."""
        if to_do and (scores := self._scores(step)) is not None:
            return self._slots.here(scores)
        if to_do and self._bakes(step):
            return ELSEWHERE if self._light is NOTHING else self._light
        if not to_do or not _has_command(step):
            return self._light
        resource = self._context.desired.get(StageResource, step.address)
        model = self._context.desired.get(ModelResource, f"model.{resource.model}").model
        if executor_name(resource.stage, model) is not None:
            return ELSEWHERE
        return self._slots.here(resource.stage.resources)

    def _bakes(self, step: Step) -> bool:
        """Whether it may go in steps, which takes its time while others have their turns."""
        if step.action is not Action.DEPLOY:
            return False
        resource = self._context.desired.resources.get(step.address)
        return isinstance(resource, DeploymentResource) and resource.terms is not None

    def _scores(self, step: Step) -> Resources | None:
        """What a command needs that scores data; none if the step has no such command."""
        if step.action not in (Action.DEPLOY, Action.ROLLBACK):
            return None
        resource = self._context.desired.resources.get(step.address)
        if not isinstance(resource, DeploymentResource) or resource.reads is None:
            return None
        return resource.deployment.resources

    def _choose(self) -> tuple[Step, Claim] | None:
        """The first step, in the order of the plan, that may begin now."""
        if self._finishing >= self._pace.jobs:
            return None
        heads = self._agenda.heads()
        number = heads[0][0] if heads and self._ends_early else self._slots.choose(heads)
        if number is None:
            return None
        claim = dict(heads)[number]
        return self._agenda.pop(number, claim), claim

    def _begin(self, step: Step, claim: Claim) -> None:
        blocker = self._agenda.blocker(step)
        if blocker is not None and blocker not in self._unstarted:
            self._skip(step, f"{blocker} did not succeed")
        elif self._ends_early:
            self._unstarted.add(step.address)
            self._skip(step, f"not started: --fail-fast after {self._failed} failed")
        elif _has_command(step) or self._bakes(step) or self._scores(step) is not None:
            thread = Thread(target=self._run_in_thread, args=(step,), name=step.address)
            thread.daemon = True  # what the second signal does not wait for ends with the process
            self._tell(Started(step))
            self._slots.take(claim)
            self._threads[step.address] = thread, claim
            thread.start()
        else:
            self._tell(Started(step))
            with self._next_turn:
                pass
            with self._turn:
                outcome = self._carry_out(step, replace(self._context))
            self._settle(outcome)
            self._close(outcome)

    def _skip(self, step: Step, why: str) -> None:
        outcome = Outcome(step, Status.SKIPPED, why)
        self._tell(Ended(outcome))
        self._close(outcome)

    def _take(self, step: Step, result: Outcome | BaseException | None) -> None:
        """What a thread has come to."""
        thread, claim = self._threads[step.address]
        self._slots.give(claim)
        if result is None:
            self._threads[step.address] = thread, NOTHING
            self._finishing += 1
            return
        self._finishing -= claim is NOTHING
        del self._threads[step.address]
        thread.join()
        if isinstance(result, BaseException):
            raise result
        self._close(result)

    def _close(self, outcome: Outcome) -> None:
        if outcome.status is Status.FAILED:
            self._failed = self._failed or outcome.step.address
        self._agenda.close(outcome)

    @property
    def _ends_early(self) -> bool:
        return bool(self._failed) and self._pace.fail_fast

    # One step -------------------------------------------------------------------------------------

    def _run_in_thread(self, step: Step) -> None:
        result: Outcome | BaseException = Outcome(step, Status.INTERRUPTED)
        context = replace(
            self._context, on_line=lambda address, line: self._tell(Printed(address, line))
        )
        context.unlocked = lambda: self._unlocked(step, context)
        self._await_turn()
        try:
            try:
                if not self._context.stop.asked.is_set():
                    result = self._carry_out(step, context)
            finally:
                self._turn.release()
            if isinstance(result, Outcome):
                self._settle(result)
        except BaseException as error:
            result = error
        self._results.put((step, result))

    def _carry_out(self, step: Step, context: Context) -> Outcome:
        """Do a step and record it. In the main thread a signal may come at any time."""
        began = time.monotonic()
        try:
            outcome, change = self._do(step, context)
        except CutShort:
            outcome = Outcome(step, Status.INTERRUPTED)
            self._record(outcome, {})
            return outcome
        except Interrupted:
            outcome = Outcome(step, Status.INTERRUPTED)
            self._record(outcome, {})
            self._settle(outcome)
            raise
        outcome = replace(outcome, seconds=round(time.monotonic() - began, 3))
        if _is_recorded(outcome):
            self._record(outcome, change.records)
        return outcome

    def _settle(self, outcome: Outcome) -> None:
        """Say that a step ended when its record is on disk: others have their turns meanwhile."""
        if _is_recorded(outcome):
            self._twice(lambda: self._world.settle(outcome))
        if outcome.status is not Status.INTERRUPTED:
            self._tell(Ended(outcome))

    def _do(self, step: Step, context: Context) -> tuple[Outcome, Change]:
        nothing = Change("")
        kind = step.address.partition(".")[0]
        try:
            context.recorded = self._world.recorded()
            if kind != "file" and step.action not in LEAVES:
                context.facts = self._world.look(step.address)
                context.recorded = context.facts.recorded
                now = context.facts.steps.get(step.address)
                if now is None:
                    return Outcome(step, Status.UNCHANGED, "as it was before"), nothing
                _check_same(step, now)
                step = now
            self._world.guard(step)
            change = PROVIDERS[kind].apply(step, context)
        except MlspecError as error:
            return _failure(step, error), nothing
        except BrokenPipeError:  # nobody reads what is shown: not the step's fault
            raise
        except OSError as error:
            return _failure(step, unusable(error)), nothing
        if change.failure is not None:
            return _failure(step, change.failure), change
        return Outcome(step, Status.DONE, change.detail), change

    def _record(self, outcome: Outcome, records: Mapping[str, Record | None]) -> None:
        self._twice(lambda: self._world.record(outcome, records))

    def _twice(self, write: Callable[[], None]) -> None:
        try:
            write()
        except MlspecError:
            if not self._context.stop.asked.is_set():
                raise
            # Ctrl-C reaches also a Git that was just writing for us; the next one it leaves alone
            write()

    # Turns and events -----------------------------------------------------------------------------

    def _await_turn(self) -> None:
        with self._next_turn:
            self._turn.acquire()

    @contextmanager
    def _unlocked(self, step: Step, context: Context) -> Iterator[None]:
        """Others have their turns meanwhile, and may have recorded something.

        Afterwards the next command may start, unless one thing is to be done after the other.
        """
        self._turn.release()
        try:
            yield
        finally:
            if self._pace.jobs > 1 and not self._pace.fail_fast:
                self._results.put((step, None))
            self._await_turn()
            context.recorded = self._world.recorded()

    def _tell(self, event: Event) -> None:
        with self._telling:
            if self._mute:
                return
            try:
                self._on_event(event)
            except Exception:
                self._mute = True
                raise

    # The end before the end -----------------------------------------------------------------------

    def _wind_up(self) -> None:
        """End the commands that run, and wait until those that ended well are recorded."""
        stop = self._context.stop
        stop.asked.set()
        try:
            self._drain(PATIENCE)
            if self._threads:
                with suppress(OSError):
                    self._tell(Lingering(tuple(self._threads)))
                self._drain()
        except Interrupted:
            stop.at_once.set()
            self._drain(LAST_PATIENCE)
            raise

    def _drain(self, patience: float = math.inf) -> None:
        """Wait for the threads, but for one that a signal kept from being started or taken."""
        limit = time.monotonic() + patience
        while self._threads and time.monotonic() < limit:
            try:
                step, result = self._results.get(timeout=POLL)
            except Empty:
                for address, (thread, _) in list(self._threads.items()):
                    if not thread.is_alive() and self._results.empty():
                        del self._threads[address]
                continue
            if result is not None and step.address in self._threads:
                self._threads.pop(step.address)[0].join()
            if isinstance(result, MlspecError):
                with suppress(OSError):
                    self._tell(Ended(_failure(step, result)))


def _is_recorded(outcome: Outcome) -> bool:
    """Files are kept by Git, and of what was left as it was there is nothing to say."""
    is_file = outcome.step.address.startswith("file.")
    return not is_file and outcome.status is not Status.UNCHANGED


def _has_command(step: Step) -> bool:
    return step.address.startswith("stage.") and step.action is Action.RUN


def _check_same(planned: Step, now: Step) -> None:
    allowed = {planned.action} | STANDS_FOR.get(planned.action, set())
    if now.action not in allowed:
        raise MlspecError(
            f"{planned.address} would now be a {now.action} ({now.reason}), not a {planned.action}",
            hint="plan again: the world changed under the plan",
        )


def _failure(step: Step, error: MlspecError) -> Outcome:
    return Outcome(
        step, Status.FAILED, error.message, hint=error.hint, error_code=int(error.exit_code)
    )
