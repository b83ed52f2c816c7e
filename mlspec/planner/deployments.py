"""Steps for deployments: serve the accepted version, mend drift, go back when the spec does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.errors import MlspecError
from mlspec.fingerprint import release_digest, trial_digest
from mlspec.ledger.records import Deployed, Policy, Version
from mlspec.plan import Action, Consequence, FieldChange, Step
from mlspec.planner.approvals import needs_approval, policy_of, why_not_approved
from mlspec.planner.batch import input_of, other_input, settings_of
from mlspec.planner.challengers import why_not_beside
from mlspec.planner.facts import Facts, Outlook, Recorded
from mlspec.planner.quarantine import why_quarantined
from mlspec.planner.serving import Served, choose_served, find_unknown
from mlspec.resources import Dependency, DeploymentResource, StageResource
from mlspec.spec.models import Challenging, challenger_name
from mlspec.spec.moves import renames_of


def plan_deployment(facts: Facts, resource: DeploymentResource) -> None:
    """Compare the release that is desired with what is recorded and what runs."""
    model = resource.deployment.model
    outlook = facts.outlooks.get(model) or Outlook(facts.settled.versions.get(model))
    recorded = facts.recorded.deployed(resource.address)
    pinned = resource.pinned
    if pinned is not None:
        _plan_pinned(facts, resource, outlook, recorded, pinned)
        return
    if outlook.pending is not None and not _serves(recorded, resource, outlook):
        _plan_pending(facts, resource, outlook, recorded)
        return
    number = outlook.version or _kept(recorded, resource)
    if number is None:
        facts.hold(resource.address, "its model has no accepted version")
        return
    version = facts.recorded.version(resource.deployment.model, number)
    if version is None or version.artifact is None:
        facts.refusal = MlspecError(
            f"the ledger names version {number} of model.{resource.deployment.model} "
            "and does not have it",
            hint="fetch the ledger from the remote that has it",
        )
        return
    if outlook.version is None and (why := _quarantined(facts, model, version)) is not None:
        again = f"`mlspec rollback {resource.address}` pins an earlier version"
        facts.hold(resource.address, f"it serves what is quarantined ({why}); {again}")
        return
    _plan_version(facts, resource, recorded, version)


def _is_served(recorded: Deployed | None, version: Version) -> bool:
    if recorded is None or recorded.status == "refused":
        return False
    return (recorded.model, recorded.version) == (version.model, version.number)


def _quarantined(facts: Facts, model: str, version: Version) -> str | None:
    quarantine = facts.desired.spec.models[model].quarantine
    return why_quarantined(facts.recorded, model, version, quarantine)


def _plan_pinned(
    facts: Facts,
    resource: DeploymentResource,
    outlook: Outlook,
    recorded: Deployed | None,
    number: int,
) -> None:
    """Serve the version that the spec pins, whatever its model has by now or will have."""
    model = resource.deployment.model
    artifact = facts.desired.spec.models[model].artifact
    version = facts.recorded.version(model, number)
    said = f"the spec pins version {number}"
    if version is None:
        facts.hold(resource.address, f"{said}, which its model does not have")
        return
    if version.artifact is None:
        facts.hold(resource.address, f"{said}, which has no artifact to serve")
        return
    if version.freed and not _is_served(recorded, version):
        facts.hold(resource.address, f"{said}, whose files `mlspec gc` removed")
        return
    if artifact is not None and version.artifact.format != artifact.format:
        formats = f"{version.artifact.format}, not {artifact.format}"
        facts.hold(resource.address, f"{said}, whose artifact is {formats} as the spec says")
        return
    if (why := _quarantined(facts, model, version)) is not None:
        facts.hold(resource.address, f"{said}; {why}")
        return
    _plan_version(facts, resource, recorded, version)
    if resource.address in facts.steps or resource.address in facts.held:
        return
    if outlook.pending is not None:
        facts.hold(resource.address, f"{said}; what {outlook.pending} registers has to wait")
    elif outlook.version not in (None, number):
        facts.hold(resource.address, f"{said}; version {outlook.version}, accepted, has to wait")


def _plan_version(
    facts: Facts, resource: DeploymentResource, recorded: Deployed | None, version: Version
) -> None:
    """Compare the release of a version with what is recorded and what runs."""
    assert version.artifact is not None
    number = version.number
    served = choose_served(resource, version)
    facts.versions[resource.address] = version
    if resource.reads is not None and input_of(facts, resource) is None:
        _plan_unread(facts, resource, resource.reads, version)
        return
    settings = settings_of(facts, resource)
    release = release_digest(served.texts, settings, served.file.md5, number)
    facts.fingerprints[resource.address] = release
    sensitive = facts.desired.spec.models[resource.deployment.model].sensitive
    if resource.pinned is None and (unknown := find_unknown(sensitive, served.signature)):
        name, hint = unknown
        said = f"`sensitive` of model.{resource.deployment.model} names {name}"
        facts.hold(resource.address, f"{said}, and version {number} has no such column: {hint}")
    elif (unlike := why_not_beside(facts, resource, version)) is not None:
        facts.hold(resource.address, unlike)
    elif recorded is not None and recorded.status != "refused" and recorded.release == release:
        _plan_drift(facts, resource, recorded)
    elif (why := _why_refused(resource, recorded, release)) is not None:
        facts.hold(resource.address, f"this release was refused: {why}")
    elif (earlier := _not_yet_on(facts, resource, version)) is not None:
        facts.hold(resource.address, f"{earlier} does not serve version {number}, and comes first")
    elif (lacking := why_not_approved(facts, resource, release, number)) is not None:
        facts.hold(resource.address, lacking)
    elif recorded is None or recorded.status == "refused":
        pins = resource.pinned is not None
        reason = (
            f"the spec pins version {number}" if pins else f"version {number} is not deployed yet"
        )
        _add(facts, resource, Action.DEPLOY, f"{reason}{_as(served)}", ())
    else:
        _plan_change(facts, resource, recorded, version)


def _plan_unread(
    facts: Facts, resource: DeploymentResource, reads: Dependency, version: Version
) -> None:
    """Score what a step before this one brings."""
    assert reads.producer is not None
    if reads.producer not in facts.steps:
        facts.hold(resource.address, f"{reads.producer}, which it scores, is not known")
    elif (earlier := _not_yet_on(facts, resource, version)) is not None:
        facts.hold(resource.address, f"{earlier} does not serve that version, and comes first")
    elif needs_approval(facts, resource):
        reason = f"what comes of {reads.producer} has to be approved before it is scored"
        facts.hold(resource.address, reason)
    else:
        reason = f"what {reads.producer} brings is not scored yet"
        _add(facts, resource, Action.DEPLOY, reason, (), certain=False)


def _why_refused(
    resource: DeploymentResource, recorded: Deployed | None, release: str
) -> str | None:
    if recorded is None:
        return None
    return recorded.why_refused(trial_digest(release, resource.smoke, resource.terms))


def plan_departures(facts: Facts, models: Iterable[str]) -> None:
    """Deployments that the ledger has and the spec has no more, and likewise of `models`."""
    known = facts.recorded.deployments()
    for address in sorted({*known, *facts.observed.deployments}):
        if address in facts.desired.resources or address in facts.recorded.moving:
            continue
        if _is_removed(facts, address):
            if address in known:
                _forget(facts, address, "`removed` names it; what runs goes on")
            continue
        if address in known:
            _delete(facts, address, Consequence.REDEPLOY, "it left the spec")
            continue
        reason = "drift: it runs here, and neither the spec nor the ledger names it"
        stray = FieldChange("running", None, None, facts.observed.deployments[address].running)
        _delete(facts, address, Consequence.REDEPLOY, reason, (stray,))
    states = {
        name: facts.recorded.model_state(name)
        for name in sorted(set(models).difference(facts.desired.spec.models))
    }
    gone = [name for name, state in states.items() if state and not state.retired]
    if gone:
        ties = _Ties.of(facts)
        for name in gone:
            _plan_departure(facts, f"model.{name}", ties)


@dataclass(frozen=True, slots=True)
class _Ties:
    """By path, who reads it though nobody makes it, and the model without a history that does."""

    readers: Mapping[str, list[str]]
    makers: Mapping[str, str]

    @classmethod
    def of(cls, facts: Facts) -> _Ties:
        readers: dict[str, list[str]] = {}
        makers: dict[str, str] = {}
        for stage in facts.desired.of(StageResource):
            for each in stage.dependencies:
                if each.producer is None:
                    readers.setdefault(each.path, []).append(stage.address)
            if facts.recorded.model_state(stage.model) is None:
                makers |= dict.fromkeys(stage.writes, f"model.{stage.model}")
        return cls(readers, makers)


def _plan_departure(facts: Facts, address: str, ties: _Ties) -> None:
    if _is_removed(facts, address):
        _forget(
            facts, address, "`removed` names it; its versions and data are kept until `mlspec gc`"
        )
        return
    reason = "it left the spec; its versions and data are kept until `mlspec gc`"
    made = outputs_left(facts, address.removeprefix("model."))
    if readers := sorted({reader for path in made for reader in ties.readers.get(path, ())}):
        reason += f"; what it made is still read by {', '.join(readers)}"
    now = renames_of(facts.desired.spec.moved).now.get(address)
    if now is not None:
        reason += f"; {now} has a history of its own, so it is not moved there"
    elif heirs := sorted({ties.makers[path] for path in made & ties.makers.keys()}):
        reason += f"; {heirs[0]} writes the same: if that is its new name, say so under `moved`"
    _delete(facts, address, Consequence.NONE, reason)


def outputs_left(facts: Facts, name: str) -> set[str]:
    """The paths that the last runs of the model `name` wrote."""
    state = facts.recorded.model_state(name)
    runs = (facts.recorded.run(name, *last) for last in state.runs.items()) if state else ()
    return {out["path"] for run in runs if run is not None for out in run.entry.get("outs", ())}


def _is_removed(facts: Facts, address: str) -> bool:
    """Whether what left the spec is only to be forgotten."""
    return not {address, address.partition("@")[0]}.isdisjoint(facts.desired.spec.removed)


def _forget(facts: Facts, address: str, reason: str) -> None:
    facts.add(Step(address, Action.FORGET, Consequence.NONE, reason))


def plan_policy(facts: Facts) -> None:
    """Have the ledger remember what is protected, and what has to be approved."""
    recorded, wanted = facts.recorded.policy(), facts.desired.spec.policy.protect
    known = recorded.protect if recorded else ()
    changes = [] if known == wanted else [FieldChange("protect", list(known), list(wanted))]
    asked, approved = policy_of(facts.desired.spec), recorded or Policy()
    for name in ("approvals", "approvers"):
        was, now = dict(getattr(approved, name)), dict(getattr(asked, name))
        if was != now:
            changes.append(FieldChange(name, _listed(was), _listed(now)))
    if changes:
        reason = "what is protected changed" if known != wanted else "who has to approve changed"
        facts.add(
            Step("policy.protect", Action.UPDATE, Consequence.NONE, reason, changes=tuple(changes))
        )


def _listed(by_target: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON has it."""
    return {
        name: list(each) if isinstance(each, tuple) else each for name, each in by_target.items()
    }


