"""`mlspec status`: what is desired, what is recorded, what runs, and whether they agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from mlspec.commands.failures import load_failures
from mlspec.errors import RemoteUnreachable
from mlspec.ledger.history import last_apply
from mlspec.ledger.lock import find_applying
from mlspec.plan import Plan, Step
from mlspec.planner import Facts
from mlspec.providers.targets import target_of
from mlspec.reconcile import Project, open_project
from mlspec.render.alike import counted, fold, listed, name_of, nameless
from mlspec.render.console import Console
from mlspec.render.style import Style, escape
from mlspec.resources import DeploymentResource
from mlspec.rollouts.board import Board
from mlspec.spec.quantities import write_share

if TYPE_CHECKING:
    from mlspec.ledger.records import ModelState
    from mlspec.selection import Selected

MOST_ROWS = 20
"""Rows that are all shown; of more, those in step are counted and others that are alike are one."""

_IN_STEP = "in step"


def status(
    start: Path, console: Console, *, select: Sequence[str], show_all: bool, as_json: bool
) -> int:
    """One row for each model and deployment, and how far the plan is from empty.

    Only for what is selected; but what a partial apply left is counted whole. Many rows are told in
    few, unless all are asked for.
    """
    with open_project(start, select) as project:
        if holder := find_applying(project.git):
            console.note(f"An apply is at work: {escape(str(holder))}.")
        project.ledger.refresh(console.note)
        selected = project.selected
        facts = project.facts
        whole = project.plan_of(facts)
        plan = whole if selected is None else project.plan_of(facts, selected)
        partial = _partial(project, whole)
        waiting = {step.address: step for step in plan.steps}
        held = {item.address: item.reason for item in plan.held}
        steps = _by_model(plan)
        recorded = facts.recorded
        names = _selected_models(project, selected)
        resources = tuple(facts.desired.of(DeploymentResource))
        brief = not (as_json or show_all) and len(names) + len(resources) > MOST_ROWS
        models = [
            _model(name, facts, steps.get(f"model.{name}", []), held, brief=brief) for name in names
        ]
        deployments = [
            _deployment(project, resource, recorded.deployed(resource.address), waiting, held)
            for resource in resources
            if selected is None or resource.address in selected
        ]
        pending = len(plan.steps)
        failed = {} if as_json else _failed(load_failures(project.root, plan))
    if as_json:
        about = {"selection": plan.selection, "partial": partial}
        console.say_json({"models": models, "deployments": deployments, "steps": pending, **about})
        return 0
    _render(console, models, deployments, pending, plan.selection, failed, brief=brief)
    if partial is not None:
        left = (
            f"{counted(partial['steps'], 'step')} {'is' if partial['steps'] == 1 else 'are'} left"
        )
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


def _failed(failures: Mapping[str, str]) -> dict[str, str]:
    """What failed, by the address of its row: the first for each."""
    told: dict[str, str] = {}
    for address, said in failures.items():
        row = address if address.startswith("deployment.") else f"model.{name_of(address)}"
        told.setdefault(row, f"{address} failed last time: {said}")
    return told


def _partial(project: Project, whole: Plan) -> dict[str, Any] | None:
    """What the last apply was about, if that was not everything, and the steps that it left."""
    if whole.empty:
        return None
    last = last_apply(project.ledger)
    if last is None or not last.selection:
        return None
    left = [step.address for step in whole.steps]
    return {"selection": last.selection, "steps": len(left), "left": left}


def _selected_models(project: Project, selected: Selected | None) -> list[str]:
    names = sorted(project.loaded.spec.models)
    if selected is None:
        return names
    return [name for name in names if not selected.addresses.isdisjoint(_parts(project, name))]


def _parts(project: Project, name: str) -> Iterator[str]:
    """The addresses of a model and of all that belongs to it."""
    yield f"model.{name}"
    interface = project.loaded.interfaces[name]
    yield from (f"stage.{name}.{stage}" for stage in interface.stages)
    yield from (f"gate.{name}.{gate}" for gate in interface.gates)


def _model(
    name: str, facts: Facts, steps: Sequence[Step], held: Mapping[str, str], *, brief: bool
) -> dict[str, Any]:
    """The row of a model; if it is in step and the row is not shown, the ledger is not asked."""
    address = f"model.{name}"
    state = _state(len(steps), held.get(address))
    shown = not brief or state != _IN_STEP
    recorded = facts.recorded.model_state(name) if shown else None
    return {
        "address": address,
        "version": _version(name, facts),
        "newest": recorded.version if recorded else None,
        "state": state,
        "note": held.get(address) or (_reason(steps[0], recorded) if steps else ""),
    }


def _reason(step: Step, recorded: ModelState | None) -> str:
    """Why a step is to do; of a stage of a model that has run others, with its name."""
    kind, _, name = step.address.partition(".")
    if kind == "stage" and recorded is not None and recorded.runs:
        return f"stage {name.partition('.')[2]}: {step.reason}"
    return step.reason


def _version(name: str, facts: Facts) -> int | None:
    """The version that the spec, the code and the data of now have, if they have one."""
    if f"model.{name}" not in facts.desired.resources:
        return facts.settled.versions.get(name)
    fingerprint = facts.fingerprints.get(f"model.{name}")
    candidate = facts.recorded.candidate(name, fingerprint) if fingerprint else None
    return candidate.version if candidate else None


def _state(steps: int, held: str | None) -> str:
    if steps:
        return "out of step"
    return "held" if held else _IN_STEP


def _deployment(
    project: Project,
    resource: DeploymentResource,
    deployed: Any,
    waiting: dict[str, Any],
    held: dict[str, str],
) -> dict[str, Any]:
    step, seen = waiting.get(resource.address), None
    here = deployed is not None and deployed.is_at(project.place)
    unseen = False
    if here or deployed is None:
        try:
            seen = target_of(project.root, resource).observe(resource.name)
        except RemoteUnreachable:
            unseen = True  # the plan says why
    if deployed is None:
        runs = "nothing"
    elif deployed.status == "stopped":
        runs = "stopped"
    elif not here:
        runs = "elsewhere"
    elif unseen:
        runs = "not seen"
    elif seen is not None and seen.manifests:
        runs = "written"
    else:
        runs = "running" if seen is not None and seen.status == "serving" else "not running"
    note = step.reason if step else held.get(resource.address, "")
    return {
        "address": resource.address,
        "model": resource.deployment.model,
        "version": deployed.version if deployed else None,
        "recorded": deployed.status if deployed else None,
        "runs": runs,
        "health": f"{seen.ready} of {seen.workers} workers ready"
        if seen is not None and seen.status == "serving" and not seen.manifests
        else None,
        "url": seen.url if seen is not None and seen.status == "serving" else None,
        "state": _state(1 if step else 0, held.get(resource.address)),
        "note": _rolling(project, resource) or note,
    }


def _rolling(project: Project, resource: DeploymentResource) -> str:
    """The rollout that an apply of this checkout drives, if one does."""
    board = Board(project.root, f"{resource.name}@{resource.target}")
    shown = board.load() if resource.terms is not None and board.alive() else None
    if shown is None:
        return ""
    share = write_share(shown["shares"][shown["step"]])
    return f"version {shown['version']} has {share} of requests: `mlspec rollout status`"


def _render(
    console: Console,
    models: list[dict[str, Any]],
    deployments: list[dict[str, Any]],
    pending: int,
    selection: str,
    failed: Mapping[str, str],
    *,
    brief: bool,
) -> None:
    for row in (*models, *deployments):
        row["note"] = "; ".join(filter(None, [row["note"], failed.get(row["address"])]))
    rows = [(row, _of_model(row, console.style)) for row in models]
    rows += [(row, _of_deployment(row, console.style)) for row in deployments]
    groups = _folded(rows) if brief else ([row] for row in rows)
    for alike in groups:
        console.say(f"{listed([row['address'] for row, _ in alike])}: {alike[0][1]}")
    if brief:
        in_step = sum(row["state"] == _IN_STEP for row, _ in rows)
        console.say(f"{in_step} of {len(rows)} in step; `mlspec status --all` has a row for each.")
    option = f" --select {quote(selection)}" if selection else ""
    look = escape(f"`mlspec plan{option}`")
    tail = f"{counted(pending, 'step')} to do: {look}" if pending else "nothing to do"
    console.say(
        f"{counted(len(models), 'model')}, {counted(len(deployments), 'deployment')}; {tail}."
    )


Row = tuple[dict[str, Any], str]
"""What is known of a model or deployment, and what is said of it."""


def _folded(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Those that need attention; like ones together."""
    rest = [row for row in rows if row[0]["state"] != _IN_STEP]
    return fold(rest, lambda row: nameless(row[1], name_of(row[0]["address"])))


def _of_model(row: dict[str, Any], style: Style) -> str:
    version = f"version {row['version']}" if row["version"] else "no version of this spec"
    if row["newest"] and row["newest"] != row["version"]:
        version += f", newest is version {row['newest']}"
    return f"{version}, {_painted(row, style)}{_note(row)}"


def _of_deployment(row: dict[str, Any], style: Style) -> str:
    serving = "not deployed"
    if row["version"]:
        serving = f"version {row['version']} of {row['model']}, {row['runs']}"
    health = f", {row['health']}" if row["health"] else ""
    url = f"  {row['url']}" if row["url"] else ""
    return f"{serving}{health}, {_painted(row, style)}{_note(row)}{url}"


def _painted(row: dict[str, Any], style: Style) -> str:
    colors = {_IN_STEP: "green", "out of step": "yellow", "held": "red"}
    return style.paint(row["state"], colors[row["state"]])


def _note(row: dict[str, Any]) -> str:
    return f" ({escape(row['note'])})" if row["note"] else ""
