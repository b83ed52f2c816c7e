"""`mlspec destroy`: stop and forget every deployment."""

from __future__ import annotations

from pathlib import Path

from mlspec.commands.apply import carry_out, confirm
from mlspec.ledger.lock import acquire
from mlspec.plan import Report
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.plan_text import render_plan
from mlspec.render.progress import render_report


def destroy(start: Path, console: Console, *, yes: bool, as_json: bool, lock_timeout: float) -> int:
    """Delete what is deployed; 0 when nothing is left."""
    with open_project(start) as project, acquire(project.git, lock_timeout):
        project.ledger.sync()
        made = project.destroy_plan()
        if not as_json:
            console.say("Nothing is deployed." if made.empty else render_plan(made, console.style))
        report = Report(())
        if not made.empty:
            if not yes:
                confirm(console, made, command="destroy")
            report = carry_out(project, made, console, command="destroy")
    if as_json:
        console.say_json(report.as_dict())
    elif report.outcomes:
        console.say(render_report(report, "destroy"))
    return report.exit_code
