"""Reads the signature of an XGBoost model; runs in the child process of `mlspec.formats`.

JSON or UBJSON, as XGBoost writes them itself. An objective of classes gives the number of the
class and the probabilities of all, as `XGBClassifier` does; any other what `Booster.predict` gives.
"""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

from mlspec.formats.answers import ROWS, describe_outputs
from mlspec.formats.estimator import number_columns
from mlspec.formats.inspect import Unservable, check_columns

SAVE = "write it with save_model, to a path that ends in .json or .ubj"
_TYPES = {"int": "integer", "i": "boolean"}
_EXAMPLES: dict[str, Any] = {"number": 0.0, "integer": 0, "boolean": False, "string": ""}
_PLACE = re.compile(r"^\[[^]]*\] [^ ]*: ")


def read_signature(path: Path) -> dict[str, Any]:
    """Check the model, run it on two rows and say what it takes and gives."""
    booster = load_model(path)
    width = booster.num_features()
    kinds = booster.feature_types or ["float"] * width
    categories = _categories(booster) if "c" in kinds else {}
    names = booster.feature_names or number_columns(width)
    check_columns(names)
    columns, example, values = [], {}, []
    for number, (name, kind) in enumerate(zip(names, kinds, strict=True)):
        known = categories.get(number)
        if known:
            type_ = "string" if isinstance(known[0], str) else "integer"
        else:
            type_ = "integer" if kind == "c" else _TYPES.get(kind, "number")
        columns.append({"name": name, "type": type_, "missing": True})
        example[name] = known[0] if known else _EXAMPLES[type_]
        values.append(0.0)
    return {
        "columns": columns,
        "layout": "matrix",
        "input": None,
        "outputs": _try_outputs(booster, values),
        "example": example,
    }


def load_model(path: Path) -> Any:
    """The booster, on one thread and silent."""
    data = path.read_bytes()
    if data[:4] in (b"binf", b"bs64", b"CONF"):
        raise Unservable("is of XGBoost's old binary format, which it reads no more", SAVE)
    if data.lstrip()[:1] != b"{":
        raise Unservable("is not an XGBoost model", SAVE)
    import xgboost

    booster = xgboost.Booster(params={"nthread": 1, "verbosity": 0})
    try:
        booster.load_model(bytearray(data))
    except Exception as error:  # XGBoostError, and what its reader of JSON raises
        first = _PLACE.sub("", str(error).partition("\n")[0])
        raise Unservable(f"is not an XGBoost model: {first}", SAVE) from None
    return booster


def _categories(booster: Any) -> dict[int, list[Any]]:
    """The categories of each column that has them, in the order of their codes."""
    model = json.loads(booster.save_raw("json"))["learner"]["gradient_booster"]
    model = model.get("gbtree", model)["model"]
    found: dict[int, list[Any]] = {}
    for number, kept in enumerate(model.get("cats", {}).get("enc", ())):
        values = kept["values"]
        if "offsets" in kept:
            if any(not 0 <= byte < 128 for byte in values):
                # it counts characters where it keeps bytes, so all that follows is shifted
                raise Unservable(
                    "has categories that are not ASCII, which XGBoost does not keep whole",
                    "fit it on other names for them, or on their codes",
                )
            values = [bytes(values[a:b]).decode() for a, b in pairwise(kept["offsets"])]
        if values:
            found[number] = values
    return found


def _try_outputs(booster: Any, values: list[float]) -> list[dict[str, str]]:
    import numpy
    import xgboost

    objective = json.loads(booster.save_config())["learner"]["objective"]["name"]
    try:
        answers = booster.predict(xgboost.DMatrix([values] * ROWS), validate_features=False)
    except Exception as error:
        first = _PLACE.sub("", str(error).partition("\n")[0])
        raise Unservable(f"loads, but does not answer: {first}") from None
    if objective == "binary:logistic" and answers.ndim == 1:
        return describe_outputs([0] * ROWS, numpy.column_stack([1 - answers, answers]))
    if objective == "multi:softprob":
        return describe_outputs([0] * ROWS, answers)
    return describe_outputs(answers)
