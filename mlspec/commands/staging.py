"""The release of a model for a look at it: no deployment of it is needed, and none is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlspec.compilers.bento import compile_bento
from mlspec.dvc.client import Dvc
from mlspec.errors import MlspecError
from mlspec.formats import inspect_declared
from mlspec.ledger.records import Conversion, Version
from mlspec.ledger.state import Recorded
from mlspec.planner.quarantine import why_quarantined
from mlspec.providers.artifacts import name_artifact
from mlspec.providers.local.release import stage_release
from mlspec.providers.target import Release
from mlspec.reconcile import Project
from mlspec.render.style import escape
from mlspec.render.waiting import waiting
from mlspec.spec.models import Deployment, Model, RequestLimits
from mlspec.spec.suggest import did_you_mean

NAME = "look"
"""What the service is called: a model's name may be none that a service can have."""
Runtime = Literal["asgi", "bentoml"]
QUICK: Runtime = "asgi"
"""The runtime that is built and started soonest."""
TO_LOOK = {
    "auth": None,
    "capture": None,
    "explain": None,
    "limits": RequestLimits(),
    "telemetry": None,
}
"""What a deployment asks of its clients, and keeps of them, is none of a look at the model."""
UNREGISTERED = 0
"""The version that the worktree's artifact answers as."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which artifact of a model: a version, or that in the worktree; by default the newest."""

    model: str
    version: int | None = None
    working_tree: bool = False


@dataclass(frozen=True, slots=True)
class Staged:
    """A release, and what it takes and gives."""

    release: Release
    signature: Mapping[str, Any]

    @property
    def title(self) -> str:
        """`version 3 of loans`, as for people."""
        name = escape(self.release.model)
        if self.release.version == UNREGISTERED:
            return f"the artifact of {name} in the worktree"
        return f"version {self.release.version} of {name}"


def stage_wanted(
    project: Project, wanted: Wanted, folder: Path, *, runtime: Runtime | None = None
) -> Staged:
    """Build the release in `folder`, with the service that a deployment of the model would have.

    `runtime` may be another than the deployment's: whatever runs it, the same code answers.
    Raises :class:`MlspecError` if there is no such model, version or artifact.
    """
    name, model = _find_model(project, wanted.model)
    recorded = project.recorded()
    description: dict[str, Any]
    converted = False
    if wanted.working_tree:
        artifact, description = _from_worktree(project, name, model)
    else:
        version = _find_version(recorded, name, model, wanted.version)
        converted = model.serve.runtime != "native" and _is_converted(version)
        artifact, description = _from_storage(project, version, folder, converted=converted)
    deployment = _deployment(project, name)
    if runtime is not None:
        deployment = deployment.model_copy(update={"runtime": runtime})
    pins = project.resolver.pins()
    files = compile_bento(NAME, deployment, name, model, pins, converted=converted)
    for file in files:
        path = folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    settings = {**deployment.resources.model_dump(mode="json"), "cpus": 1, "capture": None}
    settings["code"] = project.resolver.serving_code(model)
    with waiting(f"building the service of {escape(name)}"):
        release = stage_release(
            folder,
            (folder / files[0].path).parent,
            artifact,
            description,
            settings,
            0,
            names=tuple(file.path.rpartition("/")[2] for file in files),
            code_root=project.root,
            service=NAME,
        )
    return Staged(release, description["signature"])


def _find_model(project: Project, written: str) -> tuple[str, Model]:
    name = written.removeprefix("model.")
    models = project.loaded.spec.models
    if name not in models:
        raise MlspecError(
            f"{escape(name)} is not a model of the spec",
            hint=did_you_mean(name, models) or "`mlspec status --all` lists what there is",
        )
    model = models[name]
    if model.artifact is None:
        raise MlspecError(
            f"model.{name} has no artifact to serve",
            hint="give the model an `artifact: {path: ..., format: ...}`",
        )
    return name, model


def _deployment(project: Project, model: str) -> Deployment:
    """That of the spec, which says what the service does, else one with every default."""
    for deployment in project.loaded.spec.deployments.values():
        if deployment.model == model:
            return deployment.model_copy(update=TO_LOOK)
    return Deployment(model=model, targets=("here",), runtime=QUICK)


def _find_version(recorded: Recorded, name: str, model: Model, number: int | None) -> Version:
    versions = recorded.versions(name)
    if not versions:
        raise MlspecError(
            f"model.{name} has no registered version yet",
            hint="`mlspec apply` registers one; with --working-tree, the file in the worktree is "
            "taken as it is",
        )
    if number is None:
        version = _newest(recorded, name, model, versions)
    else:
        named = [version for version in versions if version.number == number]
        if not named:
            known = ", ".join(str(version.number) for version in versions)
            raise MlspecError(f"model.{name} has no version {number}", hint=f"there are: {known}")
        [version] = named
    if version.artifact is None or version.freed:
        why = "was removed by `mlspec gc`" if version.freed else "was never there"
        raise MlspecError(f"the artifact of version {version.number} of model.{name} {why}")
    if model.artifact is not None and version.artifact.format != model.artifact.format:
        raise MlspecError(
            f"the artifact of version {version.number} of model.{name} is "
            f"{version.artifact.format}, not {model.artifact.format} as the spec says"
        )
    return version


def _newest(recorded: Recorded, name: str, model: Model, versions: tuple[Version, ...]) -> Version:
    """The newest that may be deployed; the newest of all if none may."""
    good = (
        version
        for version in reversed(versions)
        if not version.freed
        and version.artifact is not None
        and why_quarantined(recorded, name, version, model.quarantine) is None
    )
    return next(good, versions[-1])


def _is_converted(version: Version) -> bool:
    """Whether deployments answer with the artifact as ONNX."""
    return version.conversion is not None and version.conversion.file is not None


def _from_storage(
    project: Project, version: Version, folder: Path, *, converted: bool
) -> tuple[Path, dict[str, Any]]:
    """The version's own bytes, whatever the worktree has now."""
    served = version.conversion if converted and version.conversion else version
    file = served.file if isinstance(served, Conversion) else served.artifact
    assert file is not None
    with Dvc(project.root, project.worktree.digest) as dvc, waiting("fetching the artifact"):
        place = dvc.fetch({file.path: file.md5})[file.path]
    return name_artifact(file, place, folder), {
        "model": version.model,
        "version": version.number,
        "digest": file.md5,
        "commit": version.commit,
        "signature": served.signature,
    }


def _from_worktree(project: Project, name: str, model: Model) -> tuple[Path, dict[str, Any]]:
    assert model.artifact is not None
    path = project.root / model.artifact.path
    seen = project.worktree.digest(model.artifact.path)
    if seen is None:
        raise MlspecError(
            f"{model.artifact.path}, the artifact of model.{name}, is not in the worktree",
            hint="`mlspec apply` makes it, `mlspec pull` brings one that is known",
        )
    with waiting("looking at the artifact"):
        code = project.resolver.serving_code(model)
        training = project.resolver.training(model)
        signature = inspect_declared(model.artifact, project.root, code, training=training)
    return path, {
        "model": name,
        "version": UNREGISTERED,
        "digest": seen.md5,
        "commit": project.git.head(),
        "signature": signature,
    }
