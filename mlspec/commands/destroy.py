"""`mlspec destroy`: stop and forget every deployment."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from mlspec.commands.apply import carry_out, confirm
from mlspec.ledger.lock import acquire
from mlspec.plan import Report
from mlspec.reconcile import locked_plan, open_project
from mlspec.render.console import Console
from mlspec.render.plan_text import render_plan
from mlspec.render.progress import render_report


def destroy(start: Path, console: Console, *, yes: bool, as_json: bool, lock_timeout: float) -> int:
    """Delete what is deployed; 0 when nothing is left."""
    deadline = time.monotonic() + lock_timeout
    with ExitStack() as stack:
        project = stack.enter_context(open_project(start))
        holder = stack.enter_context(acquire(project.git, lock_timeout, console.note))
        project.ledger.sync()
        plan = project.destroy_plan
        locked = locked_plan(project, plan, holder, deadline=deadline, note=console.note)
        made = stack.enter_context(locked)
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
