"""Where approvals are asked for nothing is deployed before they are there, for that release."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.fingerprint import release_digest
from mlspec.ledger.paths import POLICY, approval_path, version_path
from mlspec.ledger.records import Approval, Policy, Version
from mlspec.planner.approvals import policy_of
from mlspec.resources import Demand

DEPLOYMENT = "deployment.m@local"
WAITS = "it waits for {} of release {}, version 2{}: `mlspec approve deployment.m@local`"


@pytest.fixture
def second(settled: Any) -> Any:
    """Version 1 serves; 2 is accepted, and has to be approved by two people."""
    settled.demand = Demand(approvals=2)
    settled.depth = 4
    settled.run_evaluate(settled.run_train())
    settled.judge()
    settled.records[POLICY] = policy_of(settled.desired.spec)
    return settled


def release_of(world: Any, number: int = 2) -> str:
    version = world.records[version_path("m", number)]
    assert isinstance(version, Version)
    assert version.artifact is not None
    return release_digest({"service.py": world.service}, {}, version.artifact.md5, number)


def approve(world: Any, by: str, *, own: bool = False, number: int = 2) -> None:
    release = release_of(world, number)
    world.records[approval_path("m", "local", release, by)] = Approval(
        deployment="m",
        target="local",
        release=release,
        model="m",
        version=number,
        by=by,
        name=by,
        when="2026-01-31T12:00:00Z",
        commit="c",
        own=own,
    )


def waits(world: Any, what: str, whose: str = "") -> str:
    return WAITS.format(what, release_of(world)[:12], whose)


def held(world: Any) -> dict[str, str]:
    return {each.address: each.reason for each in world.plan().held}


def test_it_waits_for_different_people(second: Any) -> None:
    assert held(second) == {DEPLOYMENT: waits(second, "2 approvals")}
    assert second.plan().empty
    approve(second, "ada@example.org")
    approve(second, "Ada@example.org")
    assert held(second) == {DEPLOYMENT: waits(second, "1 of 2 approvals")}
    approve(second, "bob@example.org")
    assert second.actions() == {DEPLOYMENT: "deploy redeploy"}


def test_an_approval_is_of_one_release(second: Any) -> None:
    for by in ("ada@example.org", "bob@example.org"):
        approve(second, by)
    second.service = "service 2"
    assert held(second) == {DEPLOYMENT: waits(second, "2 approvals")}
    second.service = "service 1"
    assert second.actions() == {DEPLOYMENT: "deploy redeploy"}


def test_who_made_it_is_not_the_only_one(second: Any) -> None:
    second.demand = Demand(approvals=1)
    second.records[POLICY] = policy_of(second.desired.spec)
    approve(second, "ada@example.org", own=True)
    lacks = "an approval by somebody else than who made it"
    assert held(second) == {DEPLOYMENT: waits(second, lacks)}
    approve(second, "bob@example.org")
    assert second.actions() == {DEPLOYMENT: "deploy redeploy"}


def test_only_approvers_count(second: Any) -> None:
    second.demand = Demand(2, ("Bob@example.org", "carol@example.org"))
    second.records[POLICY] = policy_of(second.desired.spec)
    approve(second, "ada@example.org")
    assert held(second) == {DEPLOYMENT: waits(second, "2 approvals")}
    approve(second, "bob@example.org")
    approve(second, "carol@example.org")
    assert second.actions() == {DEPLOYMENT: "deploy redeploy"}


def test_a_demand_is_not_lifted_and_broken_at_once(second: Any) -> None:
    second.demand = Demand()
    assert second.actions() == {"policy.protect": "update none"}
    whose = ", by the policy that was applied last"
    assert held(second) == {DEPLOYMENT: waits(second, "2 approvals", whose)}
    second.records[POLICY] = Policy()
    assert second.actions() == {DEPLOYMENT: "deploy redeploy"}


def test_a_version_that_is_not_there_yet_waits_too(second: Any) -> None:
    second.train_code = "t2"
    assert DEPLOYMENT not in second.actions()
    assert held(second) == {
        DEPLOYMENT: "what model.m registers has to be approved before it is deployed"
    }


def test_what_serves_is_mended_without_an_approval(settled: Any) -> None:
    settled.demand = Demand(approvals=2)
    settled.records[POLICY] = policy_of(settled.desired.spec)
    settled.running.clear()
    assert settled.step(DEPLOYMENT).reason == "drift: it is not running"


def test_going_back_needs_that_release_approved(second: Any) -> None:
    for by in ("ada@example.org", "bob@example.org"):
        approve(second, by)
    second.deploy(2)
    second.pin = {"local": 1}
    assert DEPLOYMENT in held(second)
    for by in ("ada@example.org", "bob@example.org"):
        approve(second, by, number=1)
    assert second.actions() == {DEPLOYMENT: "rollback redeploy"}
