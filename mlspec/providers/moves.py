"""What has another name now: its records go there, and that is all."""

from __future__ import annotations

from mlspec.plan import Step
from mlspec.planner.moves import moved_to
from mlspec.providers.context import Change, Context


def move(step: Step, context: Context) -> Change:
    """Have the ledger know something under its present name only."""
    return Change(f"it is {moved_to(step)} now, with its history", context.moved(step.address))
