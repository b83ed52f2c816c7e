"""Models: register a candidate that its gates let through, retire a model that left the spec."""

from __future__ import annotations

from mlspec.errors import MlspecError
from mlspec.fingerprint import entry_outputs, model_fingerprint
from mlspec.formats import FOLDERS, inspect_declared
from mlspec.ledger.paths import candidate_path, state_path, version_path
from mlspec.ledger.records import Candidate, File, ModelState, Version
from mlspec.plan import Action, Step
from mlspec.providers.context import Change, Context
from mlspec.providers.conversion import load_conversion
from mlspec.providers.gates import candidate_metrics, stage_fingerprints
from mlspec.providers.moves import move
from mlspec.providers.stages import bring_input, bring_output
from mlspec.resources import GateResource, ModelResource, StageResource


def apply(step: Step, context: Context) -> Change:
    """Make the candidate a version, or accept it anew under the number that it has."""
    if step.action is Action.MOVE:
        return move(step, context)
    name = step.address.removeprefix("model.")
    state = context.recorded.model_state(name) or ModelState()
    if step.action in (Action.DELETE, Action.FORGET):
        retired = state.model_copy(update={"retired": True})
        return Change(f"retired; {_kept(name, state, context)}", {state_path(name): retired})
    if step.action is Action.UPDATE:
        back = state.model_copy(update={"retired": False})
        return Change("back, with its history", {state_path(name): back})
    resource = context.desired.get(ModelResource, step.address)
    stages = stage_fingerprints(resource, context)
    fingerprint = model_fingerprint(stages, resource.taken)
    candidate = _accepted(
        resource,
        context,
        context.recorded.candidate(name, fingerprint)
        or Candidate(
            fingerprint=fingerprint,
            stages=stages,
            status="judging",
            commit=context.source.commit,
            source=resource.source,
        ),
    )
    former = context.recorded.version(name, candidate.version) if candidate.version else None
    if candidate.version is not None and (former is None or not former.freed):
        return Change(
            f"version {candidate.version} passes the gates as they are now",
            {
                candidate_path(name, fingerprint): candidate,
                state_path(name): state.model_copy(
                    update={"candidate": fingerprint, "retired": False}
                ),
            },
        )
    artifact, signature = _artifact(resource, context)
    if former is not None and former.artifact == artifact:
        return Change(
            f"version {former.number} has its files again",
            {
                version_path(name, former.number): former.model_copy(update={"freed": False}),
                candidate_path(name, fingerprint): candidate,
                state_path(name): state.model_copy(
                    update={"candidate": fingerprint, "retired": False}
                ),
            },
        )
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
        source=resource.source,
        conversion=load_conversion(resource, signature, context),
    )
    update = {"candidate": fingerprint, "version": version.number, "retired": False}
    declared = resource.artifact.exception if resource.artifact is not None else ""
    said = f"version {version.number}" + (f"; its artifact is {declared}" if declared else "")
    if version.conversion is not None:
        said += f"; {version.conversion.said}"
    return Change(
        said,
        {
            version_path(name, version.number): version,
            candidate_path(name, fingerprint): candidate.model_copy(
                update={"version": version.number}
            ),
            state_path(name): state.model_copy(update=update),
        },
    )


def _kept(name: str, state: ModelState, context: Context) -> str:
    """Where the files are of a model that left: the versions' and those that are still here."""
    runs = [context.recorded.run(name, stage, state.runs[stage]) for stage in sorted(state.runs)]
    wrote = [path for run in runs if run is not None for path in entry_outputs(run.entry)]
    here = [path for path in wrote if context.worktree.exists(path)]
    said = "its versions and data are kept in storage until `mlspec gc`"
    if here:
        more = f" and {len(here) - 1} more" if len(here) > 1 else ""
        said += f"; {here[0]}{more} stay{'' if more else 's'} here"
    return said


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
    if resource.brought and resource.taken is not None:
        md5 = _keep_taken(resource.address, path, resource.taken, context)
    else:
        md5 = _bring_made(resource, path, context)
    digest = context.worktree.digest(path)
    if digest is None or (digest.nfiles is not None and resource.artifact.format not in FOLDERS):
        raise MlspecError(f"{path}, the artifact of {resource.address}, is not a file")
    if resource.training:
        _bring_training(resource, context)
    signature = inspect_declared(
        resource.artifact, context.root, resource.code, training=resource.training
    )
    file = File(path=path, format=resource.artifact.format, md5=md5, size=digest.size)
    return file, dict(signature)


def _bring_made(resource: ModelResource, path: str, context: Context) -> str:
    """Have the artifact that a stage wrote in the worktree; its md5."""
    producer = next(
        address
        for address in resource.stages
        if path in context.desired.get(StageResource, address).writes
    )
    md5 = context.facts.contents[producer][path]
    bring_output(context, producer, path, md5)
    return md5


def _bring_training(resource: ModelResource, context: Context) -> None:
    """Have the data in the worktree that the signature is inferred from, as a stage read them."""
    for address in resource.stages:
        stage = context.desired.get(StageResource, address)
        for dependency in stage.dependencies:
            if dependency.path == resource.training:
                bring_input(dependency, context)
                return


def _keep_taken(address: str, path: str, taken: str, context: Context) -> str:
    """Have the artifact that others made in the worktree, under DVC and in storage; its md5.

    Raises :class:`MlspecError` if it is not the one that the spec names.
    """
    if not context.worktree.exists(path):
        context.dvc.checkout(f"{path}.dvc")
    elif f"sha256:{context.worktree.sha256(path)}" == taken:
        context.dvc.add(path)
    context.worktree.forget(path, f"{path}.dvc")
    known, seen = context.worktree.recorded_digest(path), context.worktree.digest(path)
    same = known is not None and seen is not None and known.md5 == seen.md5
    if known is None or not same or f"sha256:{context.worktree.sha256(path)}" != taken:
        raise MlspecError(
            f"{path} is not the file that {address} was taken as, {taken}",
            hint="plan again: it says how to mend it",
        )
    context.dvc.push(f"{path}.dvc", None)
    return known.md5
