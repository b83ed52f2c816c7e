"""Reads the signature of a LightGBM model; runs in the child process of `mlspec.formats`.

The text that `Booster.save_model` writes. An objective of classes gives the number of the class
and the probabilities of all; any other what `Booster.predict` gives.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlspec.formats.answers import ROWS, describe_outputs
from mlspec.formats.inspect import Unservable, check_columns

SAVE = "write it with booster.save_model(path); of an LGBMClassifier, booster_.save_model(path)"


def read_signature(path: Path) -> dict[str, Any]:
    """Check the model, run it on two rows and say what it takes and gives."""
    head = _read_head(path)
    booster = load_model(path)
    names = booster.feature_name()
    check_columns(names)
    known = _categories(head, booster.pandas_categorical or [])
    columns, example = [], {}
    for name, categories in zip(names, known, strict=True):
        type_, value = "number", 0.0
        if categories is not None:
            text = bool(categories) and isinstance(categories[0], str)
            type_ = "string" if text else "integer"
            value = categories[0] if categories else 0
        columns.append({"name": name, "type": type_, "missing": True})
        example[name] = value
    return {
        "columns": columns,
        "layout": "matrix",
        "input": None,
        "outputs": _try_outputs(booster, head.get("objective", ""), len(names)),
        "example": example,
    }


def _read_head(path: Path) -> dict[str, str]:
    """The lines before the first tree, by their keys."""
    data = path.read_bytes()
    if not data.startswith(b"tree\n"):
        raise Unservable("is not a LightGBM model: it does not begin with `tree`", SAVE)
    # LightGBM itself loads a text that was cut off, and answers with the trees that are left.
    if b"\nend of trees" not in data:
        raise Unservable("is not a whole LightGBM model: the end of its trees is missing", SAVE)
    lines = data.partition(b"\nTree=")[0].decode(errors="replace").splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def load_model(path: Path) -> Any:
    """The booster, on one thread and silent."""
    import lightgbm

    lightgbm.register_logger(_Silent())
    try:
        return lightgbm.Booster(model_file=str(path))
    except Exception as error:  # LightGBMError, and ValueError of what follows the trees
        raise Unservable(f"is not a LightGBM model: {error}", SAVE) from None


class _Silent:
    def info(self, text: str) -> None:
        """Say nothing."""

    warning = info


def _categories(head: dict[str, str], lists: list[list[Any]]) -> list[list[Any] | None]:
    """Of each column, None if it is a number; else its categories, none if they are numbers."""
    infos = head.get("feature_infos", "").split()
    places = [place for place, info in enumerate(infos) if info[0] != "[" and info != "none"]
    if lists and len(lists) != len(places):
        raise Unservable(
            f"was fitted on {len(lists)} columns of categories, and uses {len(places)} as such: "
            "which they are is not known",
            "fit it on categories that are not ordered and not constant, or on their codes",
        )
    found: list[list[Any] | None] = [None] * len(infos)
    for number, place in enumerate(places):
        found[place] = lists[number] if lists else []
    return found


def _try_outputs(booster: Any, objective: str, width: int) -> list[dict[str, str]]:
    import numpy

    try:
        answers = booster.predict(numpy.zeros((ROWS, width)), num_threads=1)
    except Exception as error:
        raise Unservable(f"loads, but does not answer: {error}") from None
    match objective.split()[:1]:
        case ["binary"]:
            return describe_outputs([0] * ROWS, numpy.column_stack([1 - answers, answers]))
        case ["multiclass" | "multiclassova"]:
            return describe_outputs([0] * ROWS, answers)
    return describe_outputs(answers)
