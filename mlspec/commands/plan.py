"""`mlspec plan`: what an apply would do, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlspec.atomic import write_atomic
from mlspec.commands.failures import load_failures
from mlspec.commands.saved import render_saved
from mlspec.errors import ExitCode
from mlspec.planner import Leave, deleted
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.plan_text import render_plan


def plan(
    start: Path,
    console: Console,
    *,
    select: Sequence[str],
    as_json: bool,
    out: Path | None,
    detailed_exitcode: bool,
    explain: bool,
    adopt: bool,
) -> int:
    """Show the plan, of what is selected; 2 with `detailed_exitcode` when it is not empty."""
    with open_project(start, select) as project:
        project.ledger.refresh(console.note)
        project.leave = Leave(adopt=adopt)
        made = project.plan()
        failed = {} if as_json else load_failures(project.root, made)
    if out is not None:
        write_atomic(out, render_saved(made.as_dict()))
    if as_json:
        console.say_json(made.as_dict())
    else:
        console.say(render_plan(made, console.style, explain=explain, failed=failed))
        if deleted(made):
            console.note("What is to be deleted needs leave: `mlspec apply --allow-delete`.")
        if out is not None:
            console.note(f"Saved to {out}; `mlspec apply {out}` does exactly this.")
    return ExitCode.CHANGES if detailed_exitcode and not made.empty else ExitCode.OK
