"""What runs a model in services: whether it can be ONNX, and on which rows the two are compared."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.fingerprint import CONVERT
from mlspec.spec.models import CONVERTED, Convert, Model, converted_path
from mlspec.spec.tree import Path, Problem


def check_model(name: str, model: Model) -> Iterator[Problem]:
    """Problems of `serve`."""
    serve, at = model.serve, ("models", name, "serve")
    if serve.runtime == "native":
        for key in ("sample", "tolerance"):
            if key in serve.model_fields_set:
                message = f"`{key}` says nothing about a model that is served as it is"
                hint = "remove it, or have the two compared: `runtime: auto`"
                yield Problem("MLS094", (*at, key), message, hint, on_key=True)
        return
    yield from _artifact(model, at)
    if serve.sample is None:
        message = "`sample` is missing: the rows that the model and its ONNX are asked"
        hint = "name a dataset, such as the one it is tested on: `sample: customers`"
        yield Problem("MLS011", (*at, "sample"), message, hint)
    stage = model.stages.get(CONVERT)
    if stage is not None and not isinstance(stage, Convert):
        message = f"the stage that compares the two is called `{CONVERT}`"
        where = ("models", name, "stages", CONVERT)
        hint = "take yours out if it does the same, or give it another name"
        yield Problem("MLS094", where, message, hint, on_key=True)


def _artifact(model: Model, at: Path) -> Iterator[Problem]:
    where, artifact = (*at, "runtime"), model.artifact
    if artifact is None:
        message = "the model has no artifact that could be served as ONNX"
        yield Problem("MLS094", where, message, "add `artifact`, or remove `serve`")
    elif artifact.format not in CONVERTED:
        message = f"a model of the format {artifact.format} is not converted to ONNX"
        hint = f"remove `serve`; what is converted: {', '.join(CONVERTED)}"
        yield Problem("MLS094", where, message, hint)
    elif converted_path(artifact.path) == artifact.path:
        message = f"its ONNX would be written to `{artifact.path}`, where the artifact is"
        yield Problem("MLS094", where, message, "have the artifact end in another way than .onnx")
