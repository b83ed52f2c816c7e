"""Drift: what differs between the four readings although nobody asked for it, and what mends it.

It is a view on the steps of a plan, never a second engine: a step is drift when what is there has
left what is recorded and still desired. Of generated files Git has the record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from mlspec.plan import Action, FieldChange, Step
from mlspec.planner.facts import Facts
from mlspec.resources import FileResource


class Reading(StrEnum):
    """What has left the others. The spec is what they are held against."""

    FILES = "generated files"
    RECORD = "ledger and locks"
    OUTPUTS = "outputs"
    SERVICE = "running service"


class Mend(StrEnum):
    """What puts it right."""

    REGENERATE = "regenerate"
    RECORD = "re-record"
    RESTORE = "restore"
    REDEPLOY = "redeploy"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class Drift:
    """What differs (`reason`), where (`address`), in which reading, and the mend chosen for it.

    `command` mends it by hand. `changes` have the values of the readings.
    """

    address: str
    reading: Reading
    mend: Mend
    reason: str
    command: str
    changes: tuple[FieldChange, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "address": self.address,
            "reading": self.reading.value,
            "mend": self.mend.value,
            "reason": self.reason,
            "command": self.command,
            "changes": [asdict(change) for change in self.changes],
        }


def find_drifts(steps: Iterable[Step], is_edited: Callable[[Step], bool]) -> Iterator[Drift]:
    """What of a plan's steps is drift; `is_edited` tells it of the step of a generated file."""
    for step in steps:
        if step.address.startswith("file."):
            if is_edited(step):
                yield _drift(step, Reading.FILES, Mend.REGENERATE, "mlspec compile")
        elif step.drift:
            yield _drift(step, *_mend(step))
        elif any(change.unrecorded for change in step.changes):
            command = f"mlspec apply --adopt --select {step.address}"
            yield _drift(step, Reading.RECORD, Mend.RECORD, command)


def heal_steps(steps: Iterable[Step], drifts: Iterable[Drift], *, deletes: bool) -> Iterator[Step]:
    """The steps, in their order, that mend drift and come after none that does not.

    What deletes a deployment only with leave; a run that the ledger lacks is for people to trust.
    """
    wanted = {drift.address for drift in drifts}
    left: set[str] = set()
    for step in steps:
        is_file = step.address.startswith("file.")
        refused = step.action is Action.DELETE and not is_file and not deletes
        if step.address not in wanted or step.action is Action.RUN or refused:
            left.add(step.address)
        elif left.isdisjoint(step.after):
            yield step
        else:
            left.add(step.address)


def is_known(facts: Facts, step: Step) -> bool:
    """Whether the ledger knows what a generated file is made for."""
    resource = facts.desired.resources.get(step.address)
    if not isinstance(resource, FileResource):
        return False
    kind, _, name = resource.generated.owner.partition(".")
    if kind == "model":
        return facts.recorded.model_state(name) is not None
    if kind == "deployment":
        places = facts.recorded.deployments()
        return any(address.startswith(f"deployment.{name}@") for address in places)
    return any(True for _ in facts.recorded.models())


def _mend(step: Step) -> tuple[Reading, Mend, str]:
    select = f"mlspec apply --select {step.address}"
    if step.action is Action.DELETE:
        return Reading.SERVICE, Mend.REMOVE, "mlspec apply --allow-delete"
    if step.address.startswith("deployment."):
        return Reading.SERVICE, Mend.REDEPLOY, select
    if any(change.drift and change.field == "fingerprint" for change in step.changes):
        return Reading.RECORD, Mend.RECORD, select
    return Reading.OUTPUTS, Mend.RESTORE, select


def _drift(step: Step, reading: Reading, mend: Mend, command: str) -> Drift:
    reason = step.reason.removeprefix("drift: ")
    if mend is Mend.REGENERATE and step.action is Action.CREATE:
        reason = "it was generated, and is gone"
    return Drift(step.address, reading, mend, reason, command, step.changes)
