"""`mlspec rollback`: a commit that goes back to an earlier version and keeps the bad one away.

It changes the spec and nothing else, for what is desired is Git's to say: an apply of that commit
deploys the version that it pins, and runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.atomic import write_atomic
from mlspec.commands.deployment import find_deployment
from mlspec.errors import MlspecError
from mlspec.git.commit import changed_paths, commit_here, make_branch, make_commit
from mlspec.ledger.paths import deployment_address
from mlspec.ledger.records import Version
from mlspec.ledger.state import Recorded
from mlspec.planner.quarantine import why_quarantined
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource
from mlspec.spec.edit import append_item, flow, has, put_value
from mlspec.spec.models import Challenging, Quarantine


@dataclass(frozen=True, slots=True)
class RollbackOptions:
    """What a user asks for: `to` is a version, else the newest good one before what serves."""

    to: int | None
    reason: str
    here: bool
    commit: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class _Change:
    """What the spec has to say: the version to serve, and the one to keep away.

    `quarantine` is none if the spec quarantines that version already.
    """

    resource: DeploymentResource
    good: Version
    bad: Version
    quarantine: dict[str, int | str] | None

    @property
    def title(self) -> str:
        return f"Roll {self.resource.address} back to version {self.good.number}"

    @property
    def branch(self) -> str:
        name, target = self.resource.name, self.resource.target
        return f"mlspec/rollback-{name}-{target}-{self.good.number}"

    @property
    def by_hand(self) -> str:
        """The change in words, for where it cannot be made."""
        model, name = self.resource.deployment.model, self.resource.name
        said = f"in deployments.{name} `pin: {{{self.resource.target}: {self.good.number}}}`"
        if self.quarantine is not None:
            said += f", in models.{model} `quarantine: [{flow(self.quarantine)}]`"
            said += " (of a matrix: in its `overrides`, below the name of the member)"
        return said


def rollback(start: Path, console: Console, name: str, options: RollbackOptions) -> int:
    """Prepare the commit: on a branch of its own if there is a remote to share it by, else here."""
    if not options.reason.isprintable():
        raise MlspecError("the reason holds characters that do not show", hint="write one line")
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        recorded = project.recorded()
        change = _find_change(project, recorded, name, options)
        files = _edit(project, change)
        _check_untouched(project, tuple(files))
        made = _carry_out(project, change, files, options)
    if options.as_json:
        console.say_json(_as_dict(change, tuple(files), made))
        return 0
    _tell(console, change, tuple(files), made)
    for other in _served_elsewhere(project, recorded, change):
        console.note(
            f"{escape(other)} serves version {change.bad.number} as well: "
            f"`mlspec rollback {escape(other)}`."
        )
    return 0


def _find_change(
    project: Project, recorded: Recorded, name: str, options: RollbackOptions
) -> _Change:
    resource = find_deployment(project, name)
    model = resource.deployment.model
    if isinstance(resource.deployment, Challenging):
        champion = resource.deployment.champion
        raise MlspecError(
            f"{resource.address} is that of a challenger, which nobody pins",
            hint=f"write the version in deployments.{champion}: `challenger: {{version: N}}`",
        )
    serving = recorded.deployed(resource.address)
    if serving is None or serving.status == "refused" or serving.model != model:
        raise MlspecError(
            f"{resource.address} serves no version of model.{model}, so there is none to leave",
            hint="`mlspec status` tells what is served",
        )
    bad = recorded.version(model, serving.version)
    if bad is None:
        raise MlspecError(
            f"the ledger names version {serving.version} of model.{model} and does not have it",
            hint="fetch the ledger from the remote that has it",
        )
    quarantine = project.loaded.spec.models[model].quarantine
    known = any(entry.version == bad.number for entry in quarantine)
    reason = options.reason or f"rolled back on {resource.target}"
    entry = Quarantine(version=bad.number, reason=reason)
    good = _find_good(recorded, resource, bad, (*quarantine, entry), options.to)
    if known and resource.pinned == good.number:
        raise MlspecError(
            f"the spec pins {resource.address} to version {good.number} already",
            hint="`mlspec apply` deploys it",
        )
    return _Change(resource, good, bad, None if known else entry.model_dump())


def _find_good(
    recorded: Recorded,
    resource: DeploymentResource,
    bad: Version,
    quarantine: Sequence[Quarantine],
    to: int | None,
) -> Version:
    """The version to go back to: the one that is asked for, or else the newest that will do."""
    model = resource.deployment.model
    if to is not None:
        found = recorded.version(model, to)
        if found is None or to >= bad.number:
            raise MlspecError(
                f"model.{model} has no version {to} before version {bad.number}, which serves now",
                hint=f"`mlspec show model.{model}` lists its versions",
            )
        if why := why_quarantined(recorded, model, found, quarantine):
            raise MlspecError(why, hint="take it out of `quarantine`, or go back to another one")
        if found.artifact is None:
            raise MlspecError(f"version {to} of model.{model} has no artifact to serve")
        if found.freed:
            raise MlspecError(
                f"version {to} of model.{model} has no files any more: `mlspec gc` removed them",
                hint=f"go back to another one, or `git revert` to what version {to} was made of: "
                "an apply trains it again",
            )
        return found
    for number in range(bad.number - 1, 0, -1):
        found = recorded.version(model, number)
        if found is None or found.artifact is None or found.freed:
            continue
        candidate = recorded.candidate(model, found.fingerprint)
        accepted = candidate is not None and candidate.status == "accepted"
        if accepted and not why_quarantined(recorded, model, found, quarantine):
            return found
    raise MlspecError(
        f"model.{model} has no accepted version before version {bad.number}, which serves now",
        hint="`--to N` goes back to one that gates of now would not let through",
    )


def _edit(project: Project, change: _Change) -> dict[str, str]:
    """The new texts of the files that declare the deployment and the model, by path."""
    resource, target = change.resource, change.resource.target
    where = ("deployments", resource.name)
    texts: dict[str, str] = {}
    file, text = _declares(project, change, texts, where)
    _take(texts, file, put_value(text, (*where, "pin"), target, change.good.number), change)
    if change.quarantine is not None:
        where = ("models", resource.deployment.model)
        file, text = _declares(project, change, texts, where)
        made = append_item(text, (*where, "quarantine"), change.quarantine)
        _take(texts, file, made, change)
    return texts


def _declares(
    project: Project, change: _Change, texts: dict[str, str], where: tuple[str, str]
) -> tuple[str, str]:
    """The file that declares what is at `where`, and its text as edited so far."""
    place = project.loaded.place(where)
    if place is not None and not (project.root / place.path).is_symlink():
        text = texts.get(place.path) or (project.root / place.path).read_bytes().decode()
        if has(text, where):
            return place.path, text
    raise MlspecError(
        f"{'.'.join(where)} is not written out in a file of the spec, so nothing was edited",
        hint=f"write it by hand: {change.by_hand}",
    )


def _take(texts: dict[str, str], file: str, made: str | None, change: _Change) -> None:
    if made is None:
        raise MlspecError(
            f"{file} is written in a way that is not safe to edit",
            hint=f"write it by hand: {change.by_hand}",
        )
    texts[file] = made


def _check_untouched(project: Project, paths: tuple[str, ...]) -> None:
    if not project.git.head():
        raise MlspecError("there is no commit yet", hint="commit the spec first")
    if changed := changed_paths(project.git, paths):
        raise MlspecError(
            f"{', '.join(changed)} has changes that are not committed",
            hint="commit them or put them away (git stash), so that the rollback is a commit of "
            "its own",
        )


@dataclass(frozen=True, slots=True)
class _Made:
    """The commit, the branch that has it, and the remote that was given that branch."""

    commit: str = ""
    branch: str = ""
    remote: str = ""


def _carry_out(
    project: Project, change: _Change, files: dict[str, str], options: RollbackOptions
) -> _Made:
    git = project.git
    message = f"{change.title}\n"
    if change.quarantine is not None:
        message += f"\nVersion {change.bad.number}: {change.quarantine['reason']}\n"
    if git.remote and options.commit and not options.here:
        encoded = {path: text.encode() for path, text in files.items()}
        commit = make_commit(git, encoded, message)
        make_branch(git, change.branch, commit, git.remote)
        return _Made(commit, change.branch, git.remote)
    before = {path: (project.root / path).read_bytes().decode() for path in files}
    _write(project, files)
    if not options.commit:
        return _Made()
    try:
        return _Made(commit_here(git, tuple(files), message), git.branch())
    except MlspecError:
        _write(project, before)
        raise


def _write(project: Project, files: dict[str, str]) -> None:
    for path, text in files.items():
        file = project.root / path
        write_atomic(file, text, mode=file.stat().st_mode & 0o777)


def _served_elsewhere(project: Project, recorded: Recorded, change: _Change) -> list[str]:
    """Other deployments of the version that is left, which no pin takes back."""
    model, bad = change.resource.deployment.model, change.bad.number
    found = []
    for name, deployment in project.resolver.deployed.get(model, {}).items():
        for target in deployment.targets:
            address = deployment_address(name, target)
            serving = recorded.deployed(address)
            if address != change.resource.address and serving is not None:
                still = (serving.model, serving.version) == (model, bad)
                if still and serving.status != "refused" and target not in deployment.pin:
                    found.append(address)
    return found


def _as_dict(change: _Change, files: tuple[str, ...], made: _Made) -> dict[str, Any]:
    return {
        "deployment": change.resource.address,
        "model": f"model.{change.resource.deployment.model}",
        "from": change.bad.number,
        "to": change.good.number,
        "quarantine": change.quarantine,
        "files": sorted(files),
        "commit": made.commit,
        "branch": made.branch,
        "remote": made.remote,
    }


def _tell(console: Console, change: _Change, files: tuple[str, ...], made: _Made) -> None:
    away = f", version {change.bad.number} quarantined" if change.quarantine else ""
    where = escape(", ".join(sorted(files)))
    console.say(f"{change.resource.address}: version {change.good.number} pinned{away} ({where}).")
    then = f"`mlspec apply` deploys version {change.good.number}"
    if made.remote:
        branch, remote = escape(made.branch), escape(made.remote)
        console.say(f"Committed {made.commit[:9]} on the new branch {branch}, pushed to {remote}.")
        console.say(f"Nothing changed here. Once it is merged, {then}.")
    elif made.commit:
        branch = f" on {escape(made.branch)}" if made.branch else ""
        console.say(f"Committed {made.commit[:9]}{branch}; {then}.")
    else:
        console.say(f"Not committed; {then}.")
