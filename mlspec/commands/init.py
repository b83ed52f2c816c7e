"""`mlspec init`: start a project from a template."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.render.console import Console
from mlspec.scaffold import Scaffold, init_project, load_templates


def init(
    directory: Path,
    console: Console,
    *,
    template: str | None,
    name: str | None,
    yes: bool,
    list_templates: bool,
) -> int:
    """Make the project and say what to do next, or list the templates."""
    if list_templates:
        console.say(_describe_templates())
        return 0
    if template is None:
        raise MlspecError(
            f"choose a template with --template:\n{_describe_templates()}",
            hint="for example `mlspec init my-project --template tabular-classification`",
        )
    answers = {} if name is None else {"project": name}
    ask = console.interactive and not yes
    console.say(_describe(init_project(directory, template, answers, ask=ask)))
    return 0


def _describe_templates() -> str:
    templates = load_templates()
    width = max(len(template.name) for template in templates)
    return "\n".join(f"  {each.name:{width}}  {each.summary}" for each in templates)


def _describe(made: Scaffold) -> str:
    where = os.path.relpath(made.directory)
    repository = ", a new Git repository" if made.new_repository else ""
    project = made.answers["project"]
    steps = [
        *([] if where == "." else [f"cd {shlex.quote(where)}"]),
        "pip install -r requirements.txt",
        "git add --all . && git commit --message 'Start the project'",
        "mlspec plan",
        "mlspec apply",
    ]
    return "\n".join(
        [
            f"Made {project} in {where}: {len(made.files)} files{repository}.",
            "",
            "Next:",
            *(f"  {step}" for step in steps),
        ]
    )
