"""`mlspec compile`: write the generated files, or say which are not as the spec compiles to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlspec.errors import ExitCode
from mlspec.plan import Action, Step
from mlspec.planner import file_steps, keep_selected
from mlspec.providers.files import delete_file, write_files
from mlspec.reconcile import Project, open_project
from mlspec.render.alike import MOST_ALIKE, fold, listed
from mlspec.render.console import Console
from mlspec.render.plan_text import MOST_FILES
from mlspec.render.style import escape
from mlspec.resources import FileResource


def compile_files(
    start: Path, console: Console, *, select: Sequence[str], check: bool, as_json: bool
) -> int:
    """Write what differs; with `check` write nothing, and 1 when something does."""
    with open_project(start, select) as project:
        selected = project.selected
        steps = file_steps(project.file_facts)
        if selected is not None:
            steps, _ = keep_selected(steps, selected)
        if not check:
            _write(project, steps)
    if as_json:
        files = [{"path": _path(step), "action": step.action.value} for step in steps]
        console.say_json({"selection": selected.text if selected else "", "files": files})
    else:
        apart = MOST_ALIKE if len(steps) > MOST_FILES else len(steps)
        for alike in fold(steps, lambda step: (step.action, step.reason), apart):
            paths = listed([_path(step) for step in alike])
            console.say(f"{alike[0].action.value} {paths}: {escape(alike[0].reason)}")
        count, word = len(steps), "out of date" if check else "written"
        told = f"{count} file{'' if count == 1 else 's'} {word}."
        which = "generated file" if selected is None else "selected generated file"
        console.say(told if count else f"Every {which} is up to date.")
    if check and steps:
        console.note("  = help: run `mlspec compile` and commit what it writes")
        return ExitCode.ERROR
    return ExitCode.OK


def _write(project: Project, steps: Sequence[Step]) -> None:
    for step in steps:
        if step.action is Action.DELETE:
            delete_file(project.root, _path(step), project.moves)
    write_files(
        project.root,
        {
            _path(step): project.file_facts.desired.get(FileResource, step.address).generated.text
            for step in steps
            if step.action is not Action.DELETE
        },
    )


def _path(step: Step) -> str:
    return step.address.removeprefix("file.")
