"""What `mlspec gc` removed is made again when somebody asks for it, and nobody deploys it."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.ledger.records import Run, Version

DEPLOYMENT = "deployment.m@local"
RUN = "ran before, at abcdef012; `mlspec gc` removed its outputs"


@pytest.fixture
def freed(settled: Any) -> Any:
    """Version 2 serves, of a deeper tree; all files of version 1 are gone."""
    first = {path for path, record in settled.records.items() if isinstance(record, Run | Version)}
    settled.depth = 4
    settled.settle()
    for path in first:
        settled.records[path] = settled.records[path].model_copy(update={"freed": True})
    return settled


def test_what_nobody_asks_for_is_not_missed(freed: Any) -> None:
    assert freed.plan().empty


def test_a_spec_that_goes_back_runs_it_again_and_says_why(freed: Any) -> None:
    freed.depth = 3
    train = freed.step("stage.m.train")
    assert (train.action, train.certain, train.reason) == ("run", True, RUN)
    assert freed.actions()["stage.m.evaluate"] == "run reevaluate?"
    assert freed.actions()["model.m"] == "register retrain"


def test_a_lock_that_names_what_is_gone_is_not_offered_for_adoption(freed: Any) -> None:
    freed.depth = 3
    freed.run_train()
    for path, record in freed.records.items():
        if isinstance(record, Run) and record.stage == "train":
            freed.records[path] = record.model_copy(update={"freed": True})
    freed.outputs.clear()
    assert freed.step("stage.m.train").reason == RUN
    freed.adopt = True
    assert freed.step("stage.m.train").action == "run"


def test_its_version_is_registered_again_once_it_ran(freed: Any) -> None:
    freed.depth = 3
    freed.run_evaluate(freed.run_train())
    step = freed.step("model.m")
    assert step.action == "register"
    assert step.reason == "`mlspec gc` removed the files of version 1; they are new"
    assert freed.step(DEPLOYMENT) is not None


def test_a_pin_to_it_holds_the_deployment(freed: Any) -> None:
    freed.pin = {"local": 1}
    plan = freed.plan()
    assert plan.empty
    held = {each.address: each.reason for each in plan.held}
    assert held == {DEPLOYMENT: "the spec pins version 1, whose files `mlspec gc` removed"}
