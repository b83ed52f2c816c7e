"""Artifacts: what a format needs beside its name, and what it has no use for."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlspec.fingerprint import DECLARE
from mlspec.spec.checks.values import check_url
from mlspec.spec.models import Artifact, Declare, Inferred, Model
from mlspec.spec.show import show
from mlspec.spec.suggest import did_you_mean, known_words
from mlspec.spec.tree import Path, Problem

_CLASS = re.compile(r"(?!\d)\w+(?:\.(?!\d)\w+)*:(?!\d)\w+", re.ASCII)
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_TAKEN = frozenset({"bentoml", "mlspec", "msgspec", "numpy", "service", "uvicorn"})
"""Modules that a service has already: another of the same name would never be imported."""
_OWN = {
    "trusted": ("joblib",),
    "class": ("python", "safetensors"),
    "code": ("python", "safetensors"),
    "input": ("python",),
    "columns": ("python", "http", "keras", "pytorch", "safetensors", "torchscript"),
    "example": ("python",),
    "passes": ("http",),
    "signature": (
        *("catboost", "joblib", "keras", "lightgbm", "onnx", "python", "pytorch", "safetensors"),
        *("skops", "torchscript", "xgboost"),
    ),
}
"""Keys that some formats alone have."""


def check_model(name: str, model: Model) -> Iterator[Problem]:
    """A key that the format does not have, or one that it lacks."""
    if model.artifact is None:
        return
    columns = model.artifact.columns
    for index, column in enumerate(model.sensitive if columns else ()):
        if column not in columns:
            message = f"the artifact has no column {show(column)}"
            hint = did_you_mean(column, columns) or known_words(columns)
            yield Problem("MLS112", ("models", name, "sensitive", index), message, hint)
    artifact, at = model.artifact, ("models", name, "artifact")
    given = artifact.model_fields_set
    for key, formats in _OWN.items():
        if artifact.format not in formats and ("class_" if key == "class" else key) in given:
            message = f"`{key}` says nothing about an artifact of the format {artifact.format}"
            belongs = " or ".join(f"`format: {each}`" for each in formats)
            hint = f"remove it; it belongs to {belongs}"
            yield Problem("MLS091", (*at, key), message, hint, on_key=True)
    if artifact.signature is not None:
        yield from _signature(artifact.signature, model, (*at, "signature"))
    match artifact.format:
        case "joblib":
            yield from _trusted(artifact, at)
        case "python" | "safetensors":
            yield from _class(artifact, at)
        case "http":
            yield from _passes(artifact, model, at)


def _signature(inferred: Inferred, model: Model, at: Path) -> Iterator[Problem]:
    read = [given for stage in model.stages.values() for given in stage.inputs]
    if inferred.from_ not in read:
        message = f"no stage of this model reads {show(inferred.from_)}"
        hint = did_you_mean(inferred.from_, read) or known_words(dict.fromkeys(read))
        yield Problem("MLS095", (*at, "from"), message, hint or "name an input of a stage")
    assert model.artifact is not None
    if model.artifact.columns:
        message = "`columns` says what a row has, and `signature` infers it"
        yield Problem("MLS095", at, message, "keep one of them", on_key=True)


def _trusted(artifact: Artifact, at: Path) -> Iterator[Problem]:
    if artifact.trusted is None or not artifact.trusted.strip():
        message = "a joblib file is a pickle, which can run any code when it is loaded"
        hint = (
            "write skops (skops.io.dump) or ONNX; if it must be this one, say why it may be "
            'loaded: `trusted: "..."`'
        )
        yield Problem("MLS090", (*at, "format"), message, hint)


def _passes(artifact: Artifact, model: Model, at: Path) -> Iterator[Problem]:
    passes, where = artifact.passes, (*at, "passes")
    if not artifact.columns:
        message = "`columns` is missing: nobody else says what the model takes"
        yield Problem("MLS011", (*at, "columns"), message, "write {amount: number, ...}")
    if passes is None:
        message = "`passes` is missing: it says what answers"
        yield Problem("MLS011", where, message, "write `passes: {url: http://HOST:PORT/PATH}`")
        return
    said = "credentials have no place in a spec; let in by the network, or a proxy of yours"
    yield from check_url(passes.url, (*where, "url"), ("http", "https"), "MLS099", said)
    if (passes.protocol == "bento") != (passes.parameter is not None):
        message = "`parameter` says which one of a BentoML API takes the rows, and nothing else"
        hint = "write both: `protocol: bento, parameter: rows`; or neither"
        yield Problem("MLS099", where, message, hint, on_key=True)
    for name, value in passes.expect.items():
        if not _HEADER.fullmatch(name) or not (value.isascii() and value.isprintable()):
            message = f"{show(name)} is no header, or its value is none of one"
            hint = "write {x-model-digest: sha256...}"
            yield Problem("MLS099", (*where, "expect", name), message, hint, on_key=True)
    stage = model.stages.get(DECLARE)
    if stage is not None and not isinstance(stage, Declare):
        message = f"the stage that writes down what answers is called `{DECLARE}`"
        place = (*at[:2], "stages", DECLARE)
        yield Problem("MLS099", place, message, "give yours another name", on_key=True)


def _class(artifact: Artifact, at: Path) -> Iterator[Problem]:
    name = "Predictor" if artifact.format == "python" else "Network"
    hint = f"write the module and the class in it, such as risk.serving:{name}"
    if artifact.class_ is None:
        message = "`class` is missing: it says what answers with the artifact"
        yield Problem("MLS011", (*at, "class"), message, hint)
    elif not _CLASS.fullmatch(artifact.class_):
        message = f"{show(artifact.class_)} is not the name of a class"
        yield Problem("MLS092", (*at, "class"), message, hint)
    elif (top := re.split(r"[.:]", artifact.class_)[0]) in _TAKEN:
        message = f"a service has a module `{top}` already, and would not import this one"
        yield Problem("MLS092", (*at, "class"), message, "give the module another name")
    wrong = sorted(artifact.example.keys() ^ artifact.columns.keys())
    if artifact.example and artifact.columns and wrong:
        problem = "is not a column" if wrong[0] in artifact.example else "has no value"
        message = f"{show(wrong[0])} {problem}; an example is a row of all `columns`"
        yield Problem("MLS093", (*at, "example"), message, "give a value for each column")
