"""What the data say that a model was trained on: names and types of columns, where values miss.

Formats tell different parts of this: some the names and no types, some neither. What the artifact
itself says counts more; columns that it takes and the data do not have are an error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import Unservable

TENSORS = ("keras", "pytorch", "safetensors", "torchscript")
"""Formats that take numbers, all of one type, in the order of the columns."""
ASKED = (*TENSORS, "python")
"""Formats that do not tell their columns."""
TRIED = ("joblib", "python", "skops")
"""Formats of which it has to be tried whether they answer where a value is missing."""
MOST_ROWS = 1_000_000
Known = Mapping[str, Mapping[str, Any]]
"""By name in the order of the data: `type`, `missing`, and `example`, a value that is there."""


def infer_columns(path: str, target: str = "", without: Collection[str] = ()) -> Known:
    """The columns of the table at `path` that are no `target` and not in `without`."""
    file = Path(path)
    frame = read_table(file, "the training data")
    apart = [*([target] if target else []), *without]
    if gone := [name for name in apart if name not in frame]:
        raise Unservable(f"the training data {file.name} have no column {gone[0]!r}")
    frame = frame.drop(columns=apart)
    if frame.empty:
        raise Unservable(f"the training data {file.name} have no row, or no column but these")
    return {str(name): _describe(frame[name], str(name), file.name) for name in frame}


def read_table(path: Path, what: str) -> Any:
    """A data frame of CSV or Parquet; `what` it is, for people."""
    import pandas  # type: ignore[import-untyped]

    if path.is_dir():
        raise Unservable(f"{what} {path.name} is a folder, not a file of CSV or Parquet")
    try:
        if path.suffix in (".parquet", ".pq"):
            return pandas.read_parquet(path)
        return pandas.read_csv(path, nrows=MOST_ROWS, sep="\t" if path.suffix == ".tsv" else ",")
    except ModuleNotFoundError:
        raise
    except ImportError:
        raise Unservable(
            f"{what} {path.name} is Parquet, and pyarrow is not installed",
            "pip install 'mlspec[parquet]'",
        ) from None
    except (OSError, ValueError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Unservable(f"{what} {path.name} is not read: {said[:200]}") from None


def _describe(column: Any, name: str, file: str) -> dict[str, Any]:
    from pandas.api import types  # type: ignore[import-untyped]

    there = column.dropna()
    values = there.head(1000).tolist()
    missing = len(there) < len(column)
    if not values:
        raise Unservable(f"the training data {file} have no value in the column {name!r}")
    if types.is_bool_dtype(column) or all(isinstance(value, bool) for value in values):
        kind = "boolean"
    elif types.is_integer_dtype(column) and not missing:
        kind = "integer"
    elif types.is_numeric_dtype(column):
        kind = "number"
    elif all(isinstance(value, str) for value in values):
        kind = "string"
    elif all(isinstance(value, int) for value in values):
        kind = "integer"
    else:
        raise Unservable(
            f"the column {name!r} of the training data {file} has values of the type "
            f"{type(values[0]).__name__}, which no row of JSON has",
            "name data with numbers, texts, true and false, or leave it out: `without: [...]`",
        )
    casts: dict[str, Any] = {"boolean": bool, "integer": int, "number": float, "string": str}
    return {"type": kind, "missing": missing, "example": casts[kind](values[0])}


def columns_for(kind: str, known: Known) -> dict[str, str]:
    """The types of the columns as a format takes them."""
    if kind not in TENSORS:
        return {name: each["type"] for name, each in known.items()}
    if texts := [name for name, each in known.items() if each["type"] == "string"]:
        raise Unservable(
            f"takes tensors, and the column {texts[0]!r} of the training data is text",
            "leave out what is no input: `without: [...]`",
        )
    return {
        name: "boolean" if each["type"] == "boolean" else "number" for name, each in known.items()
    }


def refine(signature: dict[str, Any], kind: str, known: Known) -> dict[str, Any]:
    """The signature of an artifact with what only the data tell."""
    names = [column["name"] for column in signature["columns"]]
    numbered = names == [f"x{number}" for number in range(len(names))]
    if numbered and not known.keys() & set(names) and len(known) == len(names):
        new = dict(zip(names, known, strict=True))
        signature = {
            **signature,
            "columns": [{**each, "name": new[each["name"]]} for each in signature["columns"]],
            "example": {new[name]: value for name, value in signature["example"].items()},
        }
        names = list(known)
    if gone := [name for name in names if name not in known]:
        raise Unservable(
            f"takes a column {gone[0]!r} that the training data do not have",
            "name the data that it was fitted on: `signature: {from: ...}`",
        )
    if kind in TENSORS:
        return signature
    columns, example = [], dict(signature["example"])
    for column in signature["columns"]:
        name, said = column["name"], known[column["name"]]
        if column["type"] == "number" and said["type"] == "string":
            raise Unservable(f"takes numbers in {name!r}, and the training data have texts there")
        made = dict(column)
        if column["type"] == "number" and said["type"] == "integer":
            made["type"], example[name] = "integer", int(example[name])
        if not said["missing"]:
            made.pop("missing", None)
        columns.append(made)
    return {**signature, "columns": columns, "example": example}
