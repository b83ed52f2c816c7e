"""What left the spec and is only to be forgotten."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlspec.ledger.state import Recorded
from mlspec.planner import check_deletes, make_destroy_plan, make_plan


def actions(world: Any, *removed: str, destroy: bool = False) -> dict[str, str]:
    desired = world.desired
    spec = desired.spec.model_copy(update={"removed": removed})
    make = make_destroy_plan if destroy else make_plan
    plan = make(replace(desired, spec=spec), world.observed, Recorded.of(world.records))
    if not destroy:
        check_deletes(plan, spec, allowed="delete" in str(plan.steps), allow_empty=True)
    return {step.address: str(step.action) for step in plan.steps}


@pytest.mark.parametrize(
    ("removed", "planned"),
    [
        ((), {"deployment.m@local": "delete"}),
        (("deployment.m",), {"deployment.m@local": "forget"}),
        (("deployment.m@local",), {"deployment.m@local": "forget"}),
        (("deployment.m@other", "model.m"), {"deployment.m@local": "delete"}),
    ],
)
def test_a_deployment(settled: Any, removed: tuple[str, ...], planned: dict[str, str]) -> None:
    settled.without = {"deployment.m@local"}
    assert actions(settled, *removed) == planned


def test_a_deployment_that_was_forgotten_and_runs_on(settled: Any) -> None:
    settled.without = {"deployment.m@local"}
    settled.records = {p: r for p, r in settled.records.items() if not p.startswith("deployments")}
    assert actions(settled, "deployment.m") == {}
    assert actions(settled, "deployment.m", destroy=True) == {}
    assert actions(settled) == {"deployment.m@local": "delete"}


def test_a_model(settled: Any) -> None:
    settled.without = {address for address in settled.desired.resources if ".m" in address}
    assert actions(settled, "model.m", "deployment.m") == {
        "deployment.m@local": "forget",
        "model.m": "forget",
    }
    assert actions(settled, "deployment.m") == {
        "deployment.m@local": "forget",
        "model.m": "delete",
    }
