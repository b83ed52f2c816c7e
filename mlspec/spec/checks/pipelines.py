"""Stages of all models as one graph: who writes what, who reads it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

from mlspec.spec.checks.graph import cycles, describe
from mlspec.spec.checks.overlaps import Written, parents, written
from mlspec.spec.models import Spec
from mlspec.spec.tree import Path, Problem


def check(spec: Spec) -> Iterator[Problem]:
    """Paths that are too alike, cycles, and artifacts that nobody makes."""
    outputs = list(written(spec))
    yield from _alike(spec, outputs)
    yield from _cycles(spec, outputs)
    yield from _artifacts(spec)


def _stages(spec: Spec) -> Iterator[tuple[str, str]]:
    for name, model in spec.models.items():
        for stage in model.stages:
            yield name, stage


def _alike(spec: Spec, outputs: list[Written]) -> Iterator[Problem]:
    """Paths that are two here and one on another file system."""
    seen: dict[str, str] = {}
    paths = [(dataset.path, ("datasets", name, "path")) for name, dataset in spec.datasets.items()]
    declared: list[tuple[str, Path]] = [*paths, *((output.path, output.at) for output in outputs)]
    for name, stage_name in _stages(spec):
        at = ("models", name, "stages", stage_name, "inputs")
        for index, given in enumerate(spec.models[name].stages[stage_name].inputs):
            declared.append((given, (*at, index)))
    for path, where in declared:
        other = seen.setdefault(unicodedata.normalize("NFC", path).casefold(), path)
        if other != path:
            message = f"`{path}` and `{other}` are one path where names differ in more than case"
            yield Problem("MLS064", where, message, "write both alike, or rename one")


def _cycles(spec: Spec, outputs: list[Written]) -> Iterator[Problem]:
    writers: dict[str, set[str]] = {}
    for output in outputs:
        writers.setdefault(output.path, set()).add(output.stage)
    reads: dict[str, list[str]] = {}
    at: dict[str, Path] = {}
    for name, stage_name in _stages(spec):
        stage, address = spec.models[name].stages[stage_name], f"stage.{name}.{stage_name}"
        at[address] = ("models", name, "stages", stage_name)
        found = {writer for given in stage.inputs for writer in writers.get(given, ())}
        reads[address] = sorted(found - {address})
    for cycle in cycles(reads):
        message = f"stages wait for each other's outputs: {describe(cycle)}"
        yield Problem("MLS041", at[cycle[0]], message, "break the circle", on_key=True)


def _artifacts(spec: Spec) -> Iterator[Problem]:
    for name, model in spec.models.items():
        if model.artifact is None:
            continue
        outputs = {output for stage in model.stages.values() for output in stage.outputs}
        path = model.artifact.path
        if path not in outputs and outputs.isdisjoint(parents(path)):
            message = f"no stage of this model has `{path}` among its outputs"
            hint = f"add it to the `outputs` of the stage that writes it: [{path}]"
            yield Problem("MLS044", ("models", name, "artifact", "path"), message, hint)
