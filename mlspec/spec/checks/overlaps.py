"""Paths that overlap: each belongs to one dataset or one output, and is named as a whole.

Who made a path is looked up by the path itself. A file inside somebody's folder, or a folder with
somebody's file in it, would be found to be nobody's, and a change of it would not be noticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from mlspec.spec.interfaces import Face, path_of
from mlspec.spec.models import Spec
from mlspec.spec.paths import parents
from mlspec.spec.tree import Path, Problem


class Written(NamedTuple):
    """A path that a stage writes, and where the spec says so."""

    path: str
    model: str
    stage_name: str
    where: Path
    """From the stage."""

    @property
    def stage(self) -> str:
        """The address of the stage."""
        return f"stage.{self.model}.{self.stage_name}"

    @property
    def at(self) -> Path:
        return ("models", self.model, "stages", self.stage_name, *self.where)


def written(faces: Mapping[str, Face]) -> Iterator[Written]:
    """Every path that some stage writes."""
    for name, face in faces.items():
        for stage_name, stage in face.stages.items():
            for index, output in enumerate(stage.outputs):
                yield Written(output, name, stage_name, ("outputs", index))
            if stage.metrics:
                yield Written(stage.metrics, name, stage_name, ("metrics",))
            if stage.predictions:
                yield Written(stage.predictions, name, stage_name, ("predictions",))


def check(spec: Spec, faces: Mapping[str, Face], families: Mapping[str, str]) -> Iterator[Problem]:
    """Paths that two own, that lie inside another's, or that a stage reads and writes.

    `families`: of each member of a matrix, the name of the model that it was written as.
    """
    outputs = list(written(faces))
    yield from _written_twice(outputs, families)
    datasets = _Owned(
        {data.path: f"dataset `{name}`" for name, data in spec.datasets.items()}
        | {path: f"model `{name}`, which others made" for name, path in _taken(faces)}
    )
    makers = _Owned({output.path: output for output in outputs})
    yield from _datasets(spec, datasets)
    yield from _artifacts(spec, faces)
    for output in outputs:
        yield from _output(output, datasets, makers)
    yield from _requirements(spec, makers)
    for name, face in faces.items():
        for stage_name, stage in face.stages.items():
            for index, given in enumerate(map(path_of, stage.inputs)):
                if given not in spec.datasets:
                    read = _Read(given, name, stage_name, ("inputs", index))
                    yield from read.check(datasets, makers)
            for index, given in enumerate(stage.code):
                read = _Read(given, name, stage_name, ("code", index))
                yield from read.check(datasets, makers)
        if face.artifact is not None:
            yield from _artifact(name, face.artifact, makers)


class _Owned:
    """Paths and whom they belong to: who writes them, or the dataset that they are."""

    def __init__(self, owners: Mapping[str, str | Written]) -> None:
        self.owners = owners
        self._above: dict[str, str | None] = {}
        folders = {path.rpartition("/")[0] for path in owners}
        self._holding = folders | {parent for folder in folders for parent in parents(folder)}
        self._holding.discard("")

    def named(self, path: str) -> str:
        """Whom `path` belongs to, in words."""
        owner = self.owners[path]
        return owner.stage if isinstance(owner, Written) else owner

    def above(self, path: str) -> str | None:
        """The owned folder that `path` lies in."""
        folder = path.rpartition("/")[0]
        if not folder:
            return None
        try:
            return self._above[folder]
        except KeyError:
            inside = (*parents(folder), folder)
            found = next((parent for parent in inside if parent in self.owners), None)
            return self._above.setdefault(folder, found)

    def holds(self, path: str) -> bool:
        """Whether something that is owned lies inside the folder `path`."""
        return path in self._holding

    def below(self, path: str) -> list[str]:
        """What is owned inside the folder `path`."""
        if not self.holds(path):
            return []
        return [owned for owned in self.owners if owned.startswith(f"{path}/")]


def _written_twice(outputs: Iterable[Written], families: Mapping[str, str]) -> Iterator[Problem]:
    by_path: dict[str, Written] = {}
    for output in outputs:
        other = by_path.setdefault(output.path, output)
        if other is output:
            continue
        who = "this stage" if other.stage == output.stage else other.stage
        message = f"`{output.path}` is written by {who} already"
        hint = "give each output a path of its own"
        family = families.get(output.model)
        if (
            family is not None
            and other.model != output.model
            and families.get(other.model) == family
        ):
            message = f"members of the matrix share `{output.path}`: {who} writes it too"
            hint = "put `${matrix.KEY}` into it, so that each member writes a path of its own"
        yield Problem("MLS042", output.at, message, hint)


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
            message = f"`{dataset.path}` lies inside `{above}`, which is {datasets.named(above)}"
            yield Problem("MLS043", at, message, "give each dataset a path of its own")


def _taken(faces: Mapping[str, Face]) -> Iterator[tuple[str, str]]:
    """Models that others made, with their artifacts."""
    for name, face in faces.items():
        if face.taken and face.artifact is not None:
            yield name, face.artifact


def _artifacts(spec: Spec, faces: Mapping[str, Face]) -> Iterator[Problem]:
    """Artifacts of others that are a dataset, or another model's, as well."""
    owners = _Owned({data.path: f"dataset `{name}`" for name, data in spec.datasets.items()})
    seen: dict[str, str] = {}
    for name, path in _taken(faces):
        at = ("models", name, "artifact", "path")
        other = seen.setdefault(path, name)
        above = path if path in owners.owners else owners.above(path)
        hint = "give each artifact a path of its own"
        if other != name:
            yield Problem(
                "MLS042", at, f"`{path}` is the artifact of model `{other}` already", hint
            )
        elif above is not None:
            yield Problem("MLS043", at, f"`{path}` belongs to {owners.named(above)}", hint)


