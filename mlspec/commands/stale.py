"""What moved between a saved plan and now: so that one knows whom to ask and what to look at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from mlspec.errors import MlspecError
from mlspec.git import GitError
from mlspec.ledger.store import Ledger
from mlspec.plan import Plan
from mlspec.reconcile import Project

_FEW = 5
_SHORT = 10
"""Of the id of a commit."""


def find_moved(project: Project, body: Mapping[str, Any], now: Plan) -> list[str]:
    """In words: files of the spec, commits, entries of the ledger, and steps that are others now.

    `body` is that of the saved plan. What cannot be told any more is left out.
    """
    base, current = body["base"], now.base
    lines: list[str] = []
    try:
        if base.get("spec") != current.spec:
            lines += _spec_files(project, str(base.get("commit", "")))
        if base.get("commit") != current.commit:
            lines.append(f"commit: {_short(base.get('commit'))} -> {_short(current.commit)}")
        if base.get("ledger") != current.ledger:
            lines += _entries(project.ledger, str(base.get("ledger", "")))
    except GitError:  # a commit that is not here any more
        pass
    return lines + _first(_steps(body, now.as_dict()), "steps")


def _spec_files(project: Project, commit: str) -> list[str]:
    """Those that are not what they are in the commit that was planned at."""
    if not commit:
        return []
    said = project.git.run("diff", "--name-only", "-z", commit, "--", *project.loaded.files)
    return _first((f"spec: {name} changed" for name in filter(None, said.split("\0"))), "files")


def _entries(ledger: Ledger, since: str) -> list[str]:
    """What was recorded meanwhile, the latest first."""
    try:
        found = [commit for _, commit in ledger.chain(ledger.tip, until=since)]
    except MlspecError:
        return []
    told = (f"ledger: {commit.message.partition(chr(10))[0]}" for commit in found)
    return _first(told, "entries of the ledger")


def _steps(body: Mapping[str, Any], current: Mapping[str, Any]) -> Iterator[str]:
    """Steps that are others now, with their reasons, which name files."""
    before, after = _by_place(body.get("steps")), _by_place(current["steps"])
    for place in [*after, *(place for place in before if place not in after)]:
        address, action = place
        if place not in after:
            yield f"{address}: nothing to {action} any more"
        elif before.get(place) != after[place]:
            yield f"{address}: {after[place]['reason']}"


def _by_place(steps: object) -> dict[tuple[str, str], Any]:
    """Steps by address and action, as far as they are any: somebody may have written them."""
    found = steps if isinstance(steps, list) else []
    shaped = (step for step in found if isinstance(step, dict))
    return {(str(step.get("address")), str(step.get("action"))): step for step in shaped}


def _first(lines: Iterator[str], what: str) -> list[str]:
    shown = [*islice(lines, _FEW)]
    more = sum(1 for _ in lines)
    return [*shown, f"and {more} more {what}"] if more else shown


def _short(commit: object) -> str:
    return str(commit)[:_SHORT] if commit else "none"
