"""The policy: remembered, so that no later spec lifts and breaks it in one change."""

from __future__ import annotations

from mlspec.ledger.paths import POLICY
from mlspec.plan import Step
from mlspec.planner.approvals import policy_of
from mlspec.providers.context import Change, Context


def apply(step: Step, context: Context) -> Change:  # noqa: ARG001 - every provider takes both
    """Record what the spec protects, and what has to be approved."""
    policy = policy_of(context.desired.spec)
    told = [", ".join(policy.protect) or "nothing is protected"]
    told += [f"{target} asks for {count} approvals" for target, count in policy.approvals.items()]
    return Change("; ".join(told), {POLICY: policy})