def plan_destruction(facts: Facts) -> None:
    """Delete every deployment that is recorded or runs here."""
    known = facts.recorded.deployments()
    for address in sorted({*known, *facts.observed.deployments}):
        if address in known or not _is_removed(facts, address):
            _delete(facts, address, Consequence.REDEPLOY, "asked for by destroy")


def _delete(
    facts: Facts,
    address: str,
    consequence: Consequence,
    reason: str,
    changes: tuple[FieldChange, ...] = (),
) -> None:
    """Nothing that is protected, by the spec or by the one that was applied before it."""
    policy = facts.recorded.policy()
    protected = {*facts.desired.spec.policy.protect, *(policy.protect if policy else ())}
    if protected & {address, address.partition("@")[0]}:
        facts.refusal = facts.refusal or MlspecError(
            f"{address} is protected, and this plan would delete it",
            hint="put it back into the spec; to delete it, take it out of policy.protect and apply "
            "that first",
        )
    name, _, target = address.removeprefix("deployment.").partition("@")
    after = facts.planned((f"deployment.{challenger_name(name)}@{target}",))
    facts.add(Step(address, Action.DELETE, consequence, reason, after=after, changes=changes))


def _kept(recorded: Deployed | None, resource: DeploymentResource) -> int | None:
    """The version that goes on serving while the model has no accepted one."""
    if recorded is None or recorded.status == "refused":
        return None
    return recorded.version if recorded.model == resource.deployment.model else None


