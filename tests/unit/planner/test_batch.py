"""A batch is scored anew when its version or its input changed, and in no other case."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mlspec.fingerprint import release_digest
from mlspec.ledger.paths import deployment_path
from mlspec.ledger.records import Deployed
from mlspec.ledger.state import Recorded
from mlspec.plan import FieldChange, Plan
from mlspec.planner import make_plan
from mlspec.resources import (
    DatasetResource,
    Dependency,
    DependencyKind,
    DeploymentResource,
    ObservedDataset,
)
from mlspec.spec.models import Dataset

ADDRESS = "deployment.m@local"
PATH = "data/rows.csv"
READS = Dependency(PATH, DependencyKind.DATASET, producer="dataset.rows")


def plan(world: Any, rows: str | None = "rows 1") -> Plan:
    """What is deployed scores `rows`, which nothing else reads."""
    made, observed = world.desired, world.observed
    scoring = replace(made.get(DeploymentResource, ADDRESS), reads=READS, service={}, kind="batch")
    data = DatasetResource("rows", Dataset(path=PATH), in_git=True, files=())
    resources = {**made.resources, ADDRESS: scoring, data.address: data}
    observed.datasets[data.address] = ObservedDataset(rows, None)
    desired = replace(made, resources=dict(sorted(resources.items())))
    return make_plan(desired, observed, Recorded.of(world.records))


@pytest.fixture
def scored(settled: Any) -> Any:
    """Version 1 has scored the rows."""
    release = release_digest({}, {"read": "rows 1"}, settled.locks_md5, 1)
    settled.records[deployment_path("m", "local")] = Deployed(
        deployment="m",
        target="local",
        model="m",
        version=1,
        release=release,
        status="serving",
        place="elsewhere",
        scored={"read": "rows 1", "path": "data/scores.csv", "wrote": "w", "rows": 2},
    )
    return settled


def test_nothing_is_scored_twice(scored: Any) -> None:
    assert plan(scored).empty


def test_other_rows_are_scored(scored: Any) -> None:
    [step] = plan(scored, "rows 2").steps
    assert (step.address, step.action, step.reason) == (ADDRESS, "deploy", f"{PATH} changed")
    assert step.changes[0] == FieldChange(f"input {PATH}", "rows 1", "rows 2")


def test_another_version_scores(scored: Any) -> None:
    scored.depth = 4
    scored.run_evaluate(scored.run_train())
    scored.judge()
    [step] = plan(scored).steps
    assert step.reason == "version 2 is accepted"


def test_one_that_is_rejected_does_not(scored: Any) -> None:
    scored.depth, scored.auc = 4, 0.1
    scored.run_evaluate(scored.run_train())
    scored.judge()
    assert plan(scored).empty


def test_rows_that_are_not_there_are_waited_for(scored: Any) -> None:
    made = plan(scored, None)
    assert made.empty
    held = {each.address: each.reason for each in made.held}
    assert held[ADDRESS] == "dataset.rows, which it scores, is not known"
