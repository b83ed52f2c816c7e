"""`mlspec status`: what is desired, what is recorded, what runs, and whether they agree."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlspec.planner import Facts
from mlspec.providers.targets import target_of
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource, ModelResource


def status(start: Path, console: Console, *, as_json: bool) -> int:
    """One row for each model and deployment, and how far the plan is from empty."""
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        facts = project.survey()
        plan = project.plan_of(facts)
        waiting = {step.address: step for step in plan.steps}
        held = {item.address: item.reason for item in plan.held}
        recorded = facts.recorded
        models = []
        for model in project.desired.of(ModelResource):
            own = {model.address, *model.stages, *model.gates}
            steps = [step for step in plan.steps if step.address in own]
            models.append(
                {
                    "address": model.address,
                    "version": _version(model, facts),
                    "newest": _newest(model, facts),
                    "state": _state(len(steps), held.get(model.address)),
                    "note": held.get(model.address) or (steps[0].reason if steps else ""),
                }
            )
        deployments = [
            _deployment(project, resource, recorded.deployed(resource.address), waiting, held)
            for resource in project.desired.of(DeploymentResource)
        ]
        pending = len(plan.steps)
    if as_json:
        console.say_json({"models": models, "deployments": deployments, "steps": pending})
        return 0
    _render(console, models, deployments, pending)
    return 0


def _version(model: ModelResource, facts: Facts) -> int | None:
    """The version that the spec, the code and the data of now have, if they have one."""
    fingerprint = facts.fingerprints.get(model.address)
    candidate = facts.recorded.candidate(model.name, fingerprint) if fingerprint else None
    return candidate.version if candidate else None


def _newest(model: ModelResource, facts: Facts) -> int | None:
    state = facts.recorded.model_state(model.name)
    return state.version if state else None


def _state(steps: int, held: str | None) -> str:
    if steps:
        return "out of step"
    return "held" if held else "in step"


def _deployment(
    project: Project,
    resource: DeploymentResource,
    deployed: Any,
    waiting: dict[str, Any],
    held: dict[str, str],
) -> dict[str, Any]:
    step, seen = waiting.get(resource.address), None
    here = deployed is not None and deployed.place == project.place
    if here or deployed is None:
        seen = target_of(project.root, resource).observe(resource.name)
    if deployed is None:
        runs = "nothing"
    elif deployed.status == "stopped":
        runs = "stopped"
    elif not here:
        runs = "elsewhere"
    else:
        runs = "running" if seen is not None and seen.status == "serving" else "not running"
    return {
        "address": resource.address,
        "model": resource.deployment.model,
        "version": deployed.version if deployed else None,
        "recorded": deployed.status if deployed else None,
        "runs": runs,
        "health": f"{seen.ready} of {seen.workers} workers ready"
        if seen is not None and seen.status == "serving"
        else None,
        "url": seen.url if seen is not None and seen.status == "serving" else None,
        "state": _state(1 if step else 0, held.get(resource.address)),
        "note": step.reason if step else held.get(resource.address, ""),
    }


def _render(
    console: Console,
    models: list[dict[str, Any]],
    deployments: list[dict[str, Any]],
    pending: int,
) -> None:
    style = console.style
    colors = {"in step": "green", "out of step": "yellow", "held": "red"}
    for row in models:
        version = f"version {row['version']}" if row["version"] else "no version of this spec"
        if row["newest"] and row["newest"] != row["version"]:
            version += f", newest is version {row['newest']}"
        state = style.paint(row["state"], colors[row["state"]])
        console.say(f"{row['address']}: {version}, {state}{_note(row)}")
    for row in deployments:
        serving = "not deployed"
        if row["version"]:
            serving = f"version {row['version']} of {row['model']}, {row['runs']}"
        health = f", {row['health']}" if row["health"] else ""
        url = f"  {row['url']}" if row["url"] else ""
        state = style.paint(row["state"], colors[row["state"]])
        console.say(f"{row['address']}: {serving}{health}, {state}{_note(row)}{url}")
    tail = f"{_count(pending, 'step')} to do: `mlspec plan`" if pending else "nothing to do"
    console.say(
        f"{_count(len(models), 'model')}, {_count(len(deployments), 'deployment')}; {tail}."
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _note(row: dict[str, Any]) -> str:
    return f" ({escape(row['note'])})" if row["note"] else ""