def _not_yet_on(facts: Facts, resource: DeploymentResource, version: Version | None) -> str | None:
    """The target before this one, by address, that neither has the version nor will get it."""
    for address in _before(resource):
        pinned = facts.desired.get(DeploymentResource, address).pinned
        if pinned is not None and (version is None or version.number != pinned):
            return address
        if address in facts.steps:
            continue
        earlier = facts.recorded.deployed(address)
        if (
            address in facts.held
            or earlier is None
            or version is None
            or earlier.status == "refused"
        ):
            return address
        if (earlier.model, earlier.version) != (version.model, version.number):
            return address
    return None


def _read(resource: DeploymentResource) -> tuple[str, ...]:
    producer = resource.reads.producer if resource.reads is not None else None
    return () if producer is None else (producer,)


def _before(resource: DeploymentResource) -> tuple[str, ...]:
    """The targets that must be served first; to go back to a pinned version none is waited for."""
    return resource.after if resource.pinned is None else ()


def _serves(recorded: Deployed | None, resource: DeploymentResource, outlook: Outlook) -> bool:
    """Whether it has the very version that is judged anew: it keeps that, whatever the verdict."""
    return (
        recorded is not None
        and recorded.status != "refused"
        and (recorded.model, recorded.version) == (resource.deployment.model, outlook.version)
    )


