"""Whether a release was approved by as many people as its target asks for.

An approval is of one digest: of service, settings, artifact and version. Another release needs its
own. The spec that was applied last is asked too, so that none lifts a demand and profits at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mlspec.ledger.records import Approval, Policy
from mlspec.planner.facts import Facts
from mlspec.resources import Demand, DeploymentResource
from mlspec.spec.models import Spec

SHORT = 12
"""Characters of a release's digest that are told."""


def policy_of(spec: Spec) -> Policy:
    """The rules of a spec as the ledger keeps them."""
    asked = {name: target.approvals for name, target in spec.targets.items() if target.approvals}
    approvers = {
        name: tuple(sorted(map(str.lower, people)))
        for name, people in spec.policy.approvers.items()
    }
    return Policy(
        protect=spec.policy.protect,
        approvals=dict(sorted(asked.items())),
        approvers=dict(sorted(approvers.items())),
    )


def demands_on(facts: Facts, resource: DeploymentResource) -> Iterator[tuple[Demand, str]]:
    """What a release has to be approved by, and who says so, if not the spec."""
    yield resource.demand, ""
    policy = facts.recorded.policy() or Policy()
    target = resource.target
    before = Demand(policy.approvals.get(target, 0), policy.approvers.get(target, ()))
    asked = {each.lower() for each in resource.demand.approvers}
    if (before.approvals, set(before.approvers)) != (resource.demand.approvals, asked):
        yield before, ", by the policy that was applied last"


def needs_approval(facts: Facts, resource: DeploymentResource) -> bool:
    return any(demand.approvals for demand, _ in demands_on(facts, resource))


def why_not_approved(
    facts: Facts, resource: DeploymentResource, release: str, version: int
) -> str | None:
    """What a release lacks; none if it may be deployed."""
    for demand, whose in demands_on(facts, resource):
        if not demand.approvals:
            continue
        known = facts.recorded.approvals(resource.address, release)
        if (lacking := what_lacks(demand, known)) is not None:
            return (
                f"it waits for {lacking} of release {release[:SHORT]}, version {version}{whose}: "
                f"`mlspec approve {resource.address}`"
            )
    return None


def what_lacks(demand: Demand, approvals: Sequence[Approval]) -> str | None:
    """What has to come beside the approvals that there are; none if nothing has to."""
    counted = [each for each in approvals if may_approve(demand, each.by)]
    missing = demand.approvals - len({each.by.lower() for each in counted})
    if missing > 0:
        what = f"{missing} approval{'s' * (missing > 1)}"
        return what if not counted else f"{missing} of {demand.approvals} approvals"
    if demand.approvals and all(each.own for each in counted):
        return "an approval by somebody else than who made it"
    return None


def may_approve(demand: Demand, by: str) -> bool:
    """Whether the approval of whom Git knows by this address counts."""
    return not demand.approvers or by.lower() in {each.lower() for each in demand.approvers}
