"""Reads the signature of a class of the user's; runs in the child process of `mlspec.formats`.

The class is made with the path of the artifact. It has `predict`, and may have `predict_proba` and
`signature`, which says `columns` and perhaps an `example` where the spec does not. Its code is a
copy of exactly the files that its service will have, so what is missing there is missed here.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.formats.answers import ROWS, describe_outputs
from mlspec.formats.inspect import Unservable, check_columns

EXAMPLES: dict[str, Any] = {"number": 0.0, "integer": 0, "string": "", "boolean": False}
FIXED = "mend the class; its code is no input of a stage, so nothing is trained again"


def read_signature(
    path: Path,
    *,
    class_name: str,
    code: str,
    framed: bool = False,
    columns: Mapping[str, str] | None = None,
    example: Mapping[str, Any] | None = None,
    known: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Make the class, have it answer two rows and say what it takes and gives.

    `code` is the folder that its modules are imported from; `framed` if it takes data frames.
    `known` is what the training data say of its columns.
    """
    kind = find_class(class_name, code)
    predictor = call(class_name, "__init__", lambda: kind(str(path)))
    said: Mapping[str, Any] = {}
    if not columns and callable(getattr(predictor, "signature", None)):
        said = call(class_name, "signature", predictor.signature)
        if not isinstance(said, Mapping):
            raise Unservable(f"{class_name}.signature() is not a dict", FIXED)
    columns = dict(columns or said.get("columns") or {})
    _check(class_name, columns)
    given = {name: EXAMPLES[kind] for name, kind in columns.items()}
    given |= {name: each["example"] for name, each in (known or {}).items()}
    given = dict(example or said.get("example") or given)
    if given.keys() != columns.keys():
        raise Unservable("its example is not a row of its columns", FIXED)
    given = {name: given[name] for name in columns}
    outputs = _try_outputs(predictor, class_name, given, framed=framed)
    gaps = [name for name, each in (known or {}).items() if each["missing"]]
    taken = {
        name
        for name in gaps
        if _answers(predictor, class_name, {**given, name: None}, framed=framed)
    }
    return {
        "columns": [
            {"name": name, "type": kind, **({"missing": True} if name in taken else {})}
            for name, kind in columns.items()
        ],
        "layout": "columns" if framed else "rows",
        "input": None,
        "outputs": outputs,
        "example": given,
    }


def _answers(predictor: Any, class_name: str, row: dict[str, Any], *, framed: bool) -> bool:
    """Whether it answers a row without a value."""
    try:
        _try_outputs(predictor, class_name, row, framed=framed)
    except Unservable:
        return False
    return True


def find_class(class_name: str, code: str) -> Any:
    """What makes a predictor or a module; `Unservable` if it is not there or not imported."""
    module_name, _, name = class_name.partition(":")
    sys.path[:0] = [code, f"{code}/src"]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise Unservable(
            f"{module_name} does not find the module {error.name}",
            "if it is one of the repository, name its file under `code` of the artifact; else pin "
            "its package in the requirements and install it here",
        ) from None
    except Exception as error:  # whatever the user's module raises
        raise Unservable(f"{module_name} is not imported: {_said(error)}", FIXED) from None
    kind = getattr(module, name, None)
    if not callable(kind):
        raise Unservable(f"{module_name} has no {name}", FIXED)
    return kind


def _check(class_name: str, columns: Mapping[str, Any]) -> None:
    if not columns:
        raise Unservable(
            "which columns it takes is not known",
            f"declare `columns` in the spec, or give {class_name} a method `signature`",
        )
    for column, kind in columns.items():
        if not isinstance(column, str) or kind not in EXAMPLES:
            kinds = ", ".join(EXAMPLES)
            raise Unservable(f"its column {column!r} is {kind!r}, which is none of {kinds}", FIXED)
    check_columns(list(columns))


def _try_outputs(
    predictor: Any, class_name: str, example: dict[str, Any], *, framed: bool
) -> list[dict[str, str]]:
    rows: Any = [dict(example) for _ in range(ROWS)]
    if framed:
        from pandas import DataFrame  # type: ignore[import-untyped]

        rows = DataFrame(rows)
    if not callable(getattr(predictor, "predict", None)):
        raise Unservable(f"{class_name} has no method predict", FIXED)
    predictions = call(class_name, "predict", lambda: predictor.predict(rows))
    probabilities = None
    if callable(getattr(predictor, "predict_proba", None)):
        probabilities = call(class_name, "predict_proba", lambda: predictor.predict_proba(rows))
    return describe_outputs(predictions, probabilities)


def call(class_name: str, method: str, function: Any) -> Any:
    """What a function of the user's returns; `Unservable` with what it raised."""
    try:
        return function()
    except Exception as error:  # whatever the user's code raises
        hint = f"{FIXED}; a better row to try may be given as `example`"
        raise Unservable(f"{class_name}.{method} raised {_said(error)}", hint) from None


def _said(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
