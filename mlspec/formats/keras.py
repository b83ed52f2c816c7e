"""Reads the signature of a Keras model; runs in the child process of `mlspec.formats`.

A `.keras` file of layers that Keras itself has. What could run code of the file or of elsewhere is
refused before Keras reads it: lambdas, and classes and functions of other packages. It runs on
PyTorch.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import HOW_TO_SAVE, Unservable
from mlspec.formats.tensors import (
    describe_model,
    first_line,
    open_archive,
    split_answer,
    take_columns,
)

KIND = "a Keras model"
SAVE = HOW_TO_SAVE["keras"]
NEEDED = ("config.json", "metadata.json", "model.weights.h5")


def read_signature(path: Path, *, columns: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Run it on two rows and say what it takes and gives."""
    with open_archive(path, KIND, SAVE) as archive:
        if not set(NEEDED) <= set(archive.namelist()):
            raise Unservable(f"is not {KIND}", SAVE)
        try:
            config = json.loads(archive.read("config.json"))
        except ValueError:
            raise Unservable(f"is not {KIND}: its config.json is no JSON", SAVE) from None
    _check_config(config)
    model = _load(path)
    if len(model.inputs) != 1:
        raise Unservable(
            f"takes {len(model.inputs)} tensors", "make it of one input, such as Input((30,))"
        )
    rows, *sizes = model.inputs[0].shape
    if rows is not None:
        raise Unservable(f"takes exactly {rows} rows at once", "make its Input without batch_size")
    if None in sizes:
        raise Unservable("does not say how many values a row has", "give its Input all sizes")
    dtype = str(model.inputs[0].dtype)
    if dtype not in ("float16", "float32", "float64", "int32", "int64"):
        raise Unservable(f"takes tensors of {dtype}", "make its Input of float32 or int64")
    found = take_columns(columns or {}, None, math.prod(sizes), whole=dtype.startswith("int"))
    return describe_model(found, sizes, dtype, _runner(model))


def _check_config(config: Any) -> None:
    for part in _objects(config):
        name, module = part.get("class_name"), part.get("module")
        if name in ("Lambda", "__lambda__") or module == "keras.src.saving.serialization_lib":
            raise Unservable(
                "has a lambda, which is code that runs when it is loaded",
                "write the layer with layers and functions of Keras",
            )
        if part.get("registered_name") and ">" in str(part["registered_name"]):
            raise Unservable(*_foreign(str(part["registered_name"])))
        if isinstance(name, str) and isinstance(module, str):
            package = module.partition(".")[0]
            if package not in ("keras", "builtins"):
                raise Unservable(*_foreign(f"{module}.{name}"))


def _foreign(name: str) -> tuple[str, str]:
    return (
        f"has {name[:200]}, which is not of Keras",
        "a service has Keras alone; serve it by a class of your own: `format: python`",
    )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, list):
        for inner in value:
            yield from _objects(inner)


def _load(path: Path) -> Any:
    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    import torch

    torch.set_num_threads(1)
    try:
        # Keras goes by the ending of the name, which a file of the cache does not have
        with tempfile.TemporaryDirectory(prefix="mlspec-") as folder:
            (named := Path(folder, "model.keras")).symlink_to(path)
            model = keras.saving.load_model(named, compile=False, safe_mode=True)
        if not getattr(model, "inputs", None):
            raise Unservable(
                "has not been built: it does not say what it takes", "give it an Input"
            )
    except Unservable:
        raise
    except Exception as error:  # whatever its layers raise
        raise Unservable(f"is not {KIND}: {first_line(error)}", SAVE) from None
    return model


def _runner(model: Any) -> Any:
    import torch

    def run(rows: Any) -> list[Any]:
        with torch.inference_mode():
            answer = model(rows, training=False)
        return split_answer(answer)

    return run
