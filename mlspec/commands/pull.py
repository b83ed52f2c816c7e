"""`mlspec pull`: the outputs of the runs that the spec stands for, from storage."""

from __future__ import annotations

from pathlib import Path

from mlspec.commands.apply import carry_out
from mlspec.ledger.lock import acquire
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.progress import render_report
from mlspec.render.style import escape


def pull(start: Path, console: Console, *, lock_timeout: float) -> int:
    """Bring what is not here; dvc.lock is written where it lacks a run."""
    with open_project(start) as project, acquire(project.git, lock_timeout, console.note):
        project.ledger.sync()
        made = project.restore_plan()
        for held in made.held:
            console.note(escape(f"{held.address} is left as it is: {held.reason}"))
        if made.empty:
            console.say(
                "Nothing to bring." if made.held else "Every output of a known run is here."
            )
            return 0
        report = carry_out(project, made, console, command="pull")
    console.say(render_report(report, "pull"))
    return report.exit_code
