"""References between resources: each leads to something that is declared."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from mlspec.spec.checks.graph import cycles, describe
from mlspec.spec.checks.names import Names
from mlspec.spec.checks.overlaps import written
from mlspec.spec.interfaces import Face, path_of
from mlspec.spec.models import Spec
from mlspec.spec.paths import BARE
from mlspec.spec.show import show
from mlspec.spec.suggest import did_you_mean, known_words
from mlspec.spec.tree import Path, Problem

_UNPROTECT = "put it back into the spec, or take it out of `policy.protect` first"


def check(spec: Spec, faces: Mapping[str, Face], names: Names) -> Iterator[Problem]:
    """Dangling references, and targets that wait for each other."""
    yield from _deployments(spec, faces, names)
    yield from _inputs(faces, names)
    yield from _executors(faces, names)
    yield from _targets(spec, names)
    for target in spec.policy.approvers:
        yield from _reference("target", target, ("policy", "approvers", target), names)
    for index, address in enumerate(spec.policy.protect):
        yield from _protected(address, ("policy", "protect", index), spec, names)


def _deployments(spec: Spec, faces: Mapping[str, Face], names: Names) -> Iterator[Problem]:
    for name, deployment in spec.deployments.items():
        path: Path = ("deployments", name)
        yield from _served(deployment.model, (*path, "model"), faces, names)
        if deployment.challenger is not None:
            place = (*path, "challenger", "model")
            yield from _served(deployment.challenger.model, place, faces, names)
        for index, target in enumerate(deployment.targets):
            place = (*path, "targets", index)
            yield from _reference("target", target, place, names)
            if target in deployment.targets[:index]:
                yield Problem("MLS042", place, f"the target {show(target)} is named twice")
        if deployment.batch is not None:
            yield from _reference(
                "dataset", deployment.batch.input, (*path, "batch", "input"), names
            )
        for target in deployment.pin:
            if target not in deployment.targets:
                hint = did_you_mean(target, deployment.targets) or known_words(deployment.targets)
                message = f"deployment `{name}` has no target {show(target)}"
                yield Problem("MLS040", (*path, "pin", target), message, hint, on_key=True)


def _served(model: str, path: Path, faces: Mapping[str, Face], names: Names) -> Iterator[Problem]:
    if not names.may_be_member(model):
        yield from _reference("model", model, path, names)
    face = faces.get(model)
    if face is not None and face.artifact is None:
        message = f"model `{model}` has no artifact, so there is nothing to serve"
        hint = "add `artifact: {path: ..., format: ...}` to the model"
        yield Problem("MLS045", path, message, hint)


def _inputs(faces: Mapping[str, Face], names: Names) -> Iterator[Problem]:
    datasets = names.within("datasets")
    outputs: Container[str] | None = None
    for name, face in faces.items():
        for stage_name, stage in face.stages.items():
            for index, given in enumerate(stage.inputs):
                path = ("models", name, "stages", stage_name, "inputs", index)
                if not BARE.fullmatch(given):
                    if path_of(given) in datasets:
                        message = f"the folder `{path_of(given)}` has the name of a dataset"
                        yield Problem("MLS043", path, message, "rename the dataset or the folder")
                elif given not in datasets:
                    outputs = outputs if outputs is not None else _made(faces)
                    if given not in outputs:
                        hint = did_you_mean(given, datasets) or (
                            f"declare it in `datasets`, or write `./{given}` for a file"
                        )
                        message = f"no dataset {show(given)}, and no stage writes it"
                        yield Problem("MLS040", path, message, hint)


def _made(faces: Mapping[str, Face]) -> Container[str]:
    """What stages write, and the topmost folders of it."""
    paths = [output.path for output in written(faces)]
    return {*paths, *(path.partition("/")[0] for path in paths)}


def _executors(faces: Mapping[str, Face], names: Names) -> Iterator[Problem]:
    known = names.within("executors")
    for name, face in faces.items():
        at = ("models", name)
        if face.executor is not None and face.executor not in known:
            yield from _reference("executor", face.executor, (*at, "executor"), names)
        for stage_name, stage in face.stages.items():
            if stage.executor is not None and stage.executor not in known:
                path = (*at, "stages", stage_name, "executor")
                yield from _reference("executor", stage.executor, path, names)


def _targets(spec: Spec, names: Names) -> Iterator[Problem]:
    waits: dict[str, list[str]] = {}
    for name, target in spec.targets.items():
        waits[name] = [target.after] if target.after else []
        if target.after is not None:
            path = ("targets", name, "after")
            yield from _reference("target", target.after, path, names)
    for cycle in cycles(waits):
        message = f"targets wait for each other: {describe(cycle)}"
        yield Problem("MLS041", ("targets", cycle[0], "after"), message, "remove one `after`")


def _protected(address: str, path: Path, spec: Spec, names: Names) -> Iterator[Problem]:
    """Only models and deployments are ever deleted by a plan."""
    kind, _, rest = address.partition(".")
    name, at, target = rest.partition("@")
    if kind not in ("model", "deployment") or (at and kind == "model"):
        message = f"{show(address)} is nothing that a plan deletes, so it cannot be protected"
        hint = "write model.NAME, deployment.NAME or deployment.NAME@TARGET"
        yield Problem("MLS040", path, message, hint)
        return
    known = names.within(f"{kind}s")
    deployment = spec.deployments.get(name)
    if kind == "model" and names.may_be_member(name):
        return
    if name not in known:
        hint = did_you_mean(name, known) or _UNPROTECT
        yield Problem("MLS040", path, f"no {kind} {show(name)}", hint)
    elif at and deployment is not None and target not in deployment.targets:
        hint = did_you_mean(target, deployment.targets) or _UNPROTECT
        message = f"deployment `{name}` has no target {show(target)}"
        yield Problem("MLS040", path, message, hint)


def _reference(kind: str, name: str, path: Path, names: Names) -> Iterator[Problem]:
    known = names.within(f"{kind}s")
    if name not in known:
        hint = did_you_mean(name, known) or (
            known_words(known) if known else f"declare it in `{kind}s`"
        )
        yield Problem("MLS040", path, f"no {kind} {show(name)}", hint)
