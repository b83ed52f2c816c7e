"""Promotion moves the image that was judged: a plan tells it where it is known."""

from __future__ import annotations

from typing import Any

from mlspec.ledger.paths import deployment_path
from mlspec.ledger.state import Recorded
from mlspec.plan import FieldChange
from mlspec.planner.deployments import judged_image
from mlspec.resources import DeploymentResource


def image(world: Any, target: str, reference: str) -> None:
    path = deployment_path("m", target)
    world.records[path] = world.records[path].model_copy(update={"image": reference})


def test_the_target_before_has_the_image(settled: Any) -> None:
    settled.targets = ("local", "later")
    settled.deploy(1, "later")
    for target in settled.targets:
        image(settled, target, f"r/{target}@sha256:1")
    settled.depth = 4
    settled.settle()
    image(settled, "local", "r/m@sha256:2")
    step = settled.step("deployment.m@later")
    assert step.changes == (
        FieldChange("version", 1, 2),
        FieldChange("image", "r/later@sha256:1", "r/m@sha256:2"),
    )


def test_that_of_another_version_is_not_moved(settled: Any) -> None:
    settled.targets = ("local", "later")
    image(settled, "local", "r/m@sha256:1")
    recorded = Recorded.of(settled.records)
    resource = settled.desired.get(DeploymentResource, "deployment.m@later")
    version = recorded.version("m", 1)
    assert version is not None
    assert judged_image(recorded, resource, version) == "r/m@sha256:1"
    other = version.model_copy(update={"number": 2})
    assert judged_image(recorded, resource, other) == ""
