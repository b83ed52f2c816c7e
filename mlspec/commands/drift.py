"""`mlspec drift`: what differs although nobody asked for it, and what mends it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlspec.errors import ExitCode, RemoteUnreachable
from mlspec.plan import FieldChange
from mlspec.planner.drift import Drift, Mend, Reading
from mlspec.reconcile import Project, open_project
from mlspec.render.alike import counted
from mlspec.render.console import Console
from mlspec.render.style import escape


def drift(
    start: Path,
    console: Console,
    *,
    select: Sequence[str],
    adopt: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Show the drift of what is selected; 2 if there is any. Mends nothing.

    With `adopt`, take what is live into the spec, once that is confirmed; 2 if some is left.
    """
    with open_project(start, select) as project:
        project.ledger.refresh(console.note)
        found = project.drifts(project.plan())
        seen = project.facts.observed.deployments
        unseen = [each.unseen for each in seen.values() if each.unseen]
        if adopt and found:
            return _adopt(project, console, found, yes=yes, as_json=as_json)
    if as_json:
        console.say_json({"drift": [each.as_dict() for each in found]})
    else:
        _render(console, found)
    if unseen:
        raise RemoteUnreachable(
            f"{counted(len(unseen), 'deployment')} could not be looked at: {unseen[0]}"
        )
    return ExitCode.CHANGES if found else ExitCode.OK


def _adopt(
    project: Project, console: Console, found: Sequence[Drift], *, yes: bool, as_json: bool
) -> int:
    from mlspec.commands.take import (
        make_patch,
        patch_as_dict,
        shared_by,
        tell_patch,
        told_count,
        write_patch,
    )

    patch = make_patch(project, found)
    if not as_json:
        tell_patch(console, patch)
        for name in shared_by(patch, project.loaded.spec.deployments):
            console.note(f"deployment.{escape(name)} has other targets, which get the same.")
    written = bool(patch.after) and (
        yes or (console.interactive and not as_json and console.confirm("Write this?"))
    )
    if written:
        write_patch(project, patch)
    if as_json:
        console.say_json(
            {"drift": [each.as_dict() for each in found]} | patch_as_dict(patch, written=written)
        )
    elif not patch.after:
        console.say("Nothing of it can be taken into the spec.")
    else:
        files = escape(", ".join(sorted(patch.after)))
        then = "look at `mlspec plan`, and commit" if written else "`mlspec drift --adopt --yes`"
        console.say(
            f"{'Taken' if written else 'Not written'}: {told_count(patch)}, into {files}; {then}."
        )
    return ExitCode.OK if written and patch.whole else ExitCode.CHANGES


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
    if any(each.mend in (Mend.REDEPLOY, Mend.REGENERATE) for each in found):
        console.note("`mlspec drift --adopt` shows what of it the spec can take instead.")


def _told(change: FieldChange) -> str:
    readings: tuple[tuple[str, Any], ...] = (
        ("spec", change.desired),
        ("ledger", change.recorded),
        ("there", change.observed),
    )
    values = (f"{name} {'nothing' if value is None else value}" for name, value in readings)
    return f"{change.field}: {', '.join(values)}"