def _plan_pending(
    facts: Facts, resource: DeploymentResource, outlook: Outlook, recorded: Deployed | None
) -> None:
    if recorded is not None and recorded.status == "stopped":
        facts.hold(resource.address, "it was stopped; `mlspec start` serves it again")
        return
    # of one that is only judged anew, an earlier target may have it
    known = facts.recorded.version(resource.deployment.model, outlook.version or 0)
    if (earlier := _not_yet_on(facts, resource, known)) is not None:
        facts.hold(resource.address, f"{earlier} does not get the new version, and comes first")
        return
    assert outlook.pending is not None
    if needs_approval(facts, resource):
        facts.hold(
            resource.address,
            f"what {outlook.pending} registers has to be approved before it is deployed",
        )
        return
    reason = f"the version that {outlook.pending} registers"
    reason += _how(resource, recorded)
    _add(
        facts,
        resource,
        Action.DEPLOY,
        reason,
        (),
        after=(outlook.pending,),
        certain=outlook.certain,
    )


def _plan_change(
    facts: Facts, resource: DeploymentResource, recorded: Deployed, version: Version
) -> None:
    if recorded.status == "stopped":
        facts.hold(resource.address, "it was stopped; `mlspec start` serves it again")
        return
    if recorded.version == version.number and recorded.model == version.model:
        release = facts.fingerprints[resource.address]
        change = FieldChange("release", recorded.release[:12], release[:12])
        changes = (change, *_moved_settings(recorded, resource))
        reason = f"its service or resources changed{_how(resource, recorded)}"
        if read := tuple(other_input(facts, resource, recorded)):
            assert resource.reads is not None
            reason, changes = f"{resource.reads.path} changed", (*read, *changes)
        reason += _as(choose_served(resource, version))
        _add(facts, resource, Action.DEPLOY, reason, changes)
        return
    back = recorded.model == version.model and version.number < recorded.version
    if recorded.model != version.model:
        reason = f"its model is {version.model}, not {recorded.model}"
    elif resource.pinned is not None:
        reason = f"the spec pins version {version.number}"
    elif back:
        reason = f"spec, code and data are those of version {version.number} again"
    else:
        reason = f"version {version.number} is accepted"
    if not back:
        reason += _how(resource, recorded)
    reason += _as(choose_served(resource, version))
    _add(
        facts,
        resource,
        Action.ROLLBACK if back else Action.DEPLOY,
        reason,
        (
            FieldChange("version", recorded.version, version.number),
            *_other_image(facts, resource, recorded, version),
        ),
        consequence=_interface(facts, recorded, version),
    )


