"""What failed here last and was not done since, so that a plan does not just say "never run".

Kept in one file that may be lost: the ledger has every failure too, but would have to be searched.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mlspec.atomic import OWN, write_atomic
from mlspec.errors import MlspecError
from mlspec.plan import Plan, Report, Status

_FILE = Path(OWN, "failures.json")

Failures = Mapping[str, tuple[str, str]]
"""By address: why the step was to be done, and the first line of what it said."""


def keep_failures(root: Path, report: Report) -> None:
    """Take a report in: what failed, what ended otherwise, and nothing of what was not tried."""
    before = _load(root)
    now = dict(before)
    for outcome in report.outcomes:
        address = outcome.step.address
        if outcome.status is Status.FAILED:
            said = outcome.detail.split("\n")[0].removeprefix(f"{address} failed: ")
            now[address] = outcome.step.reason, said
        elif outcome.status is not Status.SKIPPED:
            now.pop(address, None)
    if now != before:
        with suppress(MlspecError):  # what was applied is recorded, and that is what counts
            write_atomic(root / _FILE, json.dumps(now, indent=1, ensure_ascii=False) + "\n")


def load_failures(root: Path, plan: Plan) -> dict[str, str]:
    """What was said, by address, of each step that is to be done for the same reason as then."""
    failures = _load(root)
    return {
        step.address: failures[step.address][1]
        for step in plan.steps
        if step.address in failures and failures[step.address][0] == step.reason
    }


def _load(root: Path) -> Failures:
    try:
        kept = json.loads((root / _FILE).read_text(encoding="utf-8"))
        return {str(address): (str(reason), str(said)) for address, (reason, said) in kept.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
