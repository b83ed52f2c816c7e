"""References between resources: each leads to something that is declared."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from mlspec.spec.checks.graph import cycles, describe
from mlspec.spec.checks.names import Names
from mlspec.spec.models import Spec
from mlspec.spec.paths import BARE
from mlspec.spec.show import show
from mlspec.spec.suggest import did_you_mean, known_words
from mlspec.spec.tree import Node, Path, Problem, find

_UNPROTECT = "put it back into the spec, or take it out of `policy.protect` first"


def check(spec: Spec, names: Names, written: Node) -> Iterator[Problem]:
    """Dangling references, and targets that wait for each other."""
    yield from _deployments(spec, names)
    yield from _inputs(spec, names, written)
    yield from _targets(spec, names)
    for index, address in enumerate(spec.policy.protect):
        yield from _protected(address, ("policy", "protect", index), spec, names)


def _deployments(spec: Spec, names: Names) -> Iterator[Problem]:
    for name, deployment in spec.deployments.items():
        path = ("deployments", name)
        yield from _reference("model", deployment.model, (*path, "model"), names.within("models"))
        model = spec.models.get(deployment.model)
        if model is not None and model.artifact is None:
            message = f"model `{deployment.model}` has no artifact, so there is nothing to serve"
            hint = "add `artifact: {path: ..., format: ...}` to the model"
            yield Problem("MLS045", (*path, "model"), message, hint)
        for index, target in enumerate(deployment.targets):
            place = (*path, "targets", index)
            yield from _reference("target", target, place, names.within("targets"))
            if target in deployment.targets[:index]:
                yield Problem("MLS042", place, f"the target {show(target)} is named twice")


def _inputs(spec: Spec, names: Names, written: Node) -> Iterator[Problem]:
    datasets = names.within("datasets")
    outputs = {
        step
        for model in spec.models.values()
        for stage in model.stages.values()
        for output in stage.writes
        for step in (output, output.partition("/")[0])
    }
    for name, model in spec.models.items():
        for stage_name, stage in model.stages.items():
            for index, given in enumerate(stage.inputs):
                path = ("models", name, "stages", stage_name, "inputs", index)
                bare = BARE.fullmatch(find(written, path).text) is not None
                if given in datasets and not bare:
                    message = f"the folder `{given}` has the name of a dataset"
                    yield Problem("MLS043", path, message, "rename the dataset or the folder")
                elif bare and given not in datasets and given not in outputs:
                    hint = did_you_mean(given, datasets) or (
                        f"declare it in `datasets`, or write `./{given}` for a file"
                    )
                    message = f"no dataset {show(given)}, and no stage writes it"
                    yield Problem("MLS040", path, message, hint)


def _targets(spec: Spec, names: Names) -> Iterator[Problem]:
    waits: dict[str, list[str]] = {}
    for name, target in spec.targets.items():
        waits[name] = [target.after] if target.after else []
        if target.after is not None:
            path = ("targets", name, "after")
            yield from _reference("target", target.after, path, names.within("targets"))
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
    if name not in known:
        hint = did_you_mean(name, known) or _UNPROTECT
        yield Problem("MLS040", path, f"no {kind} {show(name)}", hint)
    elif at and deployment is not None and target not in deployment.targets:
        hint = did_you_mean(target, deployment.targets) or _UNPROTECT
        message = f"deployment `{name}` has no target {show(target)}"
        yield Problem("MLS040", path, message, hint)


def _reference(kind: str, name: str, path: Path, known: Iterable[str]) -> Iterator[Problem]:
    known = list(known)
    if name not in known:
        hint = did_you_mean(name, known) or (
            known_words(known) if known else f"declare it in `{kind}s`"
        )
        yield Problem("MLS040", path, f"no {kind} {show(name)}", hint)