def judged_image(recorded: Recorded, resource: DeploymentResource, version: Version) -> str:
    """The image that the nearest target before has of this version; none if none has any."""
    for address in resource.after:
        earlier = recorded.deployed(address)
        if earlier is not None and earlier.status != "refused" and earlier.image:
            same = (earlier.model, earlier.version) == (version.model, version.number)
            return earlier.image if same else ""
    return ""


def _other_image(
    facts: Facts, resource: DeploymentResource, recorded: Deployed, version: Version
) -> Iterator[FieldChange]:
    """The image that comes, where it is known before it is there."""
    now = judged_image(facts.recorded, resource, version)
    if now and now != recorded.image:
        yield FieldChange("image", recorded.image or None, now)


def _moved_settings(recorded: Deployed, resource: DeploymentResource) -> Iterator[FieldChange]:
    """What the spec says otherwise for a target beside this machine, by the key that says it."""
    if recorded.where is None or resource.where is None:
        return
    for prefix in ("target", "resources"):
        was = recorded.where.get(prefix, recorded.where)
        wanted = resource.where.get(prefix, resource.where)
        for key in sorted(was.keys() | wanted.keys()):
            before, now = was.get(key), wanted.get(key)
            if before != now and key != "resources":
                yield FieldChange(f"{prefix}.{key}", before, now)


def _how(resource: DeploymentResource, recorded: Deployed | None) -> str:
    """How a release takes over from one that serves, if not at once."""
    if resource.deployment.rollout is None or recorded is None or recorded.status != "serving":
        return ""
    return f"; {resource.deployment.rollout}"


def _as(served: Served) -> str:
    """As what it is served, where there is a choice."""
    return f"; {served.said}" if served.said else ""


def _interface(facts: Facts, recorded: Deployed, version: Version) -> Consequence:
    serving = facts.recorded.version(recorded.model, recorded.version)
    same = serving is None or serving.signature == version.signature
    return Consequence.REDEPLOY if same else Consequence.BREAKING


def _plan_drift(facts: Facts, resource: DeploymentResource, recorded: Deployed) -> None:
    """Only this machine's own deployments can be observed; others are as recorded."""
    if not recorded.is_at(facts.observed.place) or recorded.status == "stopped":
        return
    seen = facts.observed.deployments.get(resource.address)
    if seen is not None and seen.unseen:
        facts.hold(resource.address, f"it cannot be looked at: {seen.unseen}")
    elif seen is not None and seen.differs:
        changes = tuple(FieldChange(name, was, was, now) for name, was, now in seen.differs)
        _add(facts, resource, Action.DEPLOY, "drift: it is not as it was deployed", changes)
    elif seen is None or not seen.running:
        change = FieldChange("running", True, True, False)
        _add(facts, resource, Action.DEPLOY, "drift: it is not running", (change,))
    elif seen.release != recorded.release:
        change = FieldChange(
            "release", recorded.release[:12], recorded.release[:12], (seen.release or "none")[:12]
        )
        _add(facts, resource, Action.DEPLOY, "drift: it serves another release", (change,))


def _add(
    facts: Facts,
    resource: DeploymentResource,
    action: Action,
    reason: str,
    changes: tuple[FieldChange, ...],
    *,
    after: tuple[str, ...] = (),
    certain: bool = True,
    consequence: Consequence = Consequence.REDEPLOY,
) -> None:
    if isinstance(resource.deployment, Challenging):
        reason += f"; it challenges deployment.{resource.deployment.champion}: "
        reason += str(resource.deployment.terms)
    beside = () if resource.champion is None else (resource.champion,)
    facts.add(
        Step(
            resource.address,
            action,
            consequence,
            reason,
            after=facts.planned(
                (*resource.files, *_read(resource), *_before(resource), *beside, *after)
            ),
            changes=changes,
            certain=certain,
        )
    )
