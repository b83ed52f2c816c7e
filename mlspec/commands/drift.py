"""`mlspec drift`: what differs although nobody asked for it, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlspec.errors import ExitCode
from mlspec.plan import FieldChange
from mlspec.planner.drift import Drift, Reading
from mlspec.reconcile import open_project
from mlspec.render.alike import counted
from mlspec.render.console import Console
from mlspec.render.style import escape


def drift(start: Path, console: Console, *, select: Sequence[str], as_json: bool) -> int:
    """Show the drift of what is selected; 2 if there is any. Mends nothing."""
    with open_project(start, select) as project:
        project.ledger.refresh(console.note)
        found = project.drifts(project.plan())
    if as_json:
        console.say_json({"drift": [each.as_dict() for each in found]})
    else:
        _render(console, found)
    return ExitCode.CHANGES if found else ExitCode.OK


def _render(console: Console, found: Sequence[Drift]) -> None:
    for reading in Reading:
        alike = [each for each in found if each.reading is reading]
        if alike:
            console.say(console.style.paint(reading.value, "bold"))
        for each in alike:
            console.say(f"  {escape(each.address)}: {escape(each.reason)}")
            for change in each.changes:
                console.say(f"      {escape(_told(change))}")
            console.say(f"      {each.mend.value}: {escape(each.command)}")
    console.say(f"{counted(len(found), 'drift')}." if found else "No drift.")


def _told(change: FieldChange) -> str:
    readings: tuple[tuple[str, Any], ...] = (
        ("spec", change.desired),
        ("ledger", change.recorded),
        ("there", change.observed),
    )
    values = (f"{name} {'nothing' if value is None else value}" for name, value in readings)
    return f"{change.field}: {', '.join(values)}"
