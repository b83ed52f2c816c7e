"""What a model answers, told from its answers to two rows: the `outputs` of a signature."""

from __future__ import annotations

from typing import Any

from mlspec.formats.inspect import Unservable

ROWS = 2
_KINDS = {"i": "integer", "u": "integer", "f": "number", "b": "boolean", "U": "string"}


def describe_outputs(predictions: Any, probabilities: Any = None) -> list[dict[str, str]]:
    """The outputs of answers to :data:`ROWS` rows; `Unservable` if they are not one for each."""
    import numpy

    found = numpy.asarray(predictions)
    if found.ndim not in (1, 2) or len(found) != ROWS:
        raise Unservable(*_not_by_row("predictions", found))
    kind = _KINDS.get(found.dtype.kind) or _kind_of_objects(found)
    if found.ndim == 2 and found.shape[1] > 1:
        kind = f"{kind}s"
    outputs = [{"name": "predict", "type": kind, "role": "prediction"}]
    if probabilities is not None:
        shares = numpy.asarray(probabilities)
        if shares.ndim != 2 or len(shares) != ROWS or shares.dtype.kind not in "fiu":
            raise Unservable(*_not_by_row("probabilities", shares))
        outputs.append({"name": "predict_proba", "type": "numbers", "role": "probabilities"})
    return outputs


def _kind_of_objects(found: Any) -> str:
    """Estimators that were fitted on texts answer with objects."""
    if all(isinstance(value, str) for value in found.ravel().tolist()):
        return "string"
    raise Unservable(
        f"predicts values of the type {type(found.ravel()[0]).__name__}",
        "numbers, texts, true and false can be answered, and lists of them",
    )


def _not_by_row(what: str, found: Any) -> tuple[str, str]:
    shape = list(found.shape)
    return (
        f"its {what} for {ROWS} rows have the shape {shape}; one for each row is needed",
        "answer with a list or an array that has an entry for each row, in order",
    )
