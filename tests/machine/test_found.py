"""What the machine found once, as stories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlspec.commands.apply import ApplyOptions, apply
from mlspec.commands.compile import compile_files
from mlspec.commands.ledger import recover
from mlspec.commands.plan import plan
from mlspec.ledger.store import REF
from mlspec.render.console import Console
from tests.machine.world import Ended, World, make_world


@pytest.fixture
def world(template: Path) -> Iterator[World]:
    world = make_world(template, shared=False)
    yield world
    world.close()


def apply_all(root: Path, console: Console) -> int:
    return apply(root, console, ApplyOptions(yes=True, jobs=1, allow_delete=True))


def set_resources(world: World, cpus: int) -> None:
    spec = world.spec()
    spec["deployments"]["one"]["resources"] = {"cpus": cpus}
    world.write_spec(spec)


def test_a_deployment_that_could_not_be_recorded_is_not_done_again(
    world: World,
) -> None:
    set_resources(world, 2)
    killed = []
    for event in range(1, 100):
        if world.run_killed(apply_all, event).code != -9:
            break
        killed.append(event)
    assert killed, "none was killed"
    for state in world.serving().values():
        assert [each["version"] for each in state["history"]] == [1, 2, 2]
    assert world.run(apply_all).code == 0


def test_recovery_says_that_the_last_commit_is_lost(world: World) -> None:
    set_resources(world, 2)
    assert world.run(apply_all).code == 0
    packs = sorted(world.root.glob(".git/objects/pack/*.pack"), key=lambda p: p.stat().st_mtime_ns)
    packs[-1].chmod(0o644)
    packs[-1].write_bytes(packs[-1].read_bytes()[:20])
    ended = recovered(world)
    assert ended.code == 0, ended.said
    assert "Lost: what came after it" in ended.said
    assert "Nothing was lost" not in ended.said


def test_a_target_gets_a_version_that_is_judged_anew_at_once(world: World) -> None:
    spec = world.spec()
    targets = spec["deployments"]["one"]["targets"]
    spec["deployments"]["one"]["targets"] = targets[:1]
    spec["models"]["m1"]["stages"]["train"]["params"]["q"] = 0.9
    world.write_spec(spec)
    assert world.run(apply_all).code == 0
    spec["deployments"]["one"]["targets"] = targets
    spec["models"]["m1"]["gates"]["good"]["min"] = 0.8
    world.write_spec(spec)
    assert world.run(apply_all).code == 0
    assert [state["version"] for state in world.serving().values()] == [3, 3]


def recovered(world: World) -> Ended:
    return world.run(lambda root, console: recover(root, console, yes=True, lock_timeout=0))


def test_a_renamed_model_whose_ledger_went_back_is_looked_at_again(world: World) -> None:
    earlier = world.git("rev-parse", REF).stdout.strip()
    spec = world.spec()
    spec["models"]["m1"]["stages"]["train"]["params"]["q"] = 0.9
    world.write_spec(spec)
    assert world.run(apply_all).code == 0
    model = spec["models"]["m2"] = spec["models"].pop("m1")
    train = model["stages"]["train"]
    train["command"] = train["command"].replace("/m1/", "/m2/")
    spec["deployments"]["one"]["model"] = "m2"
    spec["moved"] = [{"from": "model.m1", "to": "model.m2"}]
    world.write_spec(spec)
    assert world.run(compiled).code == 0
    assert world.run(planned).code == 0
    world.git("update-ref", REF, earlier)
    ended = world.run(planned)
    assert ended.code == 0, ended.said
    assert "stage train" in ended.said


def compiled(root: Path, console: Console) -> int:
    return compile_files(root, console, select=(), check=False, as_json=False)


def planned(root: Path, console: Console) -> int:
    return plan(
        root,
        console,
        select=(),
        as_json=False,
        out=None,
        detailed_exitcode=False,
        explain=False,
        adopt=False,
    )
