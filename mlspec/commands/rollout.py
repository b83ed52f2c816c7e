"""`mlspec rollout status|pause|resume|abort`: the rollout of a deployment that an apply drives.

None of them takes the lock: the apply has it. They work in the checkout of that apply.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mlspec.commands.deployment import find_deployment
from mlspec.errors import MlspecError
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.quantities import render_seconds
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource
from mlspec.rollouts.board import Board
from mlspec.rollouts.engine import Order, Phase
from mlspec.spec.quantities import write_share

OBEYED_SECONDS = 30.0
"""How long an order may take until it is carried out."""
_PHASES = {
    Order.PAUSE: {Phase.PAUSED},
    Order.RESUME: {Phase.BAKING},
    Order.ABORT: {Phase.ABORTED},
}


def status(start: Path, console: Console, *, name: str, as_json: bool) -> int:
    """Tell where the rollout is, or how the last one ended."""
    resource, board = _find(start, name)
    shown, alive = board.load(), board.alive()
    if as_json:
        about = {"deployment": resource.address, "active": alive}
        console.say_json({**about, "rollout": shown})
        return 0
    if shown is None:
        console.say(f"{resource.address}: there was no rollout here yet.")
        return 0
    console.say(f"{resource.address}: {_told(shown, alive=alive)}")
    for finding in (shown["verdict"] or {}).get("findings", ()):
        console.say(f"  {finding['result']:<12} {escape(finding['detail'])}")
    return 0


def pause(start: Path, console: Console, *, name: str, as_json: bool) -> int:
    """Keep the shares as they are until `resume`; a limit that is broken still ends it."""
    return _order(start, console, Order.PAUSE, name, as_json=as_json)


def resume(start: Path, console: Console, *, name: str, as_json: bool) -> int:
    """Go on."""
    return _order(start, console, Order.RESUME, name, as_json=as_json)


def abort(start: Path, console: Console, *, name: str, as_json: bool) -> int:
    """Give all requests back to what served; the release is not tried again."""
    return _order(start, console, Order.ABORT, name, as_json=as_json)


def _order(start: Path, console: Console, order: Order, name: str, *, as_json: bool) -> int:
    resource, board = _find(start, name)
    board.tell(order)
    deadline = time.monotonic() + OBEYED_SECONDS
    while (shown := board.load()) is None or shown["phase"] not in _PHASES[order]:
        if shown is not None and shown["phase"] in (Phase.PROMOTED, Phase.ABORTED):
            raise MlspecError(f"{resource.address}: the rollout has ended: it is {shown['phase']}")
        if time.monotonic() > deadline:
            raise MlspecError(
                f"{resource.address}: the rollout did not {order} within {OBEYED_SECONDS:.0f} s",
                hint=f"look at it: `mlspec rollout status {name}`",
            )
        time.sleep(0.1)
    if as_json:
        console.say_json({"deployment": resource.address, "active": True, "rollout": shown})
    else:
        console.say(f"{resource.address}: {_told(shown, alive=True)}")
    return 0


def _find(start: Path, name: str) -> tuple[DeploymentResource, Board]:
    with open_project(start) as project:
        resource = find_deployment(project, name)
        return resource, Board(project.root, f"{resource.name}@{resource.target}")


def _told(shown: dict[str, Any], *, alive: bool) -> str:
    """One line of a state."""
    version = f"version {shown['version']} of {escape(shown['model'])}"
    phase, steps = shown["phase"], len(shown["shares"])
    share = write_share(shown["shares"][shown["step"]])
    match phase:
        case Phase.PROMOTED:
            return f"{version} was promoted."
        case Phase.ABORTED:
            return f"{version} went back at {share} of requests: {escape(shown['reason'])}."
    step = f"{version} has {share} of requests, step {shown['step'] + 1} of {steps}"
    if not alive:
        return f"{step}, when its apply was ended; what served before has all requests."
    if phase == Phase.PAUSED:
        return f"{step}, paused."
    baked = min(max(0.0, time.time() - shown["since"]), shown["bake"])
    return f"{step}, baked {render_seconds(baked)} of {render_seconds(shown['bake'])}."
