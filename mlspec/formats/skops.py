"""Reads the signature of a skops file; runs in the child process of `mlspec.formats`.

An estimator that was fitted on a data frame has the layout `columns`, else `matrix`. scikit-learn
does not keep the types of columns: a column is text if an encoder has learned texts from it, else a
number.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import Unservable, check_columns


def read_signature(path: Path) -> dict[str, Any]:
    """Load the estimator, run it on two rows and say what it takes and gives."""
    estimator = _load_estimator(path)
    if not hasattr(estimator, "predict"):
        raise Unservable(f"holds a {type(estimator).__name__}, which has no predict")
    named = getattr(estimator, "feature_names_in_", None)
    width = getattr(estimator, "n_features_in_", None)
    if named is None and width is None:
        raise Unservable("does not say how many columns it was fitted on; is it fitted?")
    names = [str(name) for name in named] if named is not None else _numbered(width)
    check_columns(names)
    texts = dict(_text_columns(estimator, names))
    example = {name: texts.get(name, 0.0) for name in names}
    return {
        "columns": [
            {"name": name, "type": "string" if name in texts else "number"} for name in names
        ],
        "layout": "matrix" if named is None else "columns",
        "input": None,
        "outputs": _try_outputs(estimator, example, framed=named is not None),
        "example": example,
    }


def _numbered(width: int | None) -> list[str]:
    return [f"x{number}" for number in range(width or 0)]


def _load_estimator(path: Path) -> Any:
    import skops.io

    if not zipfile.is_zipfile(path):
        raise Unservable("is not a skops file", "write it with skops.io.dump(estimator, path)")
    try:
        named = skops.io.get_untrusted_types(file=path)
        if refused := [name for name in named if not is_trusted(name)]:
            raise Unservable(
                f"holds types that are not loaded: {', '.join(refused)}",
                "only estimators of scikit-learn and functions of numpy are served from skops",
            )
        return skops.io.load(path, trusted=named)
    except Unservable:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise Unservable(f"is not loaded by skops: {error}") from None


def is_trusted(name: str) -> bool:
    """Classes of scikit-learn; scalar types and elementwise functions of numpy.

    The generated service holds the same rule, because it runs without mlspec.
    """
    import numpy

    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package not in ("sklearn", "numpy"):
        return False
    try:
        value = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    if package == "sklearn":
        return isinstance(value, type)
    scalar = isinstance(value, type) and issubclass(value, numpy.generic)
    return scalar or isinstance(value, numpy.ufunc)


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

    table: Any = numpy.array([list(example.values())] * 2)
    if framed:
        try:
            from pandas import DataFrame  # type: ignore[import-untyped]
        except ImportError:
            pass
        else:
            table = DataFrame([example, example])
    try:
        predictions = numpy.asarray(estimator.predict(table))
        probable = hasattr(estimator, "predict_proba")
        if probable:
            estimator.predict_proba(table)
    except Exception as error:  # whatever its steps raise
        raise Unservable(f"loads, but does not answer: {error}") from None
    kinds = {"i": "integer", "u": "integer", "f": "number", "b": "boolean"}
    kind = kinds.get(predictions.dtype.kind, "string")
    if predictions.ndim == 2 and predictions.shape[1] > 1:
        kind = f"{kind}s"
    outputs = [{"name": "predict", "type": kind, "role": "prediction"}]
    if probable:
        outputs.append({"name": "predict_proba", "type": "numbers", "role": "probabilities"})
    return outputs
