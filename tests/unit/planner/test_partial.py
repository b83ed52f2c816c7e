"""Plans of a selection: what stays, what must wait and why, and what is never done in part."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.ledger.paths import POLICY, state_path
from mlspec.ledger.records import ModelState, Policy
from mlspec.ledger.state import Recorded
from mlspec.plan import Action, Plan
from mlspec.planner import conclude, survey
from mlspec.render.plan_text import render_plan
from mlspec.render.style import Style
from mlspec.resources import ObservedDeployment, ObservedFile
from mlspec.selection import Graph, parse, select


def plan(world: Any, expression: str) -> Plan:
    facts = survey(world.desired, world.observed, Recorded.of(world.records))
    graph = Graph(world.desired.spec, world.desired.spec.models)
    selected = select(parse(expression), graph, lambda _: ())
    return conclude(facts, commit="c", ledger="l", selection=selected)


def steps(plan: Plan) -> list[str]:
    return [step.address for step in plan.steps]


def held(plan: Plan) -> dict[str, str]:
    return {each.address: each.reason for each in plan.held}


UNIT = ["stage.m.train", "stage.m.evaluate", "gate.m.good", "model.m"]


@pytest.mark.parametrize(
    ("expression", "left"),
    [
        ("stage.m.train", ["stage.m.train"]),
        ("stage.m.*", ["stage.m.train", "stage.m.evaluate"]),
        ("m", UNIT),
        ("*", [*UNIT, "deployment.m@local"]),
        ("+deployment.m", [*UNIT, "deployment.m@local"]),
    ],
)
def test_the_steps_of_what_is_selected_stay(new: Any, expression: str, left: list[str]) -> None:
    made = plan(new, expression)
    assert steps(made) == left
    assert held(made) == {}


def test_a_step_waits_for_one_that_is_not_selected_and_others_wait_for_it(new: Any) -> None:
    made = plan(new, "+deployment.m ^ stage.m.train")
    lacking = "it needs stage.m.train, which is not selected: select +model.m"
    assert steps(made) == []
    assert held(made) == {
        "stage.m.evaluate": lacking,
        "gate.m.good": lacking,
        "model.m": lacking,
        "deployment.m@local": "it comes after model.m, which is left as it is",
    }
    assert held(plan(new, "deployment.m")) == {
        "deployment.m@local": "it needs model.m, which is not selected: select +deployment.m@local"
    }


def test_a_step_does_not_wait_for_what_has_nothing_to_do(settled: Any, copy_of: Any) -> None:
    world = copy_of(settled, evaluate_code="e2")
    made = plan(world, "stage.m.evaluate")
    assert steps(made) == ["stage.m.evaluate"]
    assert held(made) == {}


def test_what_left_the_spec_is_deleted_by_a_whole_plan_alone(settled: Any) -> None:
    settled.records[state_path("old")] = ModelState(version=1)
    settled.files["cards/old.md"] = ObservedFile("", ours=True)
    settled.running["deployment.old@local"] = ObservedDeployment(True, "release")
    assert {step.action for step in settled.plan().steps} == {Action.DELETE}
    made = plan(settled, "*")
    assert made.empty
    assert made.held == ()


def test_the_policy_is_recorded_by_a_whole_plan_alone(settled: Any) -> None:
    settled.records[POLICY] = Policy(protect=("model.m",))
    assert [step.address for step in settled.plan().steps] == ["policy.protect"]
    assert plan(settled, "*").empty


def test_what_is_left_as_it_is_is_told_of_what_is_selected(settled: Any) -> None:
    settled.update_deployed(status="stopped")
    settled.service = "service 2"
    assert list(held(plan(settled, "deployment.m"))) == ["deployment.m@local"]
    assert plan(settled, "model.m").held == ()


def test_a_plan_says_what_it_is_of(new: Any, settled: Any) -> None:
    made = plan(new, "(m)")
    body = made.as_dict()
    assert body["selection"] == made.selection == "m"
    assert body["summary"]["selected"] == 10
    assert body["summary"]["resources"] == len(new.desired.resources)
    assert body["digest"] != new.plan().digest

    whole = settled.plan().as_dict()
    assert whole["selection"] == ""
    assert "selected" not in whole["summary"]

    text = render_plan(plan(settled, "dataset.d|m"), Style(color=False))
    assert "Selected: dataset.d | m, 11 of " in text
    assert "No changes. 11 resources are as the spec says." in text


def test_an_expression_that_means_the_same_gives_the_same_plan_of_other_words(new: Any) -> None:
    one, other = plan(new, "model.m"), plan(new, "m")
    assert one.steps == other.steps
    assert one.digest != other.digest
