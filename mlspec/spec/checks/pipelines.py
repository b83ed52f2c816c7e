"""Stages of all models as one graph: who writes what, who reads it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping

from mlspec.spec.checks.graph import cycles, describe
from mlspec.spec.checks.overlaps import Written, written
from mlspec.spec.interfaces import Face, path_of
from mlspec.spec.models import Model, Spec
from mlspec.spec.paths import parents
from mlspec.spec.tree import Path, Problem


def check(spec: Spec, faces: Mapping[str, Face]) -> Iterator[Problem]:
    """Paths that are too alike, and cycles."""
    outputs = list(written(faces))
    yield from _alike(spec, faces, outputs)
    yield from _cycles(faces, outputs)


def check_model(name: str, model: Model) -> Iterator[Problem]:
    """A model that nobody makes, or an artifact that no stage of its model makes."""
    if model.from_ is not None:
        if model.artifact is None:
            message = "`artifact` is missing: it says where the model that others made lies"
            hint = "add `artifact: {path: ..., format: ...}`"
            yield Problem("MLS011", ("models", name, "artifact"), message, hint)
        return
    if not model.stages:
        hint = "add `stages: ...`; a model that others made has `from` and `artifact` instead"
        yield Problem("MLS011", ("models", name, "stages"), "`stages` is missing", hint)
    if model.artifact is None:
        return
    outputs = {output for stage in model.stages.values() for output in stage.outputs}
    path = model.artifact.path
    if path not in outputs and outputs.isdisjoint(parents(path)):
        message = f"no stage of this model has `{path}` among its outputs"
        hint = f"add it to the `outputs` of the stage that writes it: [{path}]"
        yield Problem("MLS044", ("models", name, "artifact", "path"), message, hint)


def _alike(spec: Spec, faces: Mapping[str, Face], outputs: list[Written]) -> Iterator[Problem]:
    """Paths that are two here and one on another file system."""
    seen: dict[str, str] = {}
    for name, dataset in spec.datasets.items():
        yield from _compare(dataset.path, seen, ("datasets", name, "path"))
    for output in outputs:
        if seen.setdefault(_folded(output.path), output.path) != output.path:
            yield from _compare(output.path, seen, output.at)
    for name, face in faces.items():
        for stage_name, stage in face.stages.items():
            for index, given in enumerate(map(path_of, stage.inputs)):
                if seen.setdefault(_folded(given), given) != given:
                    at = ("models", name, "stages", stage_name, "inputs", index)
                    yield from _compare(given, seen, at)


def _folded(path: str) -> str:
    return path.lower() if path.isascii() else unicodedata.normalize("NFC", path).casefold()


def _compare(path: str, seen: dict[str, str], at: Path) -> Iterator[Problem]:
    other = seen.setdefault(_folded(path), path)
    if other != path:
        message = f"`{path}` and `{other}` are one path where names differ in more than case"
        yield Problem("MLS064", at, message, "write both alike, or rename one")


def _cycles(faces: Mapping[str, Face], outputs: list[Written]) -> Iterator[Problem]:
    writers: dict[str, set[tuple[str, str]]] = {}
    for path, model, stage_name, _ in outputs:
        writers.setdefault(path, set()).add((model, stage_name))
    reads: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for name, face in faces.items():
        for stage_name, stage in face.stages.items():
            found = {one for given in stage.inputs for one in writers.get(path_of(given), ())}
            found.discard((name, stage_name))
            reads[name, stage_name] = sorted(found)
    for cycle in cycles(reads):
        names = describe(f"stage.{name}.{stage_name}" for name, stage_name in cycle)
        name, stage_name = cycle[0]
        message = f"stages wait for each other's outputs: {names}"
        at = ("models", name, "stages", stage_name)
        yield Problem("MLS041", at, message, "break the circle", on_key=True)
