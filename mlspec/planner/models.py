"""Steps for gates and versions: judge what is new, or what is asked anew; register what passed."""

from __future__ import annotations

from dataclasses import replace

from mlspec.fingerprint import model_fingerprint
from mlspec.ledger.records import Candidate
from mlspec.plan import Action, Consequence, FieldChange, Step, most_severe
from mlspec.planner.facts import Facts, Outlook
from mlspec.planner.quarantine import why_quarantined
from mlspec.planner.reasons import reason_of
from mlspec.resources import GateResource, ModelResource
from mlspec.spec.models import Fetch
from mlspec.spec.moves import renames_of


def plan_model(facts: Facts, resource: ModelResource) -> None:
    """Plan the gates and the registration of a model whose stages are planned."""
    facts.outlooks[resource.name] = _outlook(facts, resource)
    state = facts.recorded.model_state(resource.name)
    if state is None:
        _tell_unknown_name(facts, resource)
    elif state.retired:
        _plan_return(facts, resource)


def _plan_return(facts: Facts, resource: ModelResource) -> None:
    """Tell that a model is back which had left the spec, and have the ledger know it."""
    reason = "it is back in the spec, with the history that it has"
    step = facts.steps.get(resource.address)
    if step is not None:
        facts.steps[resource.address] = replace(step, reason=f"{step.reason}; {reason}")
    elif resource.address not in facts.held:
        facts.add(Step(resource.address, Action.UPDATE, Consequence.NONE, reason))


def _tell_unknown_name(facts: Facts, resource: ModelResource) -> None:
    """Say of a model that is new that it was to have a history: a name in `moved` may be wrong."""
    former = renames_of(facts.desired.spec.moved).former.get(resource.address)
    step = facts.steps.get(resource.address)
    if former and step is not None:
        reason = f"{step.reason}; `moved` says it was {former[0]}, which the ledger does not have"
        facts.steps[resource.address] = replace(step, reason=reason)


def _outlook(facts: Facts, resource: ModelResource) -> Outlook:
    quarantine = resource.model.quarantine
    for entry in quarantine:
        if facts.recorded.version(resource.name, entry.version) is None:
            # or else it would hold back whatever gets that number one day
            facts.hold(
                resource.address,
                f"version {entry.version} is quarantined, and the ledger does not have it",
            )
            return Outlook()
    if any(address not in facts.fingerprints for address in resource.stages):
        return _judge(facts, resource, candidate=None)
    fingerprint = model_fingerprint(
        {address.rpartition(".")[2]: facts.fingerprints[address] for address in resource.stages},
        resource.taken,
    )
    facts.fingerprints[resource.address] = fingerprint
    made = (each for each in resource.stages if not isinstance(resource.stage(each), Fetch))
    running = any(
        step.action in (Action.RUN, Action.ADOPT)
        for step in map(facts.steps.get, made)
        if step is not None
    )
    candidate = None if running else facts.recorded.candidate(resource.name, fingerprint)
    if quarantine and candidate is not None and candidate.version is not None:
        version = facts.recorded.version(resource.name, candidate.version)
        if version is not None and (
            why := why_quarantined(facts.recorded, resource.name, version, quarantine)
        ):
            facts.hold(resource.address, why)
            return Outlook()
    if (
        candidate is None
        or candidate.status == "judging"
        or _asked_anew(facts, resource, candidate)
        or _is_freed(facts, resource, candidate)
    ):
        return _judge(facts, resource, candidate)
    if candidate.status == "rejected":
        failed = next(v for v in candidate.verdicts if v.stops)
        facts.hold(resource.address, f"candidate rejected: {failed.detail}")
        return Outlook()
    return Outlook(version=candidate.version)


def _asked_anew(facts: Facts, resource: ModelResource, candidate: Candidate) -> bool:
    questions = {
        gate.name: gate.question
        for gate in (facts.desired.get(GateResource, address) for address in resource.gates)
    }
    return {name: dict(gate) for name, gate in candidate.gates.items()} != questions


def _is_freed(facts: Facts, resource: ModelResource, candidate: Candidate) -> bool:
    """Whether its version has lost its artifact, and its stages have made one since."""
    if candidate.version is None:
        return False
    version = facts.recorded.version(resource.name, candidate.version)
    return version is not None and version.freed


def _judge(facts: Facts, resource: ModelResource, candidate: Candidate | None) -> Outlook:
    stage_steps = [facts.steps[a] for a in resource.stages if a in facts.steps]
    certain = candidate is not None or not stage_steps or any(s.certain for s in stage_steps)
    after = facts.planned(resource.stages)
    for address in resource.gates:
        gate = facts.desired.get(GateResource, address)
        changes = _gate_changes(gate, candidate)
        reason = _gate_reason(gate, candidate, changes)
        if reason is not None:
            facts.add(
                Step(
                    address,
                    Action.EVALUATE,
                    Consequence.REEVALUATE,
                    reason,
                    after=after,
                    changes=changes,
                    certain=certain,
                )
            )
    return _register(facts, resource, candidate, certain=certain)


def _gate_reason(
    gate: GateResource, candidate: Candidate | None, changes: tuple[FieldChange, ...]
) -> str | None:
    """Why a gate is asked, or None when its last answer stands."""
    if candidate is None or candidate.status == "judging":
        return "the candidate has not been judged"
    if changes:
        return reason_of(changes)
    if gate.name not in candidate.gates:
        return "the gate is new"
    if gate.gate.against is not None and candidate.version is None:
        return "the champion may be another than it was"
    verdict = next((v for v in candidate.verdicts if v.gate == gate.name), None)
    if verdict is None or verdict.stops:
        return "it did not pass before, and other gates changed"
    return None


def _gate_changes(gate: GateResource, candidate: Candidate | None) -> tuple[FieldChange, ...]:
    asked = candidate.gates.get(gate.name) if candidate else None
    if asked is None:
        return ()
    return tuple(
        FieldChange(field, asked.get(field), gate.question.get(field))
        for field in sorted(asked.keys() | gate.question.keys())
        if asked.get(field) != gate.question.get(field)
    )


def _register(
    facts: Facts, resource: ModelResource, candidate: Candidate | None, *, certain: bool
) -> Outlook:
    before = facts.planned((*resource.stages, *resource.gates))
    worst = most_severe(facts.steps[address].consequence for address in before)
    after = facts.planned((*before, *resource.files))
    if candidate is not None and _is_freed(facts, resource, candidate):
        reason = f"`mlspec gc` removed the files of version {candidate.version}; they are new"
    elif candidate is not None and candidate.version is not None:
        reason = f"version {candidate.version} is judged by other gates than before"
    elif resource.model.from_ is not None:
        reason = f"a new version, taken from {resource.model.from_.place}"
        reason += ", if no gate fails" if resource.gates else "; the model has no gates"
    elif resource.gates:
        reason = "a new version, if no gate fails"
    else:
        reason = "a new version; the model has no gates"
    if resource.artifact is not None and resource.artifact.exception:
        reason += f"; its artifact is {resource.artifact.exception}"
    facts.add(Step(resource.address, Action.REGISTER, worst, reason, after=after, certain=certain))
    version = candidate.version if candidate is not None else None
    return Outlook(version, pending=resource.address, certain=certain)
