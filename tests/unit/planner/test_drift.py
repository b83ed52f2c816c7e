"""Which steps are drift, in which reading, and what mends it."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.plan import Action, Consequence, FieldChange, Step
from mlspec.planner.drift import Drift, find_drifts, heal_steps
from mlspec.resources import ObservedDeployment


def drifts(world: Any) -> dict[str, tuple[str, str]]:
    found = find_drifts(world.plan().steps, lambda _: False)
    return {each.address: (each.reading.value, each.mend.value) for each in found}


def test_what_is_settled_has_none(settled: Any) -> None:
    assert drifts(settled) == {}


@pytest.mark.parametrize("edit", [{"depth": 4}, {"depth": 3.0}, {"data": "d2"}, {"service": "s"}])
def test_what_somebody_asked_for_is_none(settled: Any, edit: dict[str, Any]) -> None:
    for name, value in edit.items():
        setattr(settled, name, value)
    assert settled.plan().steps
    assert drifts(settled) == {}


def test_an_output_that_was_changed(settled: Any) -> None:
    settled.outputs["stage.m.train"] = {"model.onnx": "other"}
    assert drifts(settled) == {"stage.m.train": ("outputs", "restore")}


def test_a_lock_that_lost_its_run(settled: Any) -> None:
    del settled.locks["stage.m.train"]
    assert drifts(settled) == {"stage.m.train": ("ledger and locks", "re-record")}


def test_a_lock_of_another_run_than_the_recorded_one(settled: Any) -> None:
    entry = dict(settled.locks["stage.m.train"])
    settled.locks["stage.m.train"] = {**entry, "cmd": "python other.py"}
    assert drifts(settled) == {"stage.m.train": ("ledger and locks", "re-record")}


@pytest.mark.parametrize("seen", [ObservedDeployment(False), ObservedDeployment(True, "other")])
def test_a_service_that_is_down_or_another(settled: Any, seen: ObservedDeployment) -> None:
    settled.running = {"deployment.m@local": seen}
    assert drifts(settled) == {"deployment.m@local": ("running service", "redeploy")}


def test_a_service_that_nobody_named(settled: Any) -> None:
    settled.running["deployment.x@local"] = ObservedDeployment(True, "r")
    assert drifts(settled) == {"deployment.x@local": ("running service", "remove")}


def test_a_run_that_the_ledger_lacks(new: Any, settled: Any) -> None:
    new.locks = {address: dict(entry) for address, entry in settled.locks.items()}
    new.outputs = settled.outputs
    found = drifts(new)
    assert found["stage.m.train"] == ("ledger and locks", "re-record")


def step(address: str, action: Action, *after: str) -> Step:
    change = FieldChange("x", 1, 1, 2)
    return Step(address, action, Consequence.NONE, "drift: x", after, (change,))


def healed(*steps: Step, deletes: bool = False) -> list[str]:
    found: list[Drift] = list(find_drifts(steps, lambda _: True))
    return [each.address for each in heal_steps(steps, found, deletes=deletes)]


def test_only_drift_is_mended_and_nothing_that_comes_after_something_else() -> None:
    other = Step("stage.m.train", Action.RUN, Consequence.RETRAIN, "params.depth changed")
    file = step("file.services/m/service.py", Action.UPDATE)
    serve = step("deployment.m@local", Action.DEPLOY, file.address)
    assert healed(file, other, serve) == [file.address, serve.address]
    serve = step("deployment.m@local", Action.DEPLOY, other.address)
    last = step("deployment.n@local", Action.DEPLOY, serve.address)
    assert healed(file, other, serve, last) == [file.address]


def test_nothing_is_deleted_without_leave_but_files() -> None:
    stray, file = step("deployment.x@local", Action.DELETE), step("file.x", Action.DELETE)
    assert healed(stray, file) == ["file.x"]
    assert healed(stray, file, deletes=True) == ["deployment.x@local", "file.x"]
