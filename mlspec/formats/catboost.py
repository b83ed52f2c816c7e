"""Reads the signature of a CatBoost model; runs in the child process of `mlspec.formats`.

The `.cbm` that `save_model` writes. A model that knows its classes answers as `CatBoostClassifier`
does, any other as `CatBoostRegressor` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlspec.formats.answers import ROWS, describe_outputs
from mlspec.formats.estimator import number_columns
from mlspec.formats.inspect import Unservable, check_columns

SAVE = 'write it with save_model(path), in its own format "cbm"'
MAGIC = b"CBM1"


def read_signature(path: Path) -> dict[str, Any]:
    """Check the model, run it on two rows and say what it takes and gives."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise Unservable("is not a CatBoost model", SAVE)
    model = load_model(path)
    if model.get_embedding_feature_indices():
        raise Unservable("takes embeddings, which are not values of a row")
    names = list(model.feature_names_)
    if names == [str(number) for number in range(len(names))]:
        names = number_columns(len(names))
    check_columns(names)
    texts = {*model.get_cat_feature_indices(), *model.get_text_feature_indices()}
    columns = [
        {"name": name, "type": "string"}
        if number in texts
        else {"name": name, "type": "number", "missing": True}
        for number, name in enumerate(names)
    ]
    example = {column["name"]: "" if column["type"] == "string" else 0.0 for column in columns}
    return {
        "columns": columns,
        "layout": "matrix",
        "input": None,
        "outputs": _try_outputs(model, list(example.values())),
        "example": example,
    }


def load_model(path: Path) -> Any:
    """The estimator, of classes if it knows them."""
    import catboost

    try:
        known = catboost.CatBoost().load_model(str(path), format="cbm").classes_
        kind = catboost.CatBoostClassifier if len(known) else catboost.CatBoostRegressor
        return kind().load_model(str(path), format="cbm")
    except catboost.CatBoostError as error:
        first = str(error).strip().splitlines()[-1:] or ["damaged"]
        raise Unservable(f"is not a CatBoost model: {first[0].strip()}", SAVE) from None


def _try_outputs(model: Any, row: list[Any]) -> list[dict[str, str]]:
    table = [row] * ROWS
    try:
        answers = model.predict(table, thread_count=1)
        probable = hasattr(model, "predict_proba")
        shares = model.predict_proba(table, thread_count=1) if probable else None
    except Exception as error:
        raise Unservable(f"loads, but does not answer: {error}") from None
    return describe_outputs(answers, shares)
