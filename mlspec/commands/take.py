"""`mlspec drift --adopt`: take what is live into the spec, as a patch to it.

Each edit is tried in memory first: the spec must load, and must come to what is live. What has no
place in the spec, or stands where an edit is not safe, is told, with what to write.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlspec.atomic import write_atomic
from mlspec.errors import MlspecError, SpecError
from mlspec.fingerprint import release_digest
from mlspec.planner.drift import Drift, Mend, Reading
from mlspec.planner.intake import Edit, Intake, Kind, left_over, take_file, take_release
from mlspec.planner.quarantine import why_quarantined
from mlspec.planner.serving import choose_served
from mlspec.providers.files import write_files
from mlspec.providers.target import Release
from mlspec.providers.targets import target_of
from mlspec.reconcile import Project
from mlspec.render.alike import counted
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource, Desired, FileResource
from mlspec.spec.edit import append_item, drop_item, drop_value, has, put_value

_NO_VALUE = {
    Reading.RECORD: "what ran is not for the spec to say",
    Reading.OUTPUTS: "what a command wrote is not for the spec to say",
    Reading.SERVICE: "nothing serves there that could be taken",
    Reading.FILES: "what is gone has no value that could be taken",
}
_NO_END = "\\ No newline at end of file\n"


@dataclass(slots=True)
class _Take:
    """One drift, the edits that take it in, and in words what stays out."""

    drift: Drift
    edits: list[Edit] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)
    release: Release | None = None

    @property
    def whole(self) -> bool:
        return bool(self.edits) and not self.left


@dataclass(slots=True)
class Patch:
    """What the files of the spec said and will say, by path, and what comes of each drift."""

    takes: list[_Take]
    before: dict[str, str] = field(default_factory=dict)
    after: dict[str, str] = field(default_factory=dict)
    generated: dict[str, str] = field(default_factory=dict)
    """Generated files that say all of it, as the spec compiles to them then."""

    @property
    def text(self) -> str:
        lines: list[str] = []
        for path in sorted(self.after):
            old, new = (side[path].splitlines(keepends=True) for side in (self.before, self.after))
            diff = difflib.unified_diff(old, new, f"a/{path}", f"b/{path}")
            lines += (each if each.endswith("\n") else f"{each}\n{_NO_END}" for each in diff)
        return "".join(lines)

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return all(take.whole for take in self.takes)


def make_patch(project: Project, found: Sequence[Drift]) -> Patch:
    """The edits of the spec that take in what has a place in it; changes nothing."""
    takes = [_find_take(project, drift) for drift in found]
    patch = Patch(takes)
    wanting = [take for take in takes if take.edits]
    together = _add(project, patch, wanting) is None
    for take in () if together else wanting:
        if take.edits and (why := _add(project, patch, [take])) is not None:
            _refuse(take, why)
    return patch


def write_patch(project: Project, patch: Patch) -> None:
    """Edit the spec, and bring those generated files into form that say the same as it then."""
    for path, text in patch.after.items():
        file = project.root / path
        write_atomic(file, text, mode=file.stat().st_mode & 0o777)
    write_files(project.root, patch.generated)


def tell_patch(console: Console, patch: Patch) -> None:
    """What is taken from where to where, what is left, and the patch."""
    for take in patch.takes:
        console.say(console.style.paint(escape(take.drift.address), "bold"))
        for edit in take.edits:
            console.say(f"  take: {escape(edit.told)}  ({escape(take.places[edit.told])})")
        for why in take.left:
            console.say(f"  left: {escape(why)}")
        if take.left:
            console.say(f"      {take.drift.mend.value}: {escape(take.drift.command)}")
    if patch.after:
        console.say("\n" + "\n".join(map(escape, patch.text.splitlines())))


def patch_as_dict(patch: Patch, *, written: bool) -> dict[str, Any]:
    """The patch for machines."""
    taken = [
        {"address": take.drift.address, "kind": edit.kind.value, "path": ".".join(edit.path)}
        | {"value": edit.value, "place": take.places[edit.told]}
        for take in patch.takes
        for edit in take.edits
    ]
    left = [{"address": t.drift.address, "reason": why} for t in patch.takes for why in t.left]
    return {"taken": taken, "left": left, "patch": patch.text, "written": written}


def told_count(patch: Patch) -> str:
    """How much of it is taken."""
    taken = sum(len(take.edits) for take in patch.takes)
    left = sum(len(take.left) for take in patch.takes)
    return counted(taken, "value") + (f", {left} left" if left else "")


# What is live -------------------------------------------------------------------------------------


def _find_take(project: Project, drift: Drift) -> _Take:
    take = _Take(drift)
    intake = Intake()
    if drift.reading is Reading.FILES and drift.mend is Mend.REGENERATE:
        intake = _intake_of_file(project, drift, project.facts.desired)
    elif drift.mend is Mend.REDEPLOY:
        intake = _intake_of_release(project, take, project.facts.desired)
    elif drift.mend is Mend.REMOVE:
        name, _, target = drift.address.removeprefix("deployment.").partition("@")
        intake.misfits.append(
            f"to keep it, write `deployments.{name}: {{model: ..., targets: [{target}]}}`"
        )
    take.edits, take.left = intake.edits, intake.misfits
    if not take.edits and not take.left:
        take.left.append(_NO_VALUE[drift.reading])
    return take


def _intake_of_file(project: Project, drift: Drift, desired: Desired) -> Intake:
    path = drift.address.removeprefix("file.")
    seen = project.facts.observed.files.get(path)
    resource = desired.resources.get(drift.address)
    if seen is None or not isinstance(resource, FileResource):
        return Intake()
    spec = desired.spec
    intake = take_file(path, resource.generated.text, seen.text, spec.models, spec.datasets)
    if not intake.edits and not intake.misfits:
        intake.misfits.append("it says the same, in another form")
    return intake


def _intake_of_release(project: Project, take: _Take, desired: Desired) -> Intake:
    """What serves has of its own; the spec with the edits must come to this very release."""
    resource = desired.get(DeploymentResource, take.drift.address)
    release = take.release or target_of(project.root, resource).release(resource.name)
    if release is None:
        return Intake()
    take.release = release
    model = resource.deployment.model
    recorded = project.facts.recorded
    version = recorded.version(model, release.version) if release.model == model else None
    if version is None or version.artifact is None:
        name = f"version {release.version} of model.{release.model}"
        return Intake(misfits=[f"it serves {name}, which is no version of model.{model} here"])
    quarantine = desired.spec.models[model].quarantine
    if why := why_quarantined(recorded, model, version, quarantine):
        return Intake(misfits=[f"it serves what must not be: {why}"])
    if not release.settings:
        return Intake(misfits=["an earlier mlspec made it, which did not keep its settings"])
    settled = project.facts.versions.get(resource.address)
    wanted = resource.pinned or (settled.number if settled else None)
    intake = take_release(resource, wanted, release.version, release.settings)
    if not intake.edits:
        served = choose_served(resource, version)
        same = (served.texts, release.settings, served.file.md5, version.number)
        if release_digest(*same) != release.digest:
            intake.misfits.append(
                "its generated service has another text than the spec compiles to"
            )
    return intake


# The edits ----------------------------------------------------------------------------------------


def _add(project: Project, patch: Patch, takes: Sequence[_Take]) -> str | None:
    """Add the edits of some drifts to the patch; nothing if together they are not right, and why.

    Those that are not safe stay out for good.
    """
    before, after = dict(patch.before), dict(patch.after)
    for take in takes:
        for edit in tuple(take.edits):
            made = _edited(project, before, after, edit)
            if made is None:
                take.edits.remove(edit)
                take.left.append(f"not safe to edit; write by hand: {edit.told}{_where(edit)}")
                continue
            take.places[edit.told] = made
    if not any(take.edits for take in takes):
        return None
    changed = {path: text.encode() for path, text in after.items() if text != before[path]}
    try:
        desired = project.desired_as(changed)
    except SpecError as error:
        return f"then the spec has problems: {error.diagnostics[0].message}"
    except MlspecError as error:
        return error.message
    for take in takes:
        if take.edits and (still := left_over(take.edits, _again(project, take, desired))):
            return f"the spec would still say otherwise: {still[0].told}"
    patch.before, patch.after = before, after
    for take in takes:
        resource = desired.resources.get(take.drift.address)
        if take.whole and isinstance(resource, FileResource):
            patch.generated[resource.generated.path] = resource.generated.text
    return None


def _again(project: Project, take: _Take, desired: Desired) -> Intake:
    if take.drift.reading is Reading.FILES:
        return _intake_of_file(project, take.drift, desired)
    intake = _intake_of_release(project, take, desired)
    take.left += [why for why in intake.misfits if why not in take.left]
    return intake


def _edited(
    project: Project, before: dict[str, str], after: dict[str, str], edit: Edit
) -> str | None:
    """Make one edit; the file and line of what it is about, or none where it is not safe."""
    where = edit.path[:2]
    declared = project.loaded.place(where)
    if declared is None or (project.root / declared.path).is_symlink():
        return None
    path = declared.path
    text = after.get(path)
    if text is None:
        text = (project.root / path).read_bytes().decode()
    made = _with(text, edit) if has(text, where) else None
    if made is None:
        return None
    before.setdefault(path, text)
    after[path] = made
    place = project.loaded.place(edit.path) or declared
    return f"{place.path}:{place.line}"


def _with(text: str, edit: Edit) -> str | None:
    *inner, key = edit.path
    match edit.kind:
        case Kind.SET:
            return put_value(text, inner, key, edit.value)
        case Kind.DROP:
            return drop_value(text, inner, key)
        case Kind.ADD:
            return append_item(text, edit.path, edit.value)
        case Kind.REMOVE:
            return drop_item(text, edit.path, edit.value)


def _where(edit: Edit) -> str:
    family = edit.path[0] == "models"
    return " (of a matrix: in its `overrides`, below the name of the member)" if family else ""


def _refuse(take: _Take, why: str) -> None:
    take.left += [f"{why}; write by hand: {edit.told}" for edit in take.edits]
    take.edits.clear()


def shared_by(patch: Patch, deployments: Mapping[str, Any]) -> list[str]:
    """Deployments on several targets whose edits are for all of these."""
    names = {
        edit.path[1]
        for take in patch.takes
        for edit in take.edits
        if edit.path[0] == "deployments" and edit.path[2] in ("auth", "capture", "resources")
    }
    return sorted(name for name in names if len(deployments[name].targets) > 1)
