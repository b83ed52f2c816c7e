"""Deployments: stage the release of a version and hand it to the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mlspec.atomic import make_own_folder
from mlspec.errors import MlspecError, RolledBack, Undecided
from mlspec.fingerprint import trial_digest
from mlspec.ledger.paths import deployment_path
from mlspec.ledger.records import Deployed, File, Version
from mlspec.plan import Action, Step
from mlspec.planner.deployments import judged_image
from mlspec.planner.moves import moved_to
from mlspec.planner.serving import choose_served, find_unknown
from mlspec.providers import batch, rollouts
from mlspec.providers.artifacts import name_artifact
from mlspec.providers.context import Change, Context
from mlspec.providers.local.release import stage_release
from mlspec.providers.moves import move
from mlspec.providers.target import Running
from mlspec.providers.targets import target_of, target_where
from mlspec.resources import DeploymentResource
from mlspec.rollouts.board import Board

PLACE = (
    *("kind", "context", "namespace", "gitops", "engine"),
    *("host", "user", "folder", "units"),
    *("region", "profile"),
)
"""What tells one place from another, of a target that is not this machine."""


def apply(step: Step, context: Context) -> Change:
    """Deploy, roll back or delete one deployment on its target."""
    match step.action:
        case Action.DELETE:
            return _delete(step.address, context)
        case Action.FORGET:
            name, _, target = step.address.removeprefix("deployment.").partition("@")
            return Change("forgotten; what runs goes on", {deployment_path(name, target): None})
        case Action.MOVE:
            return _move(step, context)
        case _:
            return _serve(step, context)


def _serve(step: Step, context: Context) -> Change:
    resource = context.desired.get(DeploymentResource, step.address)
    version = context.facts.versions[step.address]
    release = context.facts.fingerprints[step.address]
    before = context.recorded.deployed(step.address)
    record = Deployed(
        deployment=resource.name,
        target=resource.target,
        model=version.model,
        version=version.number,
        release=release,
        status="serving",
        place=context.place if resource.is_here else "",
        where=resource.where,
        refusals=before.refusals if before else {},
    )
    path = deployment_path(resource.name, resource.target)
    try:
        running = _serving(resource, release, context) or _deploy(step, resource, version, context)
    except Undecided as error:
        return Change("", {}, error)
    except RolledBack as error:
        kept = before or record.model_copy(update={"status": "refused"})
        reason = error.message.splitlines()[0].removeprefix(f"{step.address}: ")
        trial = trial_digest(release, resource.smoke, resource.terms)
        return Change("", {path: kept.refusing(trial, reason)}, error)
    _leave(step.address, resource, context)
    record = record.model_copy(update={"image": running.image, "scored": running.scored})
    said = running.note or f"serves at {running.url}"
    if approvals := context.recorded.approvals(step.address, release):
        said += f"; approved by {', '.join(each.by for each in approvals)}"
    return Change(f"version {version.number} {said}", {path: record})


def _serving(resource: DeploymentResource, release: str, context: Context) -> Running | None:
    """What runs already, as it should: an apply that was killed did that, and did not record it."""
    running = target_of(context.root, resource).observe(resource.name)
    if running is None or running.differs or running.status != "serving":
        return None
    return running if running.release == release else None


def _leave(address: str, resource: DeploymentResource, context: Context) -> None:
    """Take it away from where it was, if its target is another place by now."""
    before = context.recorded.deployed(address)
    if before is None or before.where is None or resource.where is None:
        return
    if any(before.where.get(key) != resource.where.get(key) for key in PLACE):
        target_where(context.root, resource.target, before.where).destroy(resource.name)


def _deploy(
    step: Step, resource: DeploymentResource, version: Version, context: Context
) -> Running:
    if version.artifact is None:
        raise MlspecError(
            f"version {version.number} of model.{version.model} has no artifact to serve",
            hint="give the model an `artifact` and apply again",
        )
    if resource.reads is not None:
        return batch.score(resource, version, context)
    served = choose_served(resource, version)
    check_sensitive(resource, served.signature, context)
    release = stage_release(
        context.root,
        context.root / served.folder,
        _bytes_of(served.file, context),
        {
            "model": version.model,
            "version": version.number,
            "digest": served.file.md5,
            "commit": version.commit,
            "signature": served.signature,
        },
        resource.settings,
        context.source.time,
        names=tuple(served.texts),
        service=resource.name,
    )
    target = target_of(context.root, resource)
    judged = judged_image(context.recorded, resource, version)
    release = replace(release, judged=judged, token=context.token)
    return rollouts.deploy(step, resource, release, target, context)


def check_sensitive(
    resource: DeploymentResource, signature: Mapping[str, Any] | None, context: Context
) -> None:
    """Refuse a name that would keep nothing secret; of a pinned version it may be a later one."""
    model = resource.deployment.model
    unknown = find_unknown(context.desired.spec.models[model].sensitive, signature)
    if unknown is not None and resource.pinned is None:
        name, hint = unknown
        raise MlspecError(
            f"model.{model}: `sensitive` names {name}, and the model has no such column", hint=hint
        )


def _bytes_of(file: File, context: Context) -> Path:
    """The version's own bytes, whatever the worktree has now."""
    place = context.dvc.fetch({file.path: file.md5})[file.path]
    return name_artifact(file, place, make_own_folder(context.root, "artifacts"))


def _move(step: Step, context: Context) -> Change:
    """Have it run under its present name, with the release that it has."""
    name, _, target_name = step.address.removeprefix("deployment.").partition("@")
    now = str(moved_to(step))
    resource = context.desired.resources.get(now)
    if isinstance(resource, DeploymentResource):
        target = target_of(context.root, resource)
    else:
        recorded = context.recorded.deployed(step.address)
        target = target_where(context.root, target_name, recorded.where if recorded else None)
    target.rename(name, now.removeprefix("deployment.").partition("@")[0])
    return move(step, context)


def _delete(address: str, context: Context) -> Change:
    name, _, target = address.removeprefix("deployment.").partition("@")
    deployed = context.recorded.deployed(address)
    target_where(context.root, target, deployed.where if deployed else None).destroy(name)
    Board(context.root, f"{name}@{target}").forget()
    detail = "stopped and forgotten"
    if deployed is not None and deployed.where and deployed.where["kind"] == "image":
        detail = f"forgotten; the registry still has {deployed.image}"
    elif deployed is not None and deployed.scored:
        detail = f"forgotten; {deployed.scored['path']} stays"
    elif deployed is not None and not deployed.is_at(context.place):
        detail = "forgotten; `mlspec destroy` in the checkout that runs it stops it there"
    records = {} if deployed is None else {deployment_path(name, target): None}
    return Change(detail, records)
