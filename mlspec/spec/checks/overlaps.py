"""Paths that overlap: each belongs to one dataset or one output, and is named as a whole.

Who made a path is looked up by the path itself. A file inside somebody's folder, or a folder with
somebody's file in it, would be found to be nobody's, and a change of it would not be noticed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlspec.spec.models import Spec
from mlspec.spec.tree import Path, Problem


@dataclass(frozen=True, slots=True)
class Written:
    """A path that a stage writes, and where the spec says so."""

    path: str
    stage: str
    at: Path


def written(spec: Spec) -> Iterator[Written]:
    """Every path that some stage writes."""
    for name, model in spec.models.items():
        for stage_name, stage in model.stages.items():
            at = ("models", name, "stages", stage_name)
            address = f"stage.{name}.{stage_name}"
            for index, output in enumerate(stage.outputs):
                yield Written(output, address, (*at, "outputs", index))
            for key in ("metrics", "predictions"):
                if path := getattr(stage, key):
                    yield Written(path, address, (*at, key))


def parents(path: str) -> Iterator[str]:
    """The folders that `path` lies in, the topmost first."""
    steps = path.split("/")
    for count in range(1, len(steps)):
        yield "/".join(steps[:count])


def check(spec: Spec) -> Iterator[Problem]:
    """Paths that two own, that lie inside another's, or that a stage reads and writes."""
    outputs = list(written(spec))
    yield from _written_twice(outputs)
    datasets = _Owned({data.path: f"dataset `{name}`" for name, data in spec.datasets.items()})
    makers = _Owned({output.path: output.stage for output in outputs})
    yield from _datasets(spec, datasets)
    for output in outputs:
        yield from _output(output, datasets, makers)
    yield from _requirements(spec, makers)
    for name, model in spec.models.items():
        for stage_name, stage in model.stages.items():
            at = ("models", name, "stages", stage_name)
            for key in ("inputs", "code"):
                for index, given in enumerate(getattr(stage, key)):
                    if key == "code" or given not in spec.datasets:
                        read = _Read(given, f"stage.{name}.{stage_name}", (*at, key, index))
                        yield from read.check(datasets, makers)
        if model.artifact is not None:
            yield from _artifact(name, model.artifact.path, makers)


class _Owned:
    """Paths and whom they belong to."""

    def __init__(self, owners: Mapping[str, str]) -> None:
        self.owners = owners
        self._inside: dict[str, list[str]] = {}
        for path in owners:
            for parent in parents(path):
                self._inside.setdefault(parent, []).append(path)

    def above(self, path: str) -> str | None:
        """The owned folder that `path` lies in."""
        return next((parent for parent in parents(path) if parent in self.owners), None)

    def below(self, path: str) -> list[str]:
        """What is owned inside the folder `path`."""
        return self._inside.get(path, [])


def _written_twice(outputs: list[Written]) -> Iterator[Problem]:
    by_path: dict[str, Written] = {}
    for output in outputs:
        other = by_path.setdefault(output.path, output)
        if other is not output:
            who = "this stage" if other.stage == output.stage else other.stage
            message = f"`{output.path}` is written by {who} already"
            yield Problem("MLS042", output.at, message, "give each output a path of its own")


def _datasets(spec: Spec, datasets: _Owned) -> Iterator[Problem]:
    seen: dict[str, str] = {}
    for name, dataset in spec.datasets.items():
        at = ("datasets", name, "path")
        other = seen.setdefault(dataset.path, name)
        above = datasets.above(dataset.path)
        if other != name:
            message = f"`{dataset.path}` is dataset `{other}` already"
            yield Problem("MLS042", at, message, "keep one of them")
        elif above is not None:
            message = f"`{dataset.path}` lies inside `{above}`, which is {datasets.owners[above]}"
            yield Problem("MLS043", at, message, "give each dataset a path of its own")


def _output(output: Written, datasets: _Owned, makers: _Owned) -> Iterator[Problem]:
    path = output.path
    touched = [path] if path in datasets.owners else datasets.below(path)
    data = next(iter(touched), None) or datasets.above(path)
    if data is not None:
        message = f"`{path}` belongs to {datasets.owners[data]}, which no stage may write"
        yield Problem("MLS043", output.at, message, "write to a path of its own")
    above = makers.above(path)
    if above is not None:
        message = f"`{path}` lies inside `{above}`, which is an output too"
        hint = f"leave out one; `{above}` is written by {makers.owners[above]}"
        yield Problem("MLS043", output.at, message, hint)


@dataclass(frozen=True, slots=True)
class _Read:
    """A path that a stage reads."""

    path: str
    stage: str
    at: Path

    def check(self, datasets: _Owned, makers: _Owned) -> Iterator[Problem]:
        folder = makers.above(self.path)
        below = [*makers.below(self.path), *datasets.below(self.path)]
        if self.stage in {makers.owners.get(path) for path in (self.path, folder or "", *below)}:
            hint = "write to another path, or do not list it here"
            yield self._problem(f"the stage reads `{self.path}`, which it writes itself", hint)
        elif folder is not None:
            message = f"`{self.path}` lies inside `{folder}`, which {makers.owners[folder]} writes"
            yield self._problem(message, f"name the folder itself: {folder}")
        elif (folder := datasets.above(self.path)) is not None:
            owner = datasets.owners[folder]
            message = f"`{self.path}` lies inside `{folder}`, which is {owner}"
            yield self._problem(message, f"name {owner} itself")
        elif below:
            owner = {**datasets.owners, **makers.owners}[below[0]]
            message = f"the folder `{self.path}` holds `{below[0]}` of {owner}"
            names = [*(below[:3]), *(["..."] if len(below) > 3 else [])]
            yield self._problem(message, f"name what it holds, one by one: {', '.join(names)}")

    def _problem(self, message: str, hint: str) -> Problem:
        return Problem("MLS043", self.at, message, hint)


def _requirements(spec: Spec, makers: _Owned) -> Iterator[Problem]:
    path = spec.python.requirements
    above = makers.above(path)
    if above is not None:
        message = f"`{path}` lies inside `{above}`, which {makers.owners[above]} writes"
        hint = "keep the requirements apart from what stages write"
        yield Problem("MLS043", ("python", "requirements"), message, hint)


def _artifact(model: str, path: str, makers: _Owned) -> Iterator[Problem]:
    above = makers.above(path)
    if above is not None and makers.owners[above].startswith(f"stage.{model}."):
        message = f"`{path}` lies inside `{above}`, an output of {makers.owners[above]}"
        hint = f"name the file itself in `outputs`: [{path}]"
        yield Problem("MLS043", ("models", model, "artifact", "path"), message, hint)
