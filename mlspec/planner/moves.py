"""Steps for what has another name in the spec: the ledger's records are moved, nothing is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from mlspec.plan import Action, Consequence, FieldChange, Step
from mlspec.planner.facts import Facts
from mlspec.resources import DeploymentResource
from mlspec.spec.moves import renames_of


def plan_moves(facts: Facts) -> None:
    """A step for each rename that is not recorded, before all that is about the renamed.

    All else is planned already, as if it were recorded.
    """
    moving = facts.recorded.moving
    first = {now: [former] for former, now in moving.items()}
    for now, former in _left_pipelines(facts):
        first.setdefault(now, []).append(former)
    if not first:
        return
    for address, step in facts.steps.items():
        before = [each for now in _about(facts, address) for each in first.get(now, ())]
        if before:
            facts.steps[address] = replace(step, after=tuple(sorted({*step.after, *before})))
    for former, now in moving.items():
        change = FieldChange("address", former, now)
        consequence, reason = Consequence.NONE, f"moved to {now}"
        if former in facts.observed.deployments:
            consequence, reason = Consequence.REDEPLOY, f"moved to {now}, as which it starts anew"
        facts.add(Step(former, Action.MOVE, consequence, reason, changes=(change,)))


def moved_to(step: Step) -> str | None:
    """The present address of what a step moves; none of any other step."""
    return str(step.changes[0].desired) if step.action is Action.MOVE else None


def _left_pipelines(facts: Facts) -> Iterator[tuple[str, str]]:
    """By address of a model, the steps that take the runs of dvc.lock to its new name."""
    for former, now in renames_of(facts.desired.spec.moved).now.items():
        left = f"file.pipelines/{former.removeprefix('model.')}/dvc.yaml"
        if former.startswith("model.") and left in facts.steps:
            yield now, left


def _about(facts: Facts, address: str) -> Iterator[str]:
    """What must have its name before a step is done."""
    kind, _, rest = address.partition(".")
    if kind in ("stage", "gate", "model"):
        yield f"model.{rest.partition('.')[0]}"
    elif kind in ("deployment", "dataset"):
        yield address
        resource = facts.desired.resources.get(address)
        if isinstance(resource, DeploymentResource):
            yield f"model.{resource.deployment.model}"
