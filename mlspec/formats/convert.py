"""`python -m mlspec.formats.convert ARGUMENTS`: writes a model as ONNX and says what it changed.

A child process like that of `inspect`, and for the same reasons. The arguments are one JSON object:
`format`, `path`, `out`, `sample`, `trusted`. Prints `{"figures": ...}` or `{"problem", "hint"}`.

Numbers are tried as float64 and as float32, for ONNX Runtime knows some operators only in one of
them; what answers most like the model itself is written.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import Unservable, answer_with, check_bytes

PROCESSOR_SECONDS = 600
ROWS = 1000
SECONDS = 0.2
"""Processor time that is measured: a clock may be too coarse for one row."""
TOLERANCE = 1e-5
"""Numbers that differ by less, as a share of the number, count as equal: float32 keeps no more."""
Answers = Callable[[Any], Sequence[Any]]
"""From a data frame of rows to predictions and perhaps probabilities."""


def convert(
    format: str,  # noqa: A002
    path: str,
    out: str,
    sample: str,
    trusted: str = "",
) -> dict[str, float]:
    """Write the model at `path` as ONNX to `out`; how it answers the rows of `sample`."""
    if format not in ("skops", "joblib", "lightgbm", "xgboost"):
        raise Unservable(f"models of the format {format} are not converted")
    check_bytes(format, Path(path))
    reader = importlib.import_module(f"mlspec.formats.{format}")
    options = {"trusted": trusted} if format == "joblib" else {}
    signature = reader.read_signature(Path(path), **options)
    frame = _read_sample(Path(sample), signature)
    model = reader.load_model(Path(path))
    own = _own_answers(format, model, signature)
    expected = own(frame)
    best: tuple[tuple[float, float], bytes] | None = None
    failed = ""
    for wide in (True, False):
        try:
            written = _write(format, model, signature, wide=wide)
            found = _onnx_answers(written)(frame)
        except ModuleNotFoundError:
            raise
        except Exception as error:  # converters and onnxruntime have no common base class
            failed = next(iter(str(error).strip().splitlines()), type(error).__name__)
            continue
        equal, difference = compare(found, expected)
        if not math.isfinite(difference):
            failed = "it answers what is no number"
            continue
        if best is None or (-equal, difference) < best[0]:
            best = (-equal, difference), written
    if best is None:
        raise Unservable(f"is not converted: {failed[:300]}", "serve it in its own format")
    (minus_equal, difference), written = best
    part = Path(f"{out}.part")
    part.write_bytes(written)
    try:
        importlib.import_module("mlspec.formats.onnx").read_signature(part)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    one = frame.iloc[:1]
    slow, fast = _microseconds(own, one), _microseconds(_onnx_answers(written), one)
    return {
        "onnx_rows": len(frame),
        "onnx_equal": -minus_equal,
        "onnx_difference": difference,
        "onnx_microseconds": round(fast, 1),
        "own_microseconds": round(slow, 1),
        "onnx_speedup": round(slow / fast, 2),
    }


def compare(found: Sequence[Any], expected: Sequence[Any]) -> tuple[float, float]:
    """The share of predictions that are equal, and by how much a number differs at most.

    The number is a probability where there are any, else a prediction.
    """
    import numpy

    new, old = (numpy.asarray(each[0]).reshape(len(each[0]), -1) for each in (found, expected))
    if old.dtype.kind == "f":
        equal = numpy.isclose(new, old, rtol=TOLERANCE, atol=TOLERANCE)
    else:
        equal = new.astype(str) == old.astype(str)
    numbers = found[-1], expected[-1]
    if numpy.asarray(numbers[1]).dtype.kind not in "fiu":
        return float(equal.all(axis=1).mean()), 0.0
    new, old = (numpy.asarray(each, dtype=float).reshape(len(each), -1) for each in numbers)
    return float(equal.all(axis=1).mean()), float(numpy.abs(new - old).max())


def _read_sample(path: Path, signature: dict[str, Any]) -> Any:
    """At most :data:`ROWS` rows, with the columns of the model and no missing value."""
    import pandas  # type: ignore[import-untyped]

    try:
        read = pandas.read_parquet if path.suffix == ".parquet" else pandas.read_csv
        frame = read(path)
    except (OSError, ValueError) as error:
        raise Unservable(f"the sample {path.name} is not read: {error}") from None
    names = [column["name"] for column in signature["columns"]]
    missing = [name for name in names if name not in frame]
    if missing and names == [f"x{number}" for number in range(len(names))]:
        if frame.shape[1] != len(names):
            raise Unservable(
                f"its columns have no names, and the sample has {frame.shape[1]}, not {len(names)}",
                "fit it on a data frame, or give a sample of exactly its columns",
            )
        frame.columns = pandas.Index(names)
    elif missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Unservable(f"the sample {path.name} has no column {missing[0]!r}{more}")
    frame = frame[names].dropna().head(ROWS)
    if frame.empty:
        raise Unservable(f"the sample {path.name} has no row without a missing value")
    return frame


def _own_answers(kind: str, model: Any, signature: dict[str, Any]) -> Answers:
    """What the framework itself answers."""
    import numpy

    probable = len(signature["outputs"]) > 1
    if kind in ("skops", "joblib"):
        framed = signature["layout"] == "columns"

        def estimate(frame: Any) -> Sequence[Any]:
            table = frame if framed else frame.to_numpy()
            return [model.predict(table), *([model.predict_proba(table)] if probable else [])]

        return estimate

    def boost(frame: Any) -> Sequence[Any]:
        table = frame.to_numpy(dtype=float)
        if kind == "xgboost":
            shares = model.inplace_predict(table, validate_features=False)
        else:
            shares = model.predict(table, num_threads=1)
        if not probable:
            return [shares]
        if shares.ndim == 1:
            shares = numpy.column_stack([1 - shares, shares])
        return [shares.argmax(axis=1), shares]

    return boost


def _write(kind: str, model: Any, signature: dict[str, Any], *, wide: bool) -> bytes:
    """The model as ONNX, with numbers of float64 if `wide`."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    number = DoubleTensorType if wide else FloatTensorType
    names = [column["name"] for column in signature["columns"]]
    texts = {column["name"] for column in signature["columns"] if column["type"] == "string"}
    if kind in ("skops", "joblib") and (texts or any(_by_name(model))):
        if blank := next((name for name in names if not name.isidentifier()), None):
            raise ValueError(
                f"skl2onnx renames the column {blank!r}; give it a name without blanks"
            )
        inputs = [
            (name, (StringTensorType if name in texts else number)([None, 1])) for name in names
        ]
        return _of_estimator(model, inputs, signature)
    if texts:
        raise ValueError("categories of a booster are not converted")
    inputs = [("X", number([None, len(names)]))]
    if kind in ("skops", "joblib"):
        written = _of_estimator(model, inputs, signature)
    else:
        written = _of_booster(kind, model, len(names))
    return _with_names(written, names)


