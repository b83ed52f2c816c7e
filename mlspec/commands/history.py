"""`mlspec log`: who did what, when, from which commit."""

from __future__ import annotations

from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.ledger.history import log
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.style import escape


def show_log(
    start: Path, console: Console, *, address: str | None, limit: int, as_json: bool
) -> int:
    """The newest entries of the ledger first."""
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        entries = log(project.ledger, limit, address)
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
        what = f"{entry.command} {entry.address}: {entry.action} {entry.outcome}"
        what += f", selected by {entry.selection}" if entry.selection else ""
        source = f"{entry.commit[:9] or 'no commit'}{' (dirty)' if entry.dirty else ''}"
        detail = f"  {entry.detail.splitlines()[0][:100]}" if entry.detail else ""
        console.say(f"{head}  {escape(what)}  [{source}, {escape(entry.who)}]{escape(detail)}")
    if not entries:
        console.say("The ledger is empty: nothing was applied yet.")
    return 0