def _output(output: Written, datasets: _Owned, makers: _Owned) -> Iterator[Problem]:
    path = output.path
    touched = [path] if path in datasets.owners else datasets.below(path)
    data = next(iter(touched), None) or datasets.above(path)
    if data is not None:
        message = f"`{path}` belongs to {datasets.named(data)}, which no stage may write"
        yield Problem("MLS043", output.at, message, "write to a path of its own")
    above = makers.above(path)
    if above is not None:
        message = f"`{path}` lies inside `{above}`, which is an output too"
        hint = f"leave out one; `{above}` is written by {makers.named(above)}"
        yield Problem("MLS043", output.at, message, hint)


class _Read(NamedTuple):
    """A path that a stage reads."""

    path: str
    model: str
    stage_name: str
    where: Path

    def check(self, datasets: _Owned, makers: _Owned) -> Iterator[Problem]:
        folder = makers.above(self.path)
        made = makers.below(self.path)
        below = [*made, *datasets.below(self.path)]
        if any(self._writes(path, makers) for path in (self.path, folder or "", *made)):
            hint = "write to another path, or do not list it here"
            yield self._problem(f"the stage reads `{self.path}`, which it writes itself", hint)
        elif folder is not None:
            message = f"`{self.path}` lies inside `{folder}`, which {makers.named(folder)} writes"
            yield self._problem(message, f"name the folder itself: {folder}")
        elif (folder := datasets.above(self.path)) is not None:
            owner = datasets.named(folder)
            message = f"`{self.path}` lies inside `{folder}`, which is {owner}"
            yield self._problem(message, f"name {owner} itself")
        elif below:
            owner = (makers if below[0] in makers.owners else datasets).named(below[0])
            message = f"the folder `{self.path}` holds `{below[0]}` of {owner}"
            names = [*(below[:3]), *(["..."] if len(below) > 3 else [])]
            yield self._problem(message, f"name what it holds, one by one: {', '.join(names)}")

    def _writes(self, path: str, makers: _Owned) -> bool:
        owner = makers.owners.get(path)
        return isinstance(owner, Written) and owner[1:3] == (self.model, self.stage_name)

    def _problem(self, message: str, hint: str) -> Problem:
        at = ("models", self.model, "stages", self.stage_name, *self.where)
        return Problem("MLS043", at, message, hint)


def _requirements(spec: Spec, makers: _Owned) -> Iterator[Problem]:
    path = spec.python.requirements
    above = makers.above(path)
    if above is not None:
        message = f"`{path}` lies inside `{above}`, which {makers.named(above)} writes"
        hint = "keep the requirements apart from what stages write"
        yield Problem("MLS043", ("python", "requirements"), message, hint)


def _artifact(model: str, path: str, makers: _Owned) -> Iterator[Problem]:
    above = makers.above(path)
    owner = makers.owners[above] if above is not None else None
    if isinstance(owner, Written) and owner.model == model:
        message = f"`{path}` lies inside `{above}`, an output of {owner.stage}"
        hint = f"name the file itself in `outputs`: [{path}]"
        yield Problem("MLS043", ("models", model, "artifact", "path"), message, hint)
