"""What models of tensors have in common: PyTorch in its forms, and Keras.

Rows become one tensor `[N, ...]`, each row of which is laid flat. A model answers with a tensor
`[N]` or `[N, K]`, its prediction; if with two of them, the second one are probabilities. Which
columns it takes says the spec, else the file if its form can keep names, else they are numbered.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlspec.formats.answers import ROWS, describe_outputs
from mlspec.formats.estimator import number_columns
from mlspec.formats.inspect import Unservable, check_columns

EXAMPLES: dict[str, Any] = {"number": 0.0, "integer": 0, "boolean": False}
ANSWER = "have it answer with a tensor [N] or [N, K], or with two: predictions and probabilities"


def take_columns(
    declared: Mapping[str, str], kept: str | None, width: int | None, *, whole: bool = False
) -> list[dict[str, str]]:
    """The columns of a model that takes `width` values in a row, if that is known.

    `declared` are those of the spec, `kept` is the list of names that the file has, as JSON;
    `whole` says that it takes whole numbers.
    """
    kind = "integer" if whole else "number"
    columns = dict(declared) or dict.fromkeys(_read_names(kept), kind)
    if not columns and width is None:
        raise Unservable(
            "which columns it takes is not known", "declare them: `columns: {age: number, ...}`"
        )
    columns = columns or dict.fromkeys(number_columns(width or 0), kind)
    check_columns(list(columns))
    if width is not None and len(columns) != width:
        raise Unservable(f"takes {width} values in a row, and {len(columns)} columns are named")
    for name, said in columns.items():
        if said not in EXAMPLES:
            raise Unservable(f"takes tensors, and its column {name!r} is a {said}")
        if whole and said == "number":
            raise Unservable(f"takes whole numbers, and its column {name!r} is a number")
    return [{"name": name, "type": said} for name, said in columns.items()]


def describe_model(
    columns: Sequence[Mapping[str, str]],
    shape: Sequence[int],
    dtype: Any,
    run: Callable[[Any], Any],
) -> dict[str, Any]:
    """The signature of a model that answers arrays of numpy, `dtype` and `[N, *shape]`, by `run`.

    It is tried on two rows and on one, since an exported one may take a fixed number.
    """
    import numpy

    try:
        for count in (1, ROWS):
            outputs = run(numpy.zeros((count, *shape), dtype))
    except Unservable:
        raise
    except Exception as error:  # whatever the model raises
        raise Unservable(f"loads, but does not answer: {first_line(error)}") from None
    return {
        "columns": list(columns),
        "layout": "matrix",
        "input": None,
        "outputs": describe_outputs(*outputs),
        "example": {column["name"]: EXAMPLES[column["type"]] for column in columns},
    }


def run_torch(model: Any) -> Callable[[Any], list[Any]]:
    """Runs a module of PyTorch on arrays of numpy, on one thread."""
    import torch

    torch.set_num_threads(1)

    def run(rows: Any) -> list[Any]:
        with torch.inference_mode():
            answer = model(torch.from_numpy(rows))
        return split_answer(answer)

    return run


def split_answer(answer: Any) -> list[Any]:
    """The one or two arrays that a model of PyTorch answers with."""
    import torch

    outputs = list(answer) if isinstance(answer, (tuple, list)) else [answer]
    if not 0 < len(outputs) < 3 or not all(isinstance(each, torch.Tensor) for each in outputs):
        raise Unservable("does not answer with one tensor, nor with two", ANSWER)
    # numpy has no bfloat16
    return [(each.float() if each.dtype == torch.bfloat16 else each).numpy() for each in outputs]


def number_type(model: Any, columns: Sequence[Mapping[str, str]]) -> str:
    """numpy's name of what a module takes: whole numbers, or numbers like its weights."""
    if all(column["type"] == "integer" for column in columns):
        return "int64"
    floats = (each.dtype for each in model.parameters() if each.is_floating_point())
    name = str(next(floats, "torch.float32")).removeprefix("torch.")
    if name not in ("float32", "float64"):
        raise Unservable(f"has weights of {name}", "write it as float32: model.float()")
    return name


def open_archive(path: Path, what: str, hint: str) -> zipfile.ZipFile:
    """A zip file in which no two files have one name."""
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, OSError):
        raise Unservable(f"is not {what}", hint) from None
    names = archive.namelist()
    if len(set(names)) < len(names):
        # one reader takes the first of them and another the last
        raise Unservable(f"is not {what}: it has two files of one name", hint)
    return archive


def list_members(archive: zipfile.ZipFile, what: str, hint: str) -> dict[str, str]:
    """The whole names of what PyTorch wrote, by their path below its one folder."""
    folders = {name.partition("/")[0] for name in archive.namelist()}
    if len(folders) != 1:
        raise Unservable(f"is not {what}", hint)
    return {name.partition("/")[2]: name for name in archive.namelist()}


def first_line(error: Exception) -> str:
    """What an exception says, in a line that is not too long."""
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:300]


def _read_names(kept: str | None) -> list[str]:
    if kept is None:
        return []
    try:
        names = json.loads(kept)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unservable("its `columns` is not a JSON list of names")
    check_columns(names)
    return names