def _by_name(estimator: Any) -> Iterator[bool]:
    """Of each step, whether it chooses columns by their names."""
    for step in [step for _, step in getattr(estimator, "steps", ())] or [estimator]:
        yield hasattr(step, "transformers_")


def _of_estimator(model: Any, inputs: list[tuple[str, Any]], signature: dict[str, Any]) -> bytes:
    from skl2onnx import to_onnx

    classes = len(signature["outputs"]) > 1
    options = {"zipmap": False} if classes else None
    written: bytes = to_onnx(model, initial_types=inputs, options=options).SerializeToString()
    return written


def _of_booster(kind: str, model: Any, width: int) -> bytes:
    import onnxmltools
    from onnxmltools.convert.common.data_types import FloatTensorType

    inputs = [("X", FloatTensorType([None, width]))]
    if kind == "lightgbm":
        made = onnxmltools.convert_lightgbm(model, initial_types=inputs, zipmap=False)
    else:
        model = model.copy()
        model.feature_names = None
        made = onnxmltools.convert_xgboost(model, initial_types=inputs)
    written: bytes = made.SerializeToString()
    return written


def _with_names(written: bytes, names: list[str]) -> bytes:
    import onnx

    model = onnx.load_from_string(written)
    entry = model.metadata_props.add()
    entry.key, entry.value = "columns", json.dumps(names)
    named: bytes = model.SerializeToString()
    return named


def _onnx_answers(written: bytes) -> Answers:
    """What ONNX Runtime answers, on one thread as in a service."""
    import numpy

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    inputs = session.get_inputs()
    kinds = {"tensor(double)": numpy.float64, "tensor(float)": numpy.float32}

    def answer(frame: Any) -> Sequence[Any]:
        if len(inputs) == 1 and inputs[0].name == "X":
            feed = {"X": frame.to_numpy(dtype=kinds[inputs[0].type])}
        else:
            feed = {
                each.name: frame[[each.name]].to_numpy(dtype=kinds.get(each.type, object))
                for each in inputs
            }
        answers: Sequence[Any] = session.run(None, feed)
        return answers

    return answer


def _microseconds(answers: Answers, one: Any) -> float:
    """Processor time of a row, the mean of many."""
    answers(one)
    began, runs = time.process_time(), 0
    while (spent := time.process_time() - began) < SECONDS:
        answers(one)
        runs += 1
    return spent / runs * 1e6


def main() -> None:
    arguments = json.loads(sys.argv[1])
    answer_with(lambda: {"figures": convert(**arguments)}, PROCESSOR_SECONDS)


if __name__ == "__main__":
    main()
