"""`mlspec approve`: that a release may be deployed where that has to be approved.

It records that in the ledger and deploys nothing. An approval is of the release that a plan of this
checkout comes to, by its digest: what anybody changes afterwards makes another release.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.commands.deployment import find_deployment
from mlspec.errors import MlspecError
from mlspec.git import Git, Identity
from mlspec.ledger.entry import iso_time, make_entry
from mlspec.ledger.paths import approval_path
from mlspec.ledger.records import Approval, Version
from mlspec.ledger.state import Recorded
from mlspec.planner.approvals import SHORT, demands_on, may_approve, needs_approval, what_lacks
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource


@dataclass(frozen=True, slots=True)
class ApproveOptions:
    """What is said of it; `release` is the digest that was looked at, or how it begins."""

    message: str
    release: str
    withdraw: bool
    as_json: bool


def approve(start: Path, console: Console, name: str, options: ApproveOptions) -> int:
    """Record the approval, or take it back, and share it."""
    if not options.message.isprintable():
        raise MlspecError("the message holds characters that do not show", hint="write one line")
    with open_project(start) as project:
        project.ledger.sync()
        resource = find_deployment(project, name)
        release, version = _find_release(project, resource, options)
        who = _find_who(project.git)
        _check_demands(project, resource, who)
        path = approval_path(resource.name, resource.target, release, who.email)
        known = {each.by.lower() for each in _approvals(project.recorded(), resource, release)}
        about = (
            f"release {release[:SHORT]}, version {version.number} of model.{version.model}"
            f"{f': {options.message}' if options.message else ''}"
        )
        if options.withdraw:
            if who.email.lower() not in known:
                raise MlspecError(f"{who.email} has not approved {resource.address}")
            entry = make_entry(project.git, "approve")
            entry = entry.about(resource.address, "withdraw", "done", about)
            project.ledger.record({path: None}, entry)
        elif who.email.lower() not in known:
            approval = _approval(project, resource, release, version, who, options.message)
            entry = make_entry(project.git, "approve")
            entry = entry.about(resource.address, "approve", "done", about)
            project.ledger.record({path: approval}, entry)
        project.ledger.publish()
        found = _approvals(project.recorded(), resource, release)
        lacking = [
            f"{lacks}{whose}"
            for demand, whose in demands_on(project.facts, resource)
            if (lacks := what_lacks(demand, found)) is not None
        ]
        signed = project.git.signs
    if options.as_json:
        console.say_json(_as_dict(resource, release, version, found, lacking))
        return 0
    done = "withdrawn" if options.withdraw else f"approved{', signed' if signed else ''}"
    console.say(
        f"{resource.address}: release {release[:SHORT]} (version {version.number} of "
        f"model.{version.model}) {done} by {escape(str(who))}."
    )
    if lacking:
        console.say(f"It waits for {lacking[0]}.")
    else:
        console.say("`mlspec apply` deploys it when nothing else holds it.")
    return 0


def _find_release(
    project: Project, resource: DeploymentResource, options: ApproveOptions
) -> tuple[str, Version]:
    facts, address = project.facts, resource.address
    if not needs_approval(facts, resource):
        raise MlspecError(
            f"target {resource.target} asks for no approvals",
            hint=f"if it is to ask: targets.{resource.target}.approvals: 1",
        )
    release, version = facts.fingerprints.get(address), facts.versions.get(address)
    if release is None or version is None:
        held = facts.held.get(address)
        why = held.reason if held is not None else "its version is not known yet"
        raise MlspecError(f"{address} has no release that could be approved: {why}")
    if not release.startswith(options.release):
        raise MlspecError(
            f"the release of {address} is {release[:SHORT]} now, not {escape(options.release)}",
            hint="look at `mlspec plan` again: spec, code, data or version changed",
        )
    deployed = facts.recorded.deployed(address)
    serves = deployed is not None and deployed.status != "refused" and deployed.release == release
    if serves and not options.withdraw:
        raise MlspecError(f"{address} has release {release[:SHORT]} already")
    return release, version


def _find_who(git: Git) -> Identity:
    if not git.knows_user:
        raise MlspecError(
            "Git does not know who you are, and an approval is somebody's",
            hint="git config user.email NAME@HOST, and user.name",
        )
    return git.user


def _check_demands(project: Project, resource: DeploymentResource, who: Identity) -> None:
    for demand, whose in demands_on(project.facts, resource):
        if demand.approvals and not may_approve(demand, who.email):
            raise MlspecError(
                f"{who.email} is not among who may approve for {resource.target}{whose}",
                hint=f"these may: {', '.join(sorted(demand.approvers))} (policy.approvers)",
            )


def _approvals(
    recorded: Recorded, resource: DeploymentResource, release: str
) -> tuple[Approval, ...]:
    return recorded.approvals(resource.address, release)


def _approval(
    project: Project,
    resource: DeploymentResource,
    release: str,
    version: Version,
    who: Identity,
    message: str,
) -> Approval:
    makers = _makers(project.git, version.commit, tuple(project.loaded.files))
    return Approval(
        deployment=resource.name,
        target=resource.target,
        release=release,
        model=version.model,
        version=version.number,
        by=who.email,
        name=who.name,
        when=iso_time(time.time()),
        commit=project.git.head(),
        message=message,
        own=who.email.lower() in makers,
    )


def _makers(git: Git, commit: str, spec: tuple[str, ...]) -> set[str]:
    """Who wrote the commit that the version was trained from, and the last change of the spec."""
    found = set()
    for about in ((commit or "HEAD", "--"), ("--no-merges", "HEAD", "--", *spec)):
        done = git.call("log", "-1", "--format=%ae", *about)
        found.add(done.stdout.decode("utf-8", "replace").strip().lower())
    return found - {""}


def _as_dict(
    resource: DeploymentResource,
    release: str,
    version: Version,
    found: tuple[Approval, ...],
    lacking: list[str],
) -> dict[str, Any]:
    return {
        "deployment": resource.address,
        "release": release,
        "model": f"model.{version.model}",
        "version": version.number,
        "approvals": [each.model_dump(mode="json") for each in found],
        "lacking": lacking,
    }
