"""Carrying a plan out, with hands that only note what they are asked to do."""

from __future__ import annotations

import errno
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlspec import apply
from mlspec.apply import Ended, Event, Lingering, Pace, Printed, Started, apply_plan
from mlspec.errors import (
    Degraded,
    ExitCode,
    GateFailed,
    Interrupted,
    LockLost,
    MlspecError,
    RemoteUnreachable,
    RolledBack,
)
from mlspec.executors import Stop
from mlspec.executors.capacity import Machine
from mlspec.ledger.records import ModelState, Record
from mlspec.plan import Action, Base, Consequence, Outcome, Plan, Report, Status, Step
from mlspec.providers.context import Change, Context, CutShort, Source
from mlspec.resources import DeploymentResource, ModelResource, StageResource
from mlspec.spec.models import Deployment, Model, Resources, Rollout, Stage

MACHINE = Machine()
vars(MACHINE).update(cpus=8, memory=8 * 2**30, gpus=2)
TRAIN = Stage(command="train")
LONG = 120.0
"""Seconds within which whatever is waited for happens."""
STATE = ModelState(version=1)


def step(address: str, action: Action = Action.RUN, *after: str) -> Step:
    return Step(address, action, Consequence.NONE, "because", after=after)


@dataclass
class World:
    """Steps that are still to do (as a new look finds them), and what happens in each."""

    now: dict[str, Step] = field(default_factory=dict)
    hands: dict[str, Callable[..., Change]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    recorded_: list[tuple[str, Status, dict[str, Record | None]]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    looks: list[str] = field(default_factory=list)
    stages: dict[str, Stage] = field(default_factory=dict)
    stop: Stop = field(default_factory=Stop)
    refused: set[str] = field(default_factory=set)
    resources: dict[str, Any] = field(default_factory=dict)

    def apply(self, step: Step, context: Any) -> Change:
        self.done.append(f"{step.address} {step.action}")
        hand = self.hands.get(step.address)
        if hand is None:
            return Change("well", {step.address: STATE})
        return hand(context) if signature(hand).parameters else hand()

    def guard(self, step: Step) -> None:
        if step.address in self.refused:
            raise LockLost("lost")

    def look(self, address: str) -> Any:
        self.looks.append(address)
        return SimpleNamespace(steps=dict(self.now), recorded=None)

    def recorded(self) -> Any:
        return None

    def record(self, outcome: Outcome, records: Mapping[str, Record | None]) -> None:
        step = outcome.step
        self.events.append(f"record {step.address}")
        self.recorded_.append((f"{step.address} {step.action}", outcome.status, dict(records)))

    def settle(self, outcome: Outcome) -> None:
        assert outcome.step.address in [done.partition(" ")[0] for done, *_ in self.recorded_]
        self.events.append(f"settle {outcome.step.address}")

    def hear(self, event: Event) -> None:
        match event:
            case Started(step=step):
                self.events.append(f"start {step.address}")
            case Ended(outcome=outcome):
                self.events.append(f"end {outcome.step.address} {outcome.status}")
            case Printed(address=address, line=line):
                self.events.append(f"{address}: {line}")
            case Lingering(addresses=addresses):
                self.events.append(f"waits for {' '.join(addresses)}")

    def get(self, kind: type, address: str) -> Any:
        """What is desired: of stages, what their commands want."""
        if kind is ModelResource:
            return SimpleNamespace(model=Model(stages={"train": TRAIN}))
        _, model, name = address.split(".")
        stage = self.stages.get(address, TRAIN)
        return StageResource(model, name, stage, (), {}, "", (), ())

    def carry_out(self, *steps: Step, jobs: int = 1, **options: Any) -> Report:
        for each in steps:
            self.now.setdefault(each.address, each)
        return self.carry_out_plan(Plan(Base("", "", ""), steps), Pace(jobs, **options))

    def carry_out_plan(self, plan: Plan, pace: Pace) -> Report:
        desired: Any = self
        context = Context(
            root=Path(),
            desired=desired,
            facts=None,  # type: ignore[arg-type]
            recorded=None,  # type: ignore[arg-type]
            worktree=None,  # type: ignore[arg-type]
            dvc=None,  # type: ignore[arg-type]
            executor=None,  # type: ignore[arg-type]
            logs=Path(),
            source=Source("", False, 0),
            place="",
            stop=self.stop,
        )
        return apply_plan(plan, context, world=self, on_event=self.hear, machine=MACHINE, pace=pace)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for kind in apply.PROVIDERS:
        monkeypatch.setitem(apply.PROVIDERS, kind, SimpleNamespace(apply=world.apply))
    return world


def fail(error: BaseException) -> Callable[[], Change]:
    def hand() -> Change:
        raise error

    return hand


def statuses(report: Report) -> list[str]:
    return [outcome.status.value for outcome in report.outcomes]


def test_every_step_is_recorded_when_it_is_done_and_before_the_next(world: World) -> None:
    report = world.carry_out(step("stage.m.train"), step("model.m", Action.REGISTER))
    assert world.events == [
        "start stage.m.train",
        "record stage.m.train",
        "settle stage.m.train",
        "end stage.m.train done",
        "start model.m",
        "record model.m",
        "settle model.m",
        "end model.m done",
    ]
    assert world.recorded_[0] == ("stage.m.train run", Status.DONE, {"stage.m.train": STATE})
    assert (report.exit_code, statuses(report)) == (0, ["done", "done"])


def test_files_are_not_recorded_and_the_world_is_not_surveyed_for_them(world: World) -> None:
    world.carry_out(step("file.a", Action.CREATE), step("file.b", Action.DELETE))
    assert world.done == ["file.a create", "file.b delete"]
    assert (world.recorded_, world.looks) == ([], [])


def test_what_is_deleted_is_not_looked_for(world: World) -> None:
    world.carry_out(step("deployment.d@t", Action.DELETE))
    assert (world.done, world.looks) == (["deployment.d@t delete"], [])


def test_a_failure_ends_what_comes_after_it_and_nothing_else(world: World) -> None:
    world.hands["stage.m.train"] = fail(MlspecError("no", hint="do better"))
    report = world.carry_out(
        step("stage.m.train"),
        step("stage.n.train"),
        step("stage.m.evaluate", Action.RUN, "stage.m.train"),
        step("model.m", Action.REGISTER, "stage.m.evaluate"),
        step("model.n", Action.REGISTER, "stage.n.train"),
    )
    assert statuses(report) == ["failed", "done", "skipped", "skipped", "done"]
    assert world.done == ["stage.m.train run", "stage.n.train run", "model.n register"]
    assert [(outcome.detail, outcome.hint) for outcome in report.outcomes[::2]] == [
        ("no", "do better"),
        ("stage.m.train did not succeed", ""),
        ("well", ""),
    ]
    assert [address for address, _, _ in world.recorded_] == world.done
    assert world.recorded_[0] == ("stage.m.train run", Status.FAILED, {})
    assert "start model.m" not in world.events
    assert "end model.m skipped" in world.events


def test_a_step_that_the_apply_may_not_do_any_more_is_not_done(world: World) -> None:
    world.refused.add("deployment.d@t")
    report = world.carry_out(
        step("stage.m.train"), step("deployment.d@t", Action.DEPLOY, "stage.m.train")
    )
    assert statuses(report) == ["done", "failed"]
    assert world.done == ["stage.m.train run"]
    assert report.exit_code == ExitCode.LOCKED


def test_a_predecessor_without_a_step_does_not_stop(world: World) -> None:
    report = world.carry_out(step("model.m", Action.REGISTER, "stage.m.train"))
    assert statuses(report) == ["done"]


def test_what_is_as_before_is_not_done_nor_recorded_and_stops_nothing(world: World) -> None:
    steps = (step("stage.m.evaluate"), step("model.m", Action.REGISTER, "stage.m.evaluate"))
    world.now = {"model.m": steps[1]}
    report = world.carry_out_plan(Plan(Base("", "", ""), steps), Pace())
    assert statuses(report) == ["unchanged", "done"]
    assert world.done == ["model.m register"]
    assert [address for address, _, _ in world.recorded_] == ["model.m register"]


@pytest.mark.parametrize(
    ("planned", "found"),
    [
        (Action.RUN, Action.RESTORE),
        (Action.RUN, Action.ADOPT),
        (Action.DEPLOY, Action.ROLLBACK),
        (Action.ROLLBACK, Action.DEPLOY),
    ],
)
def test_a_step_may_turn_out_to_be_another(world: World, planned: Action, found: Action) -> None:
    world.now["stage.m.train"] = step("stage.m.train", found)
    report = world.carry_out(step("stage.m.train", planned))
    assert world.done == [f"stage.m.train {found}"]
    assert world.recorded_[0][0] == f"stage.m.train {found}"
    assert report.outcomes[0].step.action is found


@pytest.mark.parametrize(
    ("planned", "found"),
    [
        (planned, found)
        for planned in Action
        for found in Action
        if found is not planned
        and found not in apply.STANDS_FOR.get(planned, set())
        and planned not in apply.LEAVES
    ],
)
def test_a_step_may_not_turn_out_to_be_anything(
    world: World, planned: Action, found: Action
) -> None:
    world.now["stage.m.train"] = step("stage.m.train", found)
    report = world.carry_out(step("stage.m.train", planned))
    assert world.done == []
    (outcome,) = report.outcomes
    assert outcome.status is Status.FAILED
    assert f"would now be a {found} (because), not a {planned}" in outcome.detail
    assert "plan again" in outcome.hint


def test_restoring_never_becomes_running() -> None:
    costly = {Action.RUN, Action.DEPLOY, Action.REGISTER, Action.DELETE}
    assert not apply.STANDS_FOR.get(Action.RESTORE, set()) & costly
    assert Action.RUN not in set().union(*apply.STANDS_FOR.values())


@pytest.mark.parametrize(
    ("errors", "code"),
    [
        ([], 0),
        ([MlspecError("")], 1),
        ([GateFailed("")], 3),
        ([RemoteUnreachable("")], 5),
        ([RolledBack("")], 6),
        ([MlspecError(""), GateFailed("")], 1),
        ([Degraded(""), GateFailed(""), MlspecError("")], 7),
    ],
)
def test_the_exit_code_is_that_of_the_worst_failure(
    world: World, errors: list[MlspecError], code: int
) -> None:
    for number, error in enumerate(errors):
        world.hands[f"stage.m{number}.train"] = fail(error)
    report = world.carry_out(*(step(f"stage.m{number}.train") for number in range(4)))
    assert report.exit_code == code
    assert report.as_dict()["exit_code"] == code


def test_a_failure_may_have_something_to_remember(world: World) -> None:
    refused = Change("0.4 < 0.5", {"candidate": STATE}, GateFailed("gate.m.good failed"))
    world.hands["gate.m.good"] = lambda: refused
    report = world.carry_out(
        step("gate.m.good", Action.EVALUATE), step("model.m", Action.REGISTER, "gate.m.good")
    )
    assert world.recorded_ == [("gate.m.good evaluate", Status.FAILED, {"candidate": STATE})]
    assert (report.exit_code, statuses(report)) == (ExitCode.GATE_FAILED, ["failed", "skipped"])
    assert report.outcomes[0].detail == "gate.m.good failed"


def test_what_the_system_refuses_fails_the_step(world: World) -> None:
    world.hands["stage.m.train"] = fail(OSError(errno.ENOSPC, "No space left on device", "/a/b"))
    report = world.carry_out(step("stage.m.train"), step("stage.n.train"))
    assert report.outcomes[0].detail == "cannot use /a/b: No space left on device"
    assert (report.exit_code, statuses(report)) == (1, ["failed", "done"])


def test_a_look_that_fails_fails_the_step(world: World) -> None:
    def look(_: str) -> Any:
        raise MlspecError("the ledger is damaged")

    world.look = look  # type: ignore[method-assign]
    report = world.carry_out(step("stage.m.train"))
    assert (statuses(report), report.outcomes[0].detail) == (["failed"], "the ledger is damaged")
    assert world.done == []


def test_a_signal_is_recorded_and_ends_everything(world: World) -> None:
    world.hands["stage.m.train"] = fail(Interrupted(15))
    with pytest.raises(Interrupted) as caught:
        world.carry_out(step("stage.m.train"), step("stage.n.train"))
    assert caught.value.exit_code == ExitCode.TERMINATED
    assert world.recorded_ == [("stage.m.train run", Status.INTERRUPTED, {})]
    assert world.done == ["stage.m.train run"]


@pytest.mark.parametrize("error", [BrokenPipeError(), RuntimeError("a defect")])
def test_what_is_no_failure_of_the_step_is_not_recorded(world: World, error: Exception) -> None:
    world.hands["stage.m.train"] = fail(error)
    with pytest.raises(type(error)):
        world.carry_out(step("stage.m.train"), step("stage.n.train"))
    assert world.recorded_ == []


def test_a_ledger_that_cannot_be_written_ends_everything(world: World) -> None:
    def record(*_: Any) -> None:
        raise MlspecError("the disk is full")

    world.record = record  # type: ignore[method-assign]
    with pytest.raises(MlspecError, match="the disk is full"):
        world.carry_out(step("stage.m.train"), step("stage.n.train"))
    assert world.done == ["stage.m.train run"]


def test_an_empty_plan(world: World) -> None:
    report = world.carry_out()
    assert (report.outcomes, report.exit_code, world.looks) == ((), 0, [])


def test_seconds_are_kept(world: World) -> None:
    (outcome,) = world.carry_out(step("stage.m.train")).outcomes
    assert outcome.seconds >= 0
    assert replace(outcome, seconds=0.0).detail == "well"


# At the same time ---------------------------------------------------------------------------------


class Commands:
    """Commands of stages as hands that wait for each other; counts how many run."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.now = 0
        self.most = 0
        self.in_turn = 0

    @contextmanager
    def running(self, context: Context) -> Iterator[None]:
        """What is done within this is done while others have their turns."""
        self.check_turn()
        with context.unlocked():
            with self._lock:
                self.now += 1
                self.most = max(self.most, self.now)
            yield
            with self._lock:
                self.now -= 1
        self.check_turn()

    def check_turn(self) -> None:
        """Nobody else has the turn."""
        self.in_turn += 1
        assert self.in_turn == 1
        time.sleep(0.002)
        self.in_turn -= 1

    def meet(self, count: int) -> Callable[[Context], Change]:
        """A command that ends when `count` of them run."""
        barrier = threading.Barrier(count)

        def hand(context: Context) -> Change:
            with self.running(context):
                barrier.wait(LONG)
            return Change("well")

        return hand

    def short(self, context: Context) -> Change:
        with self.running(context):
            time.sleep(0.01)
        return Change("well")


def trains(count: int) -> list[Step]:
    return [step(f"stage.m{number:02}.train") for number in range(count)]


def wanting(**resources: Any) -> Stage:
    return Stage(command="train", resources=Resources.model_validate(resources))


def test_commands_run_at_the_same_time_and_all_else_in_turn(world: World) -> None:
    commands = Commands()
    steps = trains(8)
    meet = commands.meet(4)
    world.hands |= {each.address: meet for each in steps}
    report = world.carry_out(*steps, jobs=4)
    assert statuses(report) == ["done"] * 8
    assert commands.most == 4
    assert [outcome.step.address for outcome in report.outcomes] == [s.address for s in steps]
    started = [event for event in world.events if event.startswith("start")]
    assert started == [f"start {each.address}" for each in steps]


def test_never_more_commands_than_jobs(world: World) -> None:
    commands = Commands()
    steps = trains(12)
    world.hands |= {each.address: commands.short for each in steps}
    world.carry_out(*steps, jobs=3)
    assert 1 <= commands.most <= 3


@pytest.mark.parametrize(
    ("wanted", "most"),
    [({"cpus": 3.0}, 2), ({"gpus": 1}, 2), ({"memory": "3GiB"}, 2), ({"cpus": 0.5}, 12)],
)
def test_never_more_than_the_machine_has(world: World, wanted: dict[str, Any], most: int) -> None:
    commands = Commands()
    steps = trains(12)
    meet = commands.meet(most)
    world.hands |= {each.address: commands.short for each in steps}
    world.hands |= {each.address: meet for each in steps[:most]}
    world.stages |= {each.address: wanting(**wanted) for each in steps}
    world.carry_out(*steps, jobs=100)
    assert commands.most == most


def test_what_wants_more_than_the_machine_has_is_begun_and_fails(world: World) -> None:
    """Its executor says what is missing; that it waits for ever would help nobody."""
    world.stages["stage.m00.train"] = wanting(cpus=99.0, gpus=9, memory="1TiB")
    world.hands["stage.m00.train"] = fail(MlspecError("it wants 99 cpus (8 here)"))
    assert statuses(world.carry_out(*trains(2), jobs=4)) == ["failed", "done"]


def test_a_large_stage_is_not_passed_for_ever_by_small_ones(world: World) -> None:
    """The second wants all; those behind it start only when it has."""
    commands = Commands()
    steps = trains(9)
    world.hands |= {each.address: commands.short for each in steps}
    world.stages[steps[1].address] = wanting(cpus=8.0)
    world.carry_out(*steps, jobs=8)
    started = [event for event in world.events if event.startswith("start")]
    assert started == [f"start {each.address}" for each in steps]


def test_a_stage_that_waits_for_a_gpu_lets_others_pass(world: World) -> None:
    commands = Commands()
    steps = trains(5)
    meet = commands.meet(3)
    world.stages |= {each.address: wanting(gpus=2) for each in steps[:2]}
    world.hands |= {each.address: meet for each in (steps[0], *steps[2:4])}
    assert statuses(world.carry_out(*steps, jobs=4)) == ["done"] * 5


def test_stages_that_run_elsewhere_take_nothing_of_this_machine(world: World) -> None:
    commands = Commands()
    steps = trains(20)
    meet = commands.meet(20)
    world.hands |= {each.address: meet for each in steps}
    far = Stage(command="train", executor="cluster", resources=Resources(cpus=64, gpus=8))
    world.stages |= {each.address: far for each in steps}
    world.carry_out(*steps, jobs=1)
    assert commands.most == 20


def test_with_one_job_one_step_is_done_after_the_other(world: World) -> None:
    world.hands["stage.a.train"] = fail(MlspecError("no"))
    world.hands["stage.b.train"] = Commands().short
    world.carry_out(
        step("stage.a.train"),
        step("stage.b.train"),
        step("stage.c.train"),
        step("gate.a.good", Action.EVALUATE, "stage.a.train"),
        step("gate.b.good", Action.EVALUATE, "stage.b.train"),
    )
    assert [event for event in world.events if not event.startswith(("record", "settle"))] == [
        "start stage.a.train",
        "end stage.a.train failed",
        "end gate.a.good skipped",
        "start stage.b.train",
        "end stage.b.train done",
        "start gate.b.good",
        "end gate.b.good done",
        "start stage.c.train",
        "end stage.c.train done",
    ]


def test_a_slow_branch_holds_up_only_itself(world: World) -> None:
    """All of the other model is done while the first command still runs."""
    others_done = threading.Event()

    def slow(context: Context) -> Change:
        with context.unlocked():
            assert others_done.wait(LONG)
        return Change("well")

    world.hands["stage.a.train"] = slow
    world.hands["model.b"] = lambda: (others_done.set(), Change("well"))[1]
    report = world.carry_out(
        step("stage.a.train"),
        step("stage.b.train"),
        step("gate.a.good", Action.EVALUATE, "stage.a.train"),
        step("gate.b.good", Action.EVALUATE, "stage.b.train"),
        step("model.a", Action.REGISTER, "gate.a.good"),
        step("model.b", Action.REGISTER, "gate.b.good"),
        jobs=2,
    )
    assert statuses(report) == ["done"] * 6
    assert world.events.index("end model.b done") < world.events.index("end stage.a.train done")


@pytest.mark.parametrize("jobs", [2, 4])
def test_others_have_their_turns_while_a_rollout_goes_on(world: World, jobs: int) -> None:
    address, began, others = "deployment.a@here", threading.Event(), threading.Event()
    rollout = Deployment(model="a", targets=("here",), rollout=Rollout(strategy="blue-green"))
    world.resources[address] = DeploymentResource("a", "here", rollout, 3000, {}, {}, ())

    def roll_out(context: Context) -> Change:
        with context.unlocked():
            began.set()
            assert others.wait(LONG)
        return Change("promoted")

    def register() -> Change:
        assert began.wait(LONG)
        others.set()
        return Change("well")

    world.hands = {address: roll_out, "stage.b.train": register}
    report = world.carry_out(
        step(address, Action.DEPLOY), step("stage.b.train"), step("stage.c.train"), jobs=jobs
    )
    assert report.exit_code == 0
    assert len(world.done) == 3


def test_a_rollout_that_fails_before_it_begins_leaves_the_others(world: World) -> None:
    address = "deployment.a@here"
    rollout = Deployment(model="a", targets=("here",), rollout=Rollout(strategy="blue-green"))
    world.resources[address] = DeploymentResource("a", "here", rollout, 3000, {}, {}, ())

    def fail() -> Change:
        raise MlspecError("no HAProxy")

    world.hands = {address: fail}
    report = world.carry_out(step(address, Action.DEPLOY), step("stage.b.train"), jobs=2)
    assert [each.status for each in report.outcomes] == [Status.FAILED, Status.DONE]


def test_what_was_recorded_meanwhile_is_known_after_the_command(world: World) -> None:
    ledger: list[str] = []
    world.recorded = lambda: list(ledger)  # type: ignore[method-assign]
    seen = []

    def hand(context: Context) -> Change:
        with context.unlocked():
            ledger.append("another's")
        seen.append(context.recorded)
        return Change("well")

    world.hands["stage.m.train"] = hand
    world.carry_out(step("stage.m.train"))
    assert seen == [["another's"]]


def test_lines_are_told_by_address(world: World) -> None:
    def hand(context: Context) -> Change:
        with context.unlocked():
            context.on_line("stage.m.train", "epoch 1")
        return Change("well")

    world.hands["stage.m.train"] = hand
    world.carry_out(step("stage.m.train"))
    assert world.events[:2] == ["start stage.m.train", "stage.m.train: epoch 1"]


# Failing fast -------------------------------------------------------------------------------------


def test_failing_fast_starts_nothing_more_and_loses_nothing_that_runs(world: World) -> None:
    commands = Commands()
    both_run = commands.meet(2)

    def failing(context: Context) -> Change:
        both_run(context)
        raise MlspecError("no")

    failed = threading.Event()

    def slow(context: Context) -> Change:
        both_run(context)
        with context.unlocked():
            assert failed.wait(LONG)
        return Change("well")

    hear = world.hear

    def hear_failure(event: Event) -> None:
        hear(event)
        if isinstance(event, Ended) and event.outcome.status is Status.FAILED:
            failed.set()

    world.hear = hear_failure  # type: ignore[method-assign]
    world.hands |= {"stage.a.train": failing, "stage.b.train": slow}
    report = world.carry_out(
        step("stage.a.train"),
        step("stage.b.train"),
        step("stage.c.train"),
        step("gate.a.good", Action.EVALUATE, "stage.a.train"),
        step("gate.b.good", Action.EVALUATE, "stage.b.train"),
        jobs=2,
        fail_fast=True,
    )
    assert statuses(report) == ["failed", "done", "skipped", "skipped", "skipped"]
    assert [outcome.detail for outcome in report.outcomes[2:]] == [
        "not started: --fail-fast after stage.a.train failed",
        "stage.a.train did not succeed",
        "not started: --fail-fast after stage.a.train failed",
    ]
    assert [(address, status) for address, status, _ in world.recorded_] == [
        ("stage.a.train run", Status.FAILED),
        ("stage.b.train run", Status.DONE),
    ]


# Ends before the end ------------------------------------------------------------------------------


@pytest.fixture
def signalled() -> Iterator[Callable[[], None]]:
    """Sends a signal to the main thread, which raises there as `mlspec` has it."""

    def interrupt(number: int, _frame: object) -> None:
        raise Interrupted(number)

    before = signal.signal(signal.SIGUSR1, interrupt)
    yield lambda: signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def until(event: threading.Event) -> None:
    assert event.wait(LONG)


def test_a_signal_keeps_what_ended_well_and_ends_what_runs(
    world: World, signalled: Callable[[], None]
) -> None:
    def ends_well(context: Context) -> Change:
        with context.unlocked():
            until(world.stop.asked)
        return Change("well", {"run": STATE})

    def is_ended(context: Context) -> Change:
        with context.unlocked():
            signalled()
            until(world.stop.asked)
        raise CutShort

    world.hands |= {"stage.a.train": ends_well, "stage.b.train": is_ended}
    with pytest.raises(Interrupted) as caught:
        world.carry_out(
            step("stage.a.train"),
            step("stage.b.train"),
            step("stage.c.train"),
            step("model.a", Action.REGISTER, "stage.a.train"),
            jobs=2,
        )
    assert caught.value.exit_code == 128 + signal.SIGUSR1
    assert sorted(world.recorded_, key=lambda recorded: recorded[0]) == [
        ("stage.a.train run", Status.DONE, {"run": STATE}),
        ("stage.b.train run", Status.INTERRUPTED, {}),
    ]
    assert not world.stop.at_once.is_set()
    assert not [each for each in threading.enumerate() if each.name.startswith("stage.")]


def test_a_signal_says_what_it_waits_for_and_a_second_one_does_not_wait(
    world: World, signalled: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apply, "PATIENCE", 0.2)

    def endless(context: Context) -> Change:
        with context.unlocked():
            signalled()
            until(world.stop.at_once)
        raise CutShort

    hear = world.hear

    def hear_lingering(event: Event) -> None:
        hear(event)
        if isinstance(event, Lingering):
            signalled()

    world.hear = hear_lingering  # type: ignore[method-assign]
    world.hands["stage.m.train"] = endless
    with pytest.raises(Interrupted):
        world.carry_out(step("stage.m.train"), jobs=2)
    assert "waits for stage.m.train" in world.events


def test_a_signal_just_when_a_thread_has_ended_ends_the_apply(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(apply._Apply, "_take", interrupted)
    with pytest.raises(Interrupted):
        world.carry_out(step("stage.m.train"))
    assert world.recorded_ == [("stage.m.train run", Status.DONE, {"stage.m.train": STATE})]


def test_a_record_that_the_signal_disturbed_is_written_again(
    world: World, signalled: Callable[[], None]
) -> None:
    def ends_well(context: Context) -> Change:
        with context.unlocked():
            signalled()
            until(world.stop.asked)
        return Change("well", {"run": STATE})

    record = world.record
    tries = []

    def disturbed(outcome: Outcome, records: Mapping[str, Record | None]) -> None:
        tries.append(outcome.status)
        if len(tries) == 1:
            raise MlspecError("git was ended by SIGINT")
        record(outcome, records)

    world.record = disturbed  # type: ignore[method-assign]
    world.hands["stage.m.train"] = ends_well
    with pytest.raises(Interrupted):
        world.carry_out(step("stage.m.train"))
    assert world.recorded_ == [("stage.m.train run", Status.DONE, {"run": STATE})]


@pytest.mark.parametrize("error", [BrokenPipeError(), RuntimeError("a defect")])
def test_a_thread_that_cannot_go_on_ends_the_others(world: World, error: Exception) -> None:
    def broken(context: Context) -> Change:
        with context.unlocked():
            raise error

    def is_ended(context: Context) -> Change:
        with context.unlocked():
            until(world.stop.asked)
        raise CutShort

    world.hands |= {"stage.a.train": is_ended, "stage.b.train": broken}
    with pytest.raises(type(error)):
        world.carry_out(*(step(f"stage.{name}.train") for name in "abc"), jobs=2)
    assert world.recorded_ == [("stage.a.train run", Status.INTERRUPTED, {})]
    assert not [each for each in threading.enumerate() if each.name.startswith("stage.")]


def test_nobody_hears_more_after_a_listener_that_failed(world: World) -> None:
    heard = []

    def listen(event: Event) -> None:
        heard.append(event)
        raise BrokenPipeError

    world.hear = listen  # type: ignore[method-assign]
    with pytest.raises(BrokenPipeError):
        world.carry_out(*trains(3), jobs=2)
    assert len(heard) == 1


@pytest.mark.thorough
def test_ten_thousand_steps(world: World) -> None:
    """What is next is found without looking at all that waits."""
    steps = [
        step(f"{kind}.m{number}", Action.REGISTER, *(() if kind == "a" else (f"a.m{number}",)))
        for kind in ("a", "b")
        for number in range(5000)
    ]
    hands = SimpleNamespace(apply=lambda *_: Change("well"))
    looked: Any = SimpleNamespace(steps={each.address: each for each in steps}, recorded=None)
    world.look = lambda _: looked  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(apply.PROVIDERS, "a", hands)
        patch.setitem(apply.PROVIDERS, "b", hands)
        report = world.carry_out_plan(Plan(Base("", "", ""), tuple(steps)), Pace(2))
    assert report.count(Status.DONE) == 10_000
