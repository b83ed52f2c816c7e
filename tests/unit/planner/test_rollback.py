"""A pin goes back and stays; what is quarantined is neither made again nor deployed."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.ledger.paths import version_path
from mlspec.ledger.records import Version

DEPLOYMENT = "deployment.m@local"


@pytest.fixture
def second(settled: Any) -> Any:
    """Version 2 serves, of a deeper tree."""
    settled.depth = 4
    return settled.settle()


def held(world: Any) -> dict[str, str]:
    return {each.address: each.reason for each in world.plan().held}


def roll_back(world: Any) -> Any:
    """What `mlspec rollback` writes into the spec, before it is applied."""
    world.pin = {"local": 1}
    world.quarantine = ((2, "wrong on weekends"),)
    return world


def test_a_rollback_deploys_the_pinned_version_and_runs_nothing(second: Any) -> None:
    roll_back(second)
    assert second.actions() == {DEPLOYMENT: "rollback redeploy"}
    step = second.step(DEPLOYMENT)
    assert step.reason == "the spec pins version 1"
    assert (step.changes[0].recorded, step.changes[0].desired) == (2, 1)
    assert held(second) == {"model.m": "version 2 is quarantined: wrong on weekends"}


def test_it_stays_until_the_spec_says_otherwise(second: Any) -> None:
    roll_back(second).deploy(1)
    assert second.plan().empty
    second.pin = {}
    assert second.plan().empty, "without the pin the quarantined version does not come back"
    second.quarantine = ()
    assert second.step(DEPLOYMENT).reason == "version 2 is accepted"


def test_other_gates_do_not_judge_a_quarantined_version_anew(second: Any) -> None:
    roll_back(second).deploy(1)
    second.gate = {"metric": "auc", "min": 0.7}
    assert second.plan().empty


def test_new_code_gives_a_version_that_waits_for_the_pin(second: Any) -> None:
    roll_back(second).deploy(1)
    second.train_code = "t2"
    assert second.actions() == {
        "stage.m.train": "run retrain",
        "stage.m.evaluate": "run reevaluate?",
        "gate.m.good": "evaluate reevaluate",
        "model.m": "register retrain",
    }
    waits = "the spec pins version 1; what model.m registers has to wait"
    assert held(second) == {DEPLOYMENT: waits}
    second.run_evaluate(second.run_train())
    second.judge()
    assert second.plan().empty
    waits = "the spec pins version 1; version 3, accepted, has to wait"
    assert held(second) == {DEPLOYMENT: waits}
    second.pin = {}
    assert second.step(DEPLOYMENT).reason == "version 3 is accepted"


def test_the_same_artifact_under_another_number_is_held_back_too(second: Any) -> None:
    roll_back(second).deploy(1)
    bad = second.locks_md5
    second.train_code, second.pin = "t2", {}
    second.run_evaluate(second.run_train(bad))
    second.judge()
    assert second.plan().empty
    assert held(second) == {
        "model.m": "version 3 is the same as version 2, which is quarantined: wrong on weekends"
    }


def test_a_quarantined_version_that_serves_is_left_and_not_mended(second: Any) -> None:
    second.quarantine = ((2, "wrong on weekends"),)
    second.running = {}
    assert second.plan().empty
    assert held(second)[DEPLOYMENT] == (
        "it serves what is quarantined (version 2 is quarantined: wrong on weekends); "
        "`mlspec rollback deployment.m@local` pins an earlier version"
    )


@pytest.mark.parametrize(
    ("pin", "quarantine", "address", "why"),
    [
        (9, (), DEPLOYMENT, "the spec pins version 9, which its model does not have"),
        (
            1,
            ((1, "bad"),),
            DEPLOYMENT,
            "the spec pins version 1; version 1 is quarantined: bad",
        ),
        (
            1,
            ((7, "bad"),),
            "model.m",
            "version 7 is quarantined, and the ledger does not have it",
        ),
    ],
)
def test_what_the_ledger_does_not_have_or_the_spec_contradicts_is_held(
    second: Any, pin: int, quarantine: Any, address: str, why: str
) -> None:
    second.pin, second.quarantine = {"local": pin}, quarantine
    assert held(second)[address] == why


@pytest.mark.parametrize(
    ("kind", "why"), [(None, "which has no artifact to serve"), ("skops", "not onnx as the spec")]
)
def test_a_pinned_version_must_be_one_that_the_service_can_read(
    second: Any, kind: str | None, why: str
) -> None:
    first = second.records[version_path("m", 1)]
    assert isinstance(first, Version)
    assert first.artifact is not None
    file = first.artifact.model_copy(update={"format": kind}) if kind else None
    second.records[version_path("m", 1)] = first.model_copy(update={"artifact": file})
    second.pin = {"local": 1}
    assert second.plan().empty
    assert why in held(second)[DEPLOYMENT]


class TestSeveralTargets:
    """Each target is pinned by itself, and a pin neither waits for others nor leads them."""

    def test_the_last_goes_back_while_the_first_serves_the_newer(self, second: Any) -> None:
        second.targets = ("staging", "local")
        second.deploy(2, "staging")
        second.pin = {"local": 1}
        assert second.actions() == {DEPLOYMENT: "rollback redeploy"}

    def test_what_a_pinned_target_does_not_get_goes_no_further(self, second: Any) -> None:
        second.targets = ("staging", "local")
        second.deploy(2, "staging")
        second.deploy(1, "local")
        second.pin = {"staging": 1}
        assert second.actions() == {"deployment.m@staging": "rollback redeploy"}
        why = "deployment.m@staging does not serve version 2, and comes first"
        assert held(second)[DEPLOYMENT] == why
