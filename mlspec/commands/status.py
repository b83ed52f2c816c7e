"""`mlspec status`: what is desired, what is recorded, what runs, and whether they agree."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from mlspec.ledger.history import last_of
from mlspec.plan import Plan, Step
from mlspec.planner import Facts
from mlspec.providers.targets import target_of
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource, ModelResource


def status(start: Path, console: Console, *, select: Sequence[str], as_json: bool) -> int:
    """One row for each model and deployment, and how far the plan is from empty.

    Only for what is selected; but what a partial apply left is counted whole.
    """
    with open_project(start, select) as project:
        project.ledger.refresh(console.note)
        selected = project.selected
        facts = project.survey()
        whole = project.plan_of(facts)
        plan = whole if selected is None else project.plan_of(facts, selected)
        partial = _partial(project, whole)
        waiting = {step.address: step for step in plan.steps}
        held = {item.address: item.reason for item in plan.held}
        of_models = _by_model(plan)
        recorded = facts.recorded
        models = []
        for model in project.desired.of(ModelResource):
            own = (*model.stages, *model.gates, model.address)
            if selected is not None and selected.addresses.isdisjoint(own):
                continue
            steps = of_models.get(model.address, [])
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
            if selected is None or resource.address in selected
        ]
        pending = len(plan.steps)
    if as_json:
        about = {"selection": plan.selection, "partial": partial}
        console.say_json({"models": models, "deployments": deployments, "steps": pending, **about})
        return 0
    _render(console, models, deployments, pending, plan.selection)
    if partial is not None:
        left = f"{_count(partial['steps'], 'step')} {'is' if partial['steps'] == 1 else 'are'} left"
        expression = escape(partial["selection"])
        console.say(f"The last apply was partial ({expression}); {left}: `mlspec plan`.")
    return 0


def _by_model(plan: Plan) -> dict[str, list[Step]]:
    """The steps of each model, its stages and gates, by its address and in their order."""
    found: dict[str, list[Step]] = {}
    for step in plan.steps:
        kind, _, rest = step.address.partition(".")
        if kind in ("stage", "gate", "model"):
            found.setdefault(f"model.{rest.partition('.')[0]}", []).append(step)
    return found


def _partial(project: Project, whole: Plan) -> dict[str, Any] | None:
    """What the last apply was about, if that was not everything, and the steps that it left."""
    if whole.empty:
        return None
    last = last_of(project.ledger, "apply")
    if last is None or not last.selection:
        return None
    left = [step.address for step in whole.steps]
    return {"selection": last.selection, "steps": len(left), "left": left}


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
    selection: str,
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
    option = f" --select {quote(selection)}" if selection else ""
    look = escape(f"`mlspec plan{option}`")
    tail = f"{_count(pending, 'step')} to do: {look}" if pending else "nothing to do"
    console.say(
        f"{_count(len(models), 'model')}, {_count(len(deployments), 'deployment')}; {tail}."
    )


def _count(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _note(row: dict[str, Any]) -> str:
    return f" ({escape(row['note'])})" if row["note"] else ""
