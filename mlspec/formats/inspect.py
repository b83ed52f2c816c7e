"""`python -m mlspec.formats.inspect FORMAT PATH`: loads an artifact and prints its signature.

A child process, because an artifact is somebody's data and its loaders are native code: memory and
processor time are limited. Prints one JSON object, `{"signature": ...}` or `{"problem", "hint"}`.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

PROCESSOR_SECONDS = 90
MEMORY = 8 * 2**30
MAX_COLUMNS = 4096
PACKAGES = {
    "catboost": "catboost",
    "h5py": "'mlspec[keras]'",
    "keras": "'mlspec[keras]'",
    "lightgbm": "lightgbm",
    "onnxmltools": "'mlspec[convert]'",
    "onnxscript": "'mlspec[convert]'",
    "pandas": "pandas",
    "safetensors": "'mlspec[torch]'",
    "skl2onnx": "'mlspec[convert]'",
    "torch": "'mlspec[torch]'",
    "transformers": "'mlspec[transformers]'",
    "xgboost": "xgboost-cpu",
}
"""What brings a module, where that is not with mlspec."""
HOW_TO_SAVE = {
    "catboost": "write it with model.save_model(path)",
    "keras": "write it with model.save(path), to a path that ends in .keras",
    "lightgbm": "write it with booster_.save_model(path)",
    "pytorch": "write it with torch.export.save(torch.export.export(model, ...), path)",
    "safetensors": "write it with safetensors.torch.save_file(model.state_dict(), path)",
    "torchscript": "write it with torch.jit.script(model).save(path)",
    "transformers": "write it with pipeline.save_pretrained(folder)",
    "xgboost": "write it with model.save_model(path), to a path that ends in .ubj or .json",
}
"""Where a pickle was written and the framework has a format of its own."""
UNCHECKED = ("joblib", "python", "transformers")
"""Formats whose bytes are whatever they are, or of a folder; `joblib` is known to be a pickle."""
PICKLE_HEADS = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


class Unservable(Exception):
    """Why an artifact can not be served, and what to do about it."""

    def __init__(self, problem: str, hint: str = "") -> None:
        super().__init__(problem)
        self.answer = {"problem": problem, "hint": hint}


def main() -> None:
    kind, path = sys.argv[1], Path(sys.argv[2])
    options = json.loads(sys.argv[3]) if len(sys.argv) > 3 else {}
    trained = options.pop("training", None)

    def read() -> dict[str, Any]:
        check_bytes(kind, path)
        reader = importlib.import_module(f"mlspec.formats.{kind}")
        if trained is None:
            return {"signature": reader.read_signature(path, **options)}
        training = importlib.import_module("mlspec.formats.training")
        known = training.infer_columns(**trained)
        if kind in training.ASKED:
            options["columns"] = training.columns_for(kind, known)
        if kind in training.TRIED:
            options["known"] = known
        signature = reader.read_signature(path, **options)
        return {"signature": training.refine(signature, kind, known)}

    answer_with(read, PROCESSOR_SECONDS)


def answer_with(work: Callable[[], dict[str, Any]], seconds: int) -> None:
    """Print what `work` returns, or why it could not, within `seconds` of processor time."""
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    # Native code may write to the standard output, which belongs to the answer.
    answer_to = os.dup(1)
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    answer: dict[str, Any]
    try:
        answer = work()
    except Unservable as error:
        answer = error.answer
    except ModuleNotFoundError as error:
        problem = f"the package {error.name} is needed to load it and is not installed"
        package = PACKAGES.get(error.name or "", "'mlspec[serve]'")
        answer = {"problem": problem, "hint": f"pip install {package}"}
    except MemoryError:
        answer = {"problem": f"needs more than {MEMORY // 2**30} GiB of memory"}
    os.write(answer_to, json.dumps(answer).encode())


def check_bytes(kind: str, path: Path) -> None:
    """Nothing is loaded that is a pickle, unless its format says so."""
    if kind in UNCHECKED:
        return
    with path.open("rb") as file:
        head = file.read(2)
    if not head:
        raise Unservable("is empty")
    if head in PICKLE_HEADS:
        raise Unservable(
            "is a pickle, which can run any code when it is loaded",
            HOW_TO_SAVE.get(kind, "write ONNX (skl2onnx) or skops (skops.io.dump)"),
        )


def check_columns(names: list[str]) -> None:
    """A row is a JSON object, so names are unique and not without bound."""
    if len(names) > MAX_COLUMNS:
        raise Unservable(f"takes {len(names)} columns; at most {MAX_COLUMNS} can be served")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise Unservable(f"has more than one column named {repeated[0]!r}")


if __name__ == "__main__":
    # The readers import this module by its name; without this there would be two `Unservable`.
    sys.modules["mlspec.formats.inspect"] = sys.modules["__main__"]
    main()
