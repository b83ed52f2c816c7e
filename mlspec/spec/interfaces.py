"""What of a model concerns others: what its stages read and write, and whose it is.

:class:`Face` is what the checks of several models look at, and all they look at: while a model's
face is the same, they need not run again. :class:`Interface` is what planning and selection see of
a model without making it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlspec.spec.models import Convert, Dataset, Model, Stage
from mlspec.spec.paths import BARE


class StageFace(NamedTuple):
    """Of one stage. An input that is the name of a dataset is bare; a path like it has `./`."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    code: tuple[str, ...]
    metrics: str | None
    predictions: str | None
    executor: str | None


class Face(NamedTuple):
    """Of one model."""

    stages: Mapping[str, StageFace]
    artifact: str | None
    taken: bool
    """The artifact was made by others, and was brought by hand: no stage may write it."""
    executor: str | None
    owner: str
    tags: tuple[str, ...]
    gates: tuple[str, ...]

    def encode(self) -> bytes:
        """As JSON; equal bytes, equal faces."""
        return json.dumps(self, separators=(",", ":"), ensure_ascii=False).encode()


def decode_face(data: bytes) -> Face:
    """The face of :meth:`Face.encode`; raises `ValueError` or `TypeError` for anything else."""
    stages, artifact, taken, executor, owner, tags, gates = json.loads(data)
    faces = {}
    for name, (inputs, outputs, code, *more) in stages.items():
        faces[name] = StageFace(tuple(inputs), tuple(outputs), tuple(code), *more)
    return Face(faces, artifact, taken, executor, owner, tuple(tags), tuple(gates))


def face_of(model: Model, written: Mapping[str, Any]) -> Face:
    """The face of `model`; `written` is the plain data that it was made of."""
    stages = {}
    for name, stage in model.stages.items():
        inputs = tuple(map(_mark, stage.inputs, _written_inputs(name, stage, written)))
        stages[name] = StageFace(
            inputs, stage.outputs, stage.code, stage.metrics, stage.predictions, stage.executor
        )
    artifact = model.artifact.path if model.artifact else None
    gates = tuple(model.gates)
    taken = model.from_ is not None and model.from_.mlflow is not None
    return Face(stages, artifact, taken, model.executor, model.owner, model.tags, gates)


def _written_inputs(name: str, stage: Stage, written: Mapping[str, Any]) -> Iterable[str]:
    """The inputs as people wrote them; nobody wrote those of a conversion as such."""
    if isinstance(stage, Convert):
        return (f"./{stage.inputs[0]}", written["serve"]["sample"])
    inputs: Iterable[str] = written.get("stages", {}).get(name, {}).get("inputs", ())
    return inputs


def _mark(path: str, given: str) -> str:
    return f"./{path}" if BARE.fullmatch(path) and path != given else path


def path_of(given: str) -> str:
    """The path, or the name of a dataset, of an input in a face."""
    return given.removeprefix("./")


@dataclass(frozen=True, slots=True)
class Flow:
    """What a stage reads and what it writes: paths from the root, sorted; a dataset by its path.

    A path that it reads and writes is only among `writes`, as DVC has it. Of its code, `code` is
    what the spec names; requirements are not here.
    """

    inputs: tuple[str, ...]
    writes: tuple[str, ...]
    code: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Interface:
    """A model as others see it; `stages` by name, in the order of the spec; names of gates."""

    stages: Mapping[str, Flow]
    owner: str
    tags: tuple[str, ...]
    gates: tuple[str, ...]


def interface_of(face: Face, datasets: Mapping[str, Dataset]) -> Interface:
    """What a face shows where `datasets` are declared."""
    stages = {}
    for name, stage in face.stages.items():
        writes = {*stage.outputs, *(path for path in (stage.metrics, stage.predictions) if path)}
        named = map(path_of, stage.inputs)
        reads = {datasets[given].path if given in datasets else given for given in named}
        stages[name] = Flow(tuple(sorted(reads - writes)), tuple(sorted(writes)), stage.code)
    return Interface(stages, face.owner, face.tags, face.gates)
