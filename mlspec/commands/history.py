"""`mlspec log`: who did what, when, from which commit."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from mlspec.commands.named import find_address
from mlspec.errors import MlspecError
from mlspec.ledger.entry import Entry
from mlspec.ledger.history import log
from mlspec.ledger.paths import deployment_address
from mlspec.ledger.state import Recorded
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape

MOST_LETTERS = 80
"""Of what came of a step; `--json` has all of it."""


def show_log(
    start: Path, console: Console, *, address: str | None, limit: int, as_json: bool
) -> int:
    """The newest entries of the ledger first."""
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        deployments = frozenset[str]()
        if address is not None:
            recorded = project.recorded()
            address = find_address(address, recorded)
            if address.startswith("model."):
                deployments = _deployments(project, recorded, address.removeprefix("model."))
        found = log(project.ledger, limit + 1, address, deployments)
    entries = found[:limit]
    if address is not None and not entries:
        raise MlspecError(
            f"the ledger has no entry of {escape(address)}",
            hint="addresses are as in a plan: model.NAME, stage.MODEL.NAME, "
            "deployment.NAME@TARGET; `mlspec log` shows the newest entries",
        )
    if as_json:
        console.say_json([entry.model_dump(mode="json") for entry in entries])
        return 0
    for entry in entries:
        head = console.style.paint(f"{entry.serial:>5}  {entry.when}", "dim")
        console.say(f"{head}  {escape(_told(entry))}")
    if len(found) > limit:
        console.note(f"There are older ones; `-n {10 * limit}` shows more.")
    if not entries:
        console.say("The ledger is empty: nothing was applied yet.")
    return 0


def _deployments(project: Project, recorded: Recorded, model: str) -> frozenset[str]:
    """Where a model is served, by the ledger and by the spec, as far as that can be read."""
    found = {name for name, each in recorded.deployments().items() if each.model == model}
    with suppress(MlspecError):
        for name, deployment in project.loaded.spec.served.items():
            if deployment.model == model:
                found |= {deployment_address(name, target) for target in deployment.targets}
    return frozenset(found)


def _told(entry: Entry) -> str:
    """What was done and what came of it, then from where and by whom."""
    whose = f"{entry.command} {entry.address}".strip()
    what = f"{whose}: {entry.action} {entry.outcome}"
    if entry.detail:
        first = entry.detail.split("\n")[0].removeprefix(f"{entry.address} failed: ")
        what += f", {first if len(first) <= MOST_LETTERS else first[: MOST_LETTERS - 3] + '...'}"
    if entry.selection:
        what += f", selected by {entry.selection}"
    source = f"{entry.commit[:9] or 'no commit'}{' (dirty)' if entry.dirty else ''}"
    return f"{what}  [{source}, {entry.who.partition(' <')[0]}]"
