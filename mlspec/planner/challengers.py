"""Whether a challenger can answer what its champion is asked: pure, by the signatures of versions.

A signature is {columns: [{name, type, missing}], outputs: [{type}], example}. What has none, as of
an older version, is taken as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.ledger.records import Version
from mlspec.planner.facts import Facts
from mlspec.resources import DeploymentResource
from mlspec.spec.models import Challenging

MOST_TOLD = 3
"""Columns that a reason names."""


def why_not_beside(facts: Facts, resource: DeploymentResource, version: Version) -> str | None:
    """Why a version can not be the champion, or the challenger, that it is to be; none if it can.

    A version that is not registered yet is not known here: the step is planned anew before it is
    done.
    """
    if resource.champion is not None:
        return _why_no_challenger(facts, resource, resource.champion, version)
    if resource.challenger is not None:
        return _why_no_champion(facts, resource, resource.challenger, version)
    return None


def _why_no_challenger(
    facts: Facts, resource: DeploymentResource, address: str, version: Version
) -> str | None:
    champion = _serving(facts, address)
    if champion is None:
        return None if address in facts.steps else f"{address}, its champion, is not deployed"
    deployment = resource.deployment
    answers = isinstance(deployment, Challenging) and deployment.terms.mode is None
    unlike = describe_unlike(champion, version, answers=answers)
    if unlike is None:
        return None
    return (
        f"version {version.number} of {version.model} can not challenge version {champion.number} "
        f"of {champion.model}: {unlike}"
    )


def _why_no_champion(
    facts: Facts, resource: DeploymentResource, address: str, version: Version
) -> str | None:
    """A challenger that answers clients must be able to answer all of them."""
    terms, challenger = resource.deployment.challenger, _recorded(facts, address)
    if terms is None or terms.mode is not None or challenger is None:
        return None
    if address not in facts.desired.resources or challenger.model != terms.model:
        return None
    unlike = describe_unlike(version, challenger, answers=True)
    if unlike is None:
        return None
    return (
        f"version {challenger.number} of {challenger.model}, its challenger, could not answer "
        f"what version {version.number} is asked: {unlike}; take the challenger out first"
    )


def _serving(facts: Facts, address: str) -> Version | None:
    """The version that a deployment will have, or else has; none while that is not known."""
    if address in facts.steps:
        return facts.versions.get(address)
    return _recorded(facts, address)


def _recorded(facts: Facts, address: str) -> Version | None:
    deployed = facts.recorded.deployed(address)
    if deployed is None or deployed.status == "refused":
        return None
    return facts.recorded.version(deployed.model, deployed.version)


def describe_unlike(champion: Version, challenger: Version, *, answers: bool) -> str | None:
    """What of a champion's requests its challenger does not take; none if it takes all of them.

    `answers` tells whether clients get its answers, which must then be of the same type.
    """
    if not champion.signature or not challenger.signature:
        return None
    problems = list(_columns(champion.signature, challenger.signature))
    theirs, own = (_answer(each.signature) for each in (champion, challenger))
    if answers and theirs != own:
        problems.append(f"it answers {own}, the champion {theirs}")
    more = len(problems) - MOST_TOLD
    told = "; ".join(problems[:MOST_TOLD]) + (f" (and {more} more)" if more > 0 else "")
    return told or None


def _columns(champion: Mapping[str, Any], challenger: Mapping[str, Any]) -> Iterator[str]:
    asked, taken = (
        {column["name"]: column for column in each["columns"]} for each in (champion, challenger)
    )
    for name, column in asked.items():
        if name not in taken:
            yield f"it has no column {name}"
            continue
        kinds = column["type"], taken[name]["type"]
        if kinds[0] != kinds[1] and kinds != ("integer", "number"):
            yield f"its column {name} is {kinds[1]}, the champion's {kinds[0]}"
        elif column.get("missing") and not taken[name].get("missing"):
            yield f"its column {name} can not be missing"
    for name in taken:
        if name not in asked:
            yield f"its column {name} is none of the champion's"


def _answer(signature: Mapping[str, Any] | None) -> str:
    return str(signature["outputs"][0]["type"]) if signature else ""
