"""What MLflow says of a model (`MLmodel`): in which file it is, and what can be done with that.

Comes in: the text of the file. Goes out: a :class:`Flavour`. Only models that are one file are
taken: one digest names all that will ever answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.adoption.registry import check_file, load_yaml, plain_line
from mlspec.errors import MlspecError
from mlspec.spec.show import show

MLMODEL = "MLmodel"
_ONE_FILE = ("xgboost", "lightgbm", "catboost")
"""Flavours whose `data` is one file in the framework's own form, or a pickle."""
_PICKLES = (".pkl", ".pickle", ".joblib")


@dataclass(frozen=True, slots=True)
class Flavour:
    """A file of a model. `format` is that of a spec; empty if the file cannot be served as it is.

    `kind` is what it is, in words.
    """

    file: str
    format: str
    kind: str
    licence: str
    why: str = ""
    """Why it cannot be served."""


def read_flavour(data: bytes, said_by: str) -> Flavour:
    """The best of the flavours that a model has; raises if none is one that can be taken."""
    body = load_yaml(data, f"{said_by}: {MLMODEL}")
    flavours = body.get("flavors")
    metadata = body.get("metadata")
    licence = ""
    if isinstance(metadata, dict):
        licence = plain_line(metadata.get("licence") or metadata.get("license"))
    if isinstance(flavours, dict):
        for name in ("onnx", "sklearn", *_ONE_FILE):
            if isinstance(flavour := flavours.get(name), dict):
                return _flavour(name, flavour, licence, said_by)
    names = ", ".join(sorted(map(str, flavours))) if isinstance(flavours, dict) else "none"
    raise MlspecError(
        f"{said_by} is of a kind that is not taken over (flavours: {show(names)})",
        hint="convert it to ONNX, log that with mlflow.onnx, and adopt it; or keep the files as "
        "a dataset",
    )


def _flavour(name: str, flavour: Mapping[str, Any], licence: str, said_by: str) -> Flavour:
    if name == "onnx":
        return Flavour(check_file(flavour.get("data"), said_by), "onnx", "ONNX", licence)
    if name == "sklearn":
        file = check_file(flavour.get("pickled_model"), said_by)
        if flavour.get("serialization_format") == "skops":
            return Flavour(file, "skops", "scikit-learn, skops", licence)
        why = "a pickle may run any code when it is loaded"
        return Flavour(file, "", "scikit-learn, a pickle", licence, why)
    file = check_file(flavour.get("data"), said_by)
    if file.endswith(_PICKLES):
        why = "a pickle may run any code when it is loaded"
        return Flavour(file, "", f"{name}, a pickle", licence, why)
    return Flavour(file, name, name, licence)
