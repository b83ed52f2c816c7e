"""`mlspec apply`: plan, ask, do, record."""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlspec.apply import ONE_BY_ONE, Pace
from mlspec.commands.failures import keep_failures, load_failures
from mlspec.commands.saved import SavedPlan, load_saved_plan
from mlspec.commands.stale import find_moved
from mlspec.errors import MlspecError
from mlspec.executors.capacity import count_cpus
from mlspec.ledger.lock import acquire
from mlspec.plan import Plan, Report
from mlspec.planner import Leave, check_deletes
from mlspec.reconcile import Project, apply_project, locked_plan, open_project, settle
from mlspec.render.console import Console
from mlspec.render.plan_text import render_plan
from mlspec.render.progress import Progress, render_report
from mlspec.selection import SelectionError


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    """What may be done, and how; each is a flag of the command."""

    saved: Path | None = None
    select: tuple[str, ...] = ()
    yes: bool = False
    allow_delete: bool = False
    allow_empty: bool = False
    adopt: bool = False
    as_json: bool = False
    lock_timeout: float = 0
    jobs: int | None = None
    fail_fast: bool = False

    @property
    def pace(self) -> Pace:
        """As many commands at the same time as there are cores, unless told otherwise."""
        return Pace(self.jobs or count_cpus(), self.fail_fast)


def apply(start: Path, console: Console, options: ApplyOptions) -> int:
    """Bring the world to the spec; the exit code of the first thing that needs attention."""
    saved = load_saved_plan(options.saved) if options.saved is not None else None
    if saved is not None and options.select:
        hint = "leave --select out, or select when you plan: `mlspec plan --select EXPR --out FILE`"
        raise MlspecError("a saved plan is applied whole", hint=hint)
    select = saved.select if saved is not None else options.select
    deadline = time.monotonic() + options.lock_timeout
    with ExitStack() as stack:
        project = stack.enter_context(open_project(start, select))
        holder = stack.enter_context(acquire(project.git, options.lock_timeout, console.note))
        project.ledger.sync()
        project.leave = Leave(adopt=options.adopt or (saved is not None and saved.adopts))
        plan = partial(_plan, project, saved)
        locked = locked_plan(project, plan, holder, deadline=deadline, note=console.note)
        made = stack.enter_context(locked)
        if made.empty:
            settle(project)
            if options.as_json:
                console.say_json(Report(()).as_dict())
            else:
                console.say(render_plan(made, console.style))
            return 0
        asks = not options.yes and saved is None
        check_deletes(
            made,
            project.loaded.spec,
            allowed=options.allow_delete or (asks and console.interactive),
            allow_empty=options.allow_empty,
        )
        if not options.as_json:
            failed = load_failures(project.root, made)
            console.say(render_plan(made, console.style, failed=failed))
        if asks:
            confirm(console, made, command="apply")
        report = carry_out(project, made, console, command="apply", pace=options.pace)
    if options.as_json:
        console.say_json(report.as_dict())
    else:
        console.say(render_report(report))
    return report.exit_code


def _plan(project: Project, saved: SavedPlan | None) -> Plan:
    """What is to be done; raises if that is not what was saved."""
    if saved is None:
        return project.plan()
    try:
        made = project.plan()
    except SelectionError as error:
        raise saved.stale("what it selects") from error
    saved.check_current(made, partial(find_moved, project, saved.body, made))
    return made


def carry_out(
    project: Project, made: Plan, console: Console, *, command: str, pace: Pace = ONE_BY_ONE
) -> Report:
    """Apply with progress shown on standard error."""
    with Progress(console, made, pace.jobs) as progress:
        report = apply_project(project, made, command=command, on_event=progress, pace=pace)
    keep_failures(project.root, report)
    return report


def confirm(console: Console, made: Plan, *, command: str) -> None:
    """Ask on the terminal; raises :class:`MlspecError` for no, and when nobody is there."""
    if not console.interactive:
        raise MlspecError(
            "nobody is here to confirm the plan",
            hint=f"look at `mlspec plan`, then run `mlspec {command} --yes`",
        )
    if not console.confirm(_question(len(made.steps))):
        raise MlspecError("not confirmed; nothing was changed")


def _question(steps: int) -> str:
    return "Do this step?" if steps == 1 else f"Do these {steps} steps?"
