"""Carrying a plan out, with hands that only note what they are asked to do."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest

from mlspec import apply
from mlspec.apply import Ended, Event, Started, apply_plan
from mlspec.errors import (
    Degraded,
    ExitCode,
    GateFailed,
    Interrupted,
    MlspecError,
    RemoteUnreachable,
    RolledBack,
)
from mlspec.ledger.records import ModelState, Record
from mlspec.plan import Action, Base, Consequence, Outcome, Plan, Report, Status, Step
from mlspec.providers.context import Change

STATE = ModelState(version=1)


def step(address: str, action: Action = Action.RUN, *after: str) -> Step:
    return Step(address, action, Consequence.NONE, "because", after=after)


@dataclass
class World:
    """Steps that are still to do (as a new look finds them), and what happens in each."""

    now: dict[str, Step] = field(default_factory=dict)
    hands: dict[str, Callable[[Step], Change]] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)
    recorded: list[tuple[str, Status, dict[str, Record | None]]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    looks: int = 0

    def apply(self, step: Step, _context: Any) -> Change:
        self.done.append(f"{step.address} {step.action}")
        hand = self.hands.get(step.address)
        return hand(step) if hand else Change("well", {step.address: STATE})

    def look(self) -> Any:
        self.looks += 1
        return SimpleNamespace(steps=dict(self.now))

    def record(self, step: Step, outcome: Outcome, records: dict[str, Record | None]) -> None:
        self.events.append(f"record {step.address}")
        self.recorded.append((f"{step.address} {step.action}", outcome.status, records))

    def hear(self, event: Event) -> None:
        match event:
            case Started(step=step):
                self.events.append(f"start {step.address}")
            case Ended(outcome=outcome):
                self.events.append(f"end {outcome.step.address} {outcome.status}")

    def carry_out(self, *steps: Step) -> Report:
        for each in steps:
            self.now.setdefault(each.address, each)
        plan = Plan(Base("", "", ""), steps)
        context: Any = SimpleNamespace(facts=None)
        return apply_plan(plan, context, look=self.look, record=self.record, on_event=self.hear)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    for kind in apply.PROVIDERS:
        monkeypatch.setitem(apply.PROVIDERS, kind, SimpleNamespace(apply=world.apply))
    return world


def fail(error: BaseException) -> Callable[[Step], Change]:
    def hand(_: Step) -> Change:
        raise error

    return hand


def statuses(report: Report) -> list[str]:
    return [outcome.status.value for outcome in report.outcomes]


def test_every_step_is_recorded_when_it_is_done_and_before_the_next(world: World) -> None:
    report = world.carry_out(step("stage.m.train"), step("model.m", Action.REGISTER))
    assert world.events == [
        "start stage.m.train",
        "record stage.m.train",
        "end stage.m.train done",
        "start model.m",
        "record model.m",
        "end model.m done",
    ]
    assert world.recorded[0] == ("stage.m.train run", Status.DONE, {"stage.m.train": STATE})
    assert (report.exit_code, statuses(report)) == (0, ["done", "done"])


def test_files_are_not_recorded_and_the_world_is_not_surveyed_for_them(world: World) -> None:
    world.carry_out(step("file.a", Action.CREATE), step("file.b", Action.DELETE))
    assert world.done == ["file.a create", "file.b delete"]
    assert (world.recorded, world.looks) == ([], 0)


def test_what_is_deleted_is_not_looked_for(world: World) -> None:
    world.carry_out(step("deployment.d@t", Action.DELETE))
    assert (world.done, world.looks) == (["deployment.d@t delete"], 0)


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
    assert [address for address, _, _ in world.recorded] == world.done
    assert world.recorded[0] == ("stage.m.train run", Status.FAILED, {})
    assert "start model.m" not in world.events
    assert "end model.m skipped" in world.events


def test_a_predecessor_without_a_step_does_not_stop(world: World) -> None:
    report = world.carry_out(step("model.m", Action.REGISTER, "stage.m.train"))
    assert statuses(report) == ["done"]


def test_what_is_as_before_is_not_done_nor_recorded_and_stops_nothing(world: World) -> None:
    steps = (step("stage.m.evaluate"), step("model.m", Action.REGISTER, "stage.m.evaluate"))
    world.now = {"model.m": steps[1]}
    plan = Plan(Base("", "", ""), steps)
    report = apply_plan(
        plan,
        SimpleNamespace(facts=None),  # type: ignore[arg-type]
        look=world.look,
        record=world.record,
        on_event=world.hear,
    )
    assert statuses(report) == ["unchanged", "done"]
    assert world.done == ["model.m register"]
    assert [address for address, _, _ in world.recorded] == ["model.m register"]


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
    assert world.recorded[0][0] == f"stage.m.train {found}"
    assert report.outcomes[0].step.action is found


@pytest.mark.parametrize(
    ("planned", "found"),
    [
        (planned, found)
        for planned in Action
        for found in Action
        if found is not planned
        and found not in apply.STANDS_FOR.get(planned, set())
        and planned is not Action.DELETE
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
        ([MlspecError(""), GateFailed("")], 3),
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
    world.hands["gate.m.good"] = lambda _: refused
    report = world.carry_out(
        step("gate.m.good", Action.EVALUATE), step("model.m", Action.REGISTER, "gate.m.good")
    )
    assert world.recorded == [("gate.m.good evaluate", Status.FAILED, {"candidate": STATE})]
    assert (report.exit_code, statuses(report)) == (ExitCode.GATE_FAILED, ["failed", "skipped"])
    assert report.outcomes[0].detail == "gate.m.good failed"


def test_what_the_system_refuses_fails_the_step(world: World) -> None:
    world.hands["stage.m.train"] = fail(OSError(errno.ENOSPC, "No space left on device", "/a/b"))
    report = world.carry_out(step("stage.m.train"), step("stage.n.train"))
    assert report.outcomes[0].detail == "cannot use /a/b: No space left on device"
    assert (report.exit_code, statuses(report)) == (1, ["failed", "done"])


def test_a_look_that_fails_fails_the_step(world: World) -> None:
    def look() -> Any:
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
    assert world.recorded == [("stage.m.train run", Status.INTERRUPTED, {})]
    assert world.done == ["stage.m.train run"]


@pytest.mark.parametrize("error", [BrokenPipeError(), RuntimeError("a defect")])
def test_what_is_no_failure_of_the_step_is_not_recorded(world: World, error: Exception) -> None:
    world.hands["stage.m.train"] = fail(error)
    with pytest.raises(type(error)):
        world.carry_out(step("stage.m.train"), step("stage.n.train"))
    assert world.recorded == []


def test_a_ledger_that_cannot_be_written_ends_everything(world: World) -> None:
    def record(*_: Any) -> None:
        raise MlspecError("the disk is full")

    world.record = record  # type: ignore[method-assign]
    with pytest.raises(MlspecError, match="the disk is full"):
        world.carry_out(step("stage.m.train"), step("stage.n.train"))
    assert world.done == ["stage.m.train run"]


def test_an_empty_plan(world: World) -> None:
    report = world.carry_out()
    assert (report.outcomes, report.exit_code, world.looks) == ((), 0, 0)


def test_seconds_are_kept(world: World) -> None:
    (outcome,) = world.carry_out(step("stage.m.train")).outcomes
    assert outcome.seconds >= 0
    assert replace(outcome, seconds=0.0).detail == "well"
