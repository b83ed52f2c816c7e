"""What a batch deployment reads: its scores are stale when that changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.ledger.records import Deployed
from mlspec.plan import FieldChange
from mlspec.planner.facts import Facts
from mlspec.resources import DeploymentResource


def input_of(facts: Facts, resource: DeploymentResource) -> str | None:
    """The md5 of the input; none while nobody knows it, or if nothing is read."""
    reads = resource.reads
    if reads is None or reads.producer is None:
        return None
    return facts.contents.get(reads.producer, {}).get(reads.path)


def settings_of(facts: Facts, resource: DeploymentResource) -> Mapping[str, Any]:
    """What a release is made with: of scores, that is also what they are of."""
    if resource.reads is None:
        return resource.settings
    return {**resource.settings, "read": input_of(facts, resource)}


def other_input(
    facts: Facts, resource: DeploymentResource, recorded: Deployed
) -> Iterator[FieldChange]:
    """That the input is not what was scored last."""
    now = input_of(facts, resource)
    if resource.reads is not None and recorded.scored is not None and now is not None:
        was = str(recorded.scored["read"])
        if was != now:
            yield FieldChange(f"input {resource.reads.path}", was[:12], now[:12])
