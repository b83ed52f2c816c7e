"""The policy: remembered, so that no later spec lifts and breaks it in one change."""

from __future__ import annotations

from mlspec.ledger.paths import POLICY
from mlspec.ledger.records import Policy
from mlspec.plan import Step
from mlspec.providers.context import Change, Context


def apply(step: Step, context: Context) -> Change:  # noqa: ARG001 - every provider takes both
    """Record what the spec protects."""
    protect = context.desired.spec.policy.protect
    return Change(", ".join(protect) or "nothing is protected", {POLICY: Policy(protect=protect)})
