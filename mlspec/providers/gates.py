"""Gates: gather the evidence, ask the question, remember the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.errors import GateFailed, MlspecError
from mlspec.fingerprint import entry_dependencies, model_fingerprint
from mlspec.gates import Champion, Evidence, check_gate
from mlspec.ledger.paths import candidate_path, state_path
from mlspec.ledger.records import Candidate, ModelState, Verdict, Version
from mlspec.plan import Step
from mlspec.planner.quarantine import why_quarantined
from mlspec.providers.context import Change, Context
from mlspec.resources import GateResource, ModelResource


def apply(step: Step, context: Context) -> Change:
    """Ask one gate about the model's candidate."""
    resource = context.desired.get(GateResource, step.address)
    model = context.desired.get(ModelResource, f"model.{resource.model}")
    stages = stage_fingerprints(model, context)
    fingerprint = model_fingerprint(stages, model.taken)
    evidence = Evidence(
        fingerprint=fingerprint,
        metrics=candidate_metrics(model.name, stages, context),
        champion=find_champion(model, context),
        read=_read(model, stages, context),
    )
    verdict = check_gate(resource.name, resource.gate, evidence)
    questions = {
        gate.name: gate.question
        for gate in (context.desired.get(GateResource, address) for address in model.gates)
    }
    candidate = with_verdict(
        context.recorded.candidate(model.name, fingerprint)
        or Candidate(
            fingerprint=fingerprint,
            stages=stages,
            status="judging",
            commit=context.source.commit,
            source=model.source,
        ),
        verdict,
        questions,
    )
    state = context.recorded.model_state(model.name) or ModelState()
    records = {
        candidate_path(model.name, fingerprint): candidate,
        state_path(model.name): state.model_copy(update={"candidate": fingerprint}),
    }
    if verdict.stops:
        why = "failed" if verdict.result == "fail" else "is inconclusive"
        failure = GateFailed(f"{resource.address} {why}: {verdict.detail}")
        return Change(verdict.detail, records, failure)
    prefix = "" if verdict.result == "pass" else "warning: "
    return Change(prefix + verdict.detail, records)


def with_verdict(
    candidate: Candidate, verdict: Verdict, questions: Mapping[str, Mapping[str, Any]]
) -> Candidate:
    """The candidate with one more verdict, of the gates that the model has now: `questions`.

    The first verdict of a new judgement keeps only those earlier ones that still hold: the same
    question, answered well. The last one rejects, or leaves the candidate to be registered.
    """
    anew = candidate.status != "judging"
    verdicts = {verdict.gate: verdict}
    for earlier in candidate.verdicts:
        same = candidate.gates.get(earlier.gate) == questions.get(earlier.gate)
        if same and not (anew and earlier.stops):
            verdicts.setdefault(earlier.gate, earlier)
    rejected = verdicts.keys() == questions.keys() and any(v.stops for v in verdicts.values())
    return candidate.model_copy(
        update={
            "gates": {name: questions[name] for name in sorted(verdicts)},
            "verdicts": tuple(verdicts[name] for name in sorted(verdicts)),
            "status": "rejected" if rejected else "judging",
        }
    )


def stage_fingerprints(model: ModelResource, context: Context) -> dict[str, str]:
    """Stage name to fingerprint, of the model as it is desired now."""
    return {
        address.rpartition(".")[2]: context.facts.fingerprints[address] for address in model.stages
    }


def candidate_metrics(model: str, stages: dict[str, str], context: Context) -> dict[str, float]:
    """All that the runs of a candidate measured.

    Raises :class:`MlspecError` for a metric of two stages: which of them a gate means is not known.
    """
    metrics: dict[str, float] = {}
    for stage, fingerprint in sorted(stages.items()):
        run = context.recorded.run(model, stage, fingerprint)
        measured = run.metrics if run is not None else {}
        if twice := sorted(metrics.keys() & measured.keys()):
            raise MlspecError(
                f"model.{model}: {twice[0]} is measured by {stage} and by an earlier stage",
                hint="give the two metrics different names",
            )
        metrics.update(measured)
    return metrics


def find_champion(model: ModelResource, context: Context) -> Champion | None:
    """The version that serves where promotion ends; for a model without deployments, the newest.

    It is never one that is quarantined: while such a one still serves, the champion is the newest
    before it. A model that is deployed nowhere yet has no champion.
    """
    deployments = context.desired.deployments_of(model.name)
    if deployments:
        serving = (context.recorded.deployed(resource.address) for resource in deployments)
        number = next(
            (d.version for d in serving if d and d.model == model.name and d.status != "refused"),
            None,
        )
    else:
        state = context.recorded.model_state(model.name)
        number = state.version if state else None
    version = _newest_good(model, context, number) if number is not None else None
    if version is None:
        return None
    read = _read(model, version.stages, context)
    return Champion(version.number, version.fingerprint, version.metrics, read)


def _newest_good(model: ModelResource, context: Context, newest: int) -> Version | None:
    """The version `newest`, or the last one before it that is not quarantined."""
    for number in range(newest, 0, -1):
        version = context.recorded.version(model.name, number)
        if version is None or not model.model.quarantine:
            return version
        if not why_quarantined(context.recorded, model.name, version, model.model.quarantine):
            return version
    return None


def _read(model: ModelResource, stages: Mapping[str, str], context: Context) -> dict[str, str]:
    """What the measuring stages read besides the artifact."""
    artifact = model.artifact.path if model.artifact else None
    runs = (context.recorded.run(model.name, name, stages[name]) for name in sorted(stages))
    return {
        path: md5
        for run in runs
        if run is not None and run.metrics
        for path, md5 in entry_dependencies(run.entry).items()
        if path != artifact
    }
