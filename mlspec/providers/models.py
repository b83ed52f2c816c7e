"""Models: register a candidate that its gates let through, retire a model that left the spec."""

from __future__ import annotations

from mlspec.errors import MlspecError
from mlspec.fingerprint import model_fingerprint
from mlspec.formats import inspect_artifact
from mlspec.ledger.paths import candidate_path, state_path, version_path
from mlspec.ledger.records import Candidate, File, ModelState, Version
from mlspec.plan import Action, Step
from mlspec.providers.context import Change, Context
from mlspec.providers.gates import candidate_metrics, stage_fingerprints
from mlspec.providers.moves import move
from mlspec.providers.stages import bring_output
from mlspec.resources import GateResource, ModelResource, StageResource


def apply(step: Step, context: Context) -> Change:
    """Make the candidate a version, or accept it anew under the number that it has."""
    if step.action is Action.MOVE:
        return move(step, context)
    name = step.address.removeprefix("model.")
    state = context.recorded.model_state(name) or ModelState()
    if step.action in (Action.DELETE, Action.FORGET):
        retired = state.model_copy(update={"retired": True})
        return Change("retired; its versions and data are kept", {state_path(name): retired})
    resource = context.desired.get(ModelResource, step.address)
    stages = stage_fingerprints(resource, context)
    fingerprint = model_fingerprint(stages)
    candidate = _accepted(
        resource,
        context,
        context.recorded.candidate(name, fingerprint)
        or Candidate(
            fingerprint=fingerprint, stages=stages, status="judging", commit=context.source.commit
        ),
    )
    if candidate.version is not None:
        return Change(
            f"version {candidate.version} passes the gates as they are now",
            {
                candidate_path(name, fingerprint): candidate,
                state_path(name): state.model_copy(update={"candidate": fingerprint}),
            },
        )
    artifact, signature = _artifact(resource, context)
    version = Version(
        model=name,
        number=(state.version or 0) + 1,
        fingerprint=fingerprint,
        stages=stages,
        artifact=artifact,
        signature=signature,
        metrics=candidate_metrics(name, stages, context),
        verdicts=candidate.verdicts,
        commit=context.source.commit,
        dirty=context.source.dirty,
    )
    update = {"candidate": fingerprint, "version": version.number, "retired": False}
    return Change(
        f"version {version.number}",
        {
            version_path(name, version.number): version,
            candidate_path(name, fingerprint): candidate.model_copy(
                update={"version": version.number}
            ),
            state_path(name): state.model_copy(update=update),
        },
    )


def _accepted(resource: ModelResource, context: Context, candidate: Candidate) -> Candidate:
    """The candidate as the gates of now let it through; those that are gone are forgotten."""
    gates = [context.desired.get(GateResource, address) for address in resource.gates]
    names = {gate.name for gate in gates}
    return candidate.model_copy(
        update={
            "status": "accepted",
            "gates": {gate.name: gate.question for gate in gates},
            "verdicts": tuple(v for v in candidate.verdicts if v.gate in names),
        }
    )


def _artifact(
    resource: ModelResource, context: Context
) -> tuple[File | None, dict[str, object] | None]:
    """The artifact's bytes and signature, looked at in a process of its own."""
    if resource.artifact is None:
        return None, None
    path = resource.artifact.path
    producer = next(
        address
        for address in resource.stages
        if path in context.desired.get(StageResource, address).writes
    )
    md5 = context.facts.contents[producer][path]
    bring_output(context, producer, path, md5)
    digest = context.worktree.digest(path)
    if digest is None or digest.nfiles is not None:
        raise MlspecError(f"{path}, the artifact of {resource.address}, is not a file")
    signature = inspect_artifact(context.root / path, resource.artifact.format)
    file = File(path=path, format=resource.artifact.format, md5=md5, size=digest.size)
    return file, dict(signature)
