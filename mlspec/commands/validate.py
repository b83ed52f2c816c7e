"""`mlspec validate`: does the spec load, and does all that it names exist?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlspec.errors import Diagnostic, SpecError
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.waiting import waiting

MOST_NAMED = 5
"""Files that are named."""


def validate(start: Path, console: Console, *, as_json: bool) -> int:
    """Report every problem; 0 when there is none."""
    problems: tuple[Diagnostic, ...] = ()
    with open_project(start) as project:
        project.thorough = True
        try:
            with waiting("checking the spec and what it names"):
                desired = project.desired
        except SpecError as error:
            if not as_json:
                raise
            problems = error.diagnostics
        else:
            if not as_json:
                count = len(desired.resources)
                console.say(f"{_named(project.loaded.files)}: valid, {count} resources.")
    if as_json:
        console.say_json({"valid": not problems, "problems": [asdict(p) for p in problems]})
    return 1 if problems else 0


def _named(files: Sequence[str]) -> str:
    more = f" and {len(files) - MOST_NAMED:,} more files" if len(files) > MOST_NAMED else ""
    return ", ".join(files[:MOST_NAMED]) + more
