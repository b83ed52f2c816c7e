"""The signature of an estimator of scikit-learn, however it was kept.

One that was fitted on a data frame has the layout `columns`, else `matrix`. scikit-learn does not
keep the types of columns: a column is text if an encoder has learned texts from it, else a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from mlspec.formats.answers import ROWS, describe_outputs
from mlspec.formats.inspect import Unservable, check_columns

_TYPES = {bool: "boolean", float: "number", int: "integer", str: "string"}


def describe_estimator(
    estimator: Any, known: Mapping[str, Mapping[str, Any]] = MappingProxyType({})
) -> dict[str, Any]:
    """Run it on two rows and say what it takes and gives; `Unservable` if it does not answer.

    `known` has the types of columns, whether a value was missing and an example of one, where that
    is known.
    """
    if not hasattr(estimator, "predict"):
        raise Unservable(f"holds a {type(estimator).__name__}, which has no predict")
    named = getattr(estimator, "feature_names_in_", None)
    width = getattr(estimator, "n_features_in_", None)
    if named is None and width is None:
        raise Unservable("does not say how many columns it was fitted on; is it fitted?")
    names = [str(name) for name in named] if named is not None else number_columns(width or 0)
    check_columns(names)
    texts = dict(_text_columns(estimator, names))
    example: dict[str, Any] = {
        name: texts.get(name, known[name]["example"] if name in known else 0.0) for name in names
    }
    outputs = _try_outputs(estimator, example, framed=named is not None)
    columns: list[dict[str, Any]] = []
    for name, value in example.items():
        column: dict[str, Any] = {"name": name, "type": _TYPES[type(value)]}
        gap = name in known and known[name]["missing"] and column["type"] == "number"
        if gap and _answers(estimator, {**example, name: None}, framed=named is not None):
            column["missing"] = True
        columns.append(column)
    return {
        "columns": columns,
        "layout": "matrix" if named is None else "columns",
        "input": None,
        "outputs": outputs,
        "example": example,
    }


def _answers(estimator: Any, row: dict[str, Any], *, framed: bool) -> bool:
    """Whether it answers a row without a value."""
    try:
        _try_outputs(estimator, row, framed=framed)
    except Unservable:
        return False
    return True


def number_columns(width: int) -> list[str]:
    """Names for columns that have none."""
    return [f"x{number}" for number in range(width)]


def _text_columns(estimator: Any, names: list[str]) -> Iterator[tuple[str, str]]:
    """Columns whose encoder has learned texts, each with one of them."""
    for step in _steps(estimator):
        for _, transformer, chosen in getattr(step, "transformers_", ()):
            if not isinstance(chosen, (list, tuple)):
                continue
            for encoder in _steps(transformer):
                learned = getattr(encoder, "categories_", ())
                for column, values in zip(chosen, learned, strict=False):
                    name = names[column] if isinstance(column, int) else str(column)
                    if isinstance(text := next(iter(values), None), str):
                        yield name, text


def _steps(estimator: Any) -> list[Any]:
    return [step for _, step in getattr(estimator, "steps", ())] or [estimator]


def _try_outputs(estimator: Any, example: dict[str, Any], *, framed: bool) -> list[dict[str, str]]:
    import numpy

    table: Any = numpy.array([list(example.values())] * ROWS)
    if framed:
        try:
            from pandas import DataFrame  # type: ignore[import-untyped]
        except ImportError:
            pass
        else:
            table = DataFrame([example] * ROWS)
    try:
        if None in example.values() and not framed:
            table = table.astype(float)
        predictions = estimator.predict(table)
        probable = hasattr(estimator, "predict_proba")
        probabilities = estimator.predict_proba(table) if probable else None
    except Exception as error:  # whatever its steps raise
        raise Unservable(f"loads, but does not answer: {error}") from None
    return describe_outputs(predictions, probabilities)
