"""`python -m mlspec.formats.convert ARGUMENTS`: writes a model as ONNX and says what it changed.

A child process like that of `inspect`, and for the same reasons. The arguments are one JSON object:
`format`, `path`, `out`, `sample`, `trusted`, `tolerance`, `optional`. Prints `{"figures": ...}` or
`{"problem", "hint"}`.

Numbers are tried as float64 and as float32, for ONNX Runtime knows some operators only in one of
them; what answers most like the model itself is written.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlspec.formats import UNWRITTEN
from mlspec.formats.inspect import Unservable, answer_with, check_bytes
from mlspec.formats.training import read_table

PROCESSOR_SECONDS = 600
ROWS = 1000
ROUNDS = 3
SECONDS = 0.1
"""Processor time that is measured in each round: a clock may be too coarse for one row."""
FASTER = 1.1
"""How many times as fast it has to be: by less, a measurement may be wrong."""
TOLERANCE = 1e-5
"""Numbers that differ by less, as a share of the number, count as equal: float32 keeps no more."""
GAPS = 5
"""Where a value may be missing, each fifth is taken out to see what is answered then."""
Answers = Callable[[Any], Sequence[Any]]
"""From a data frame of rows to predictions and perhaps probabilities."""


def convert(
    format: str,  # noqa: A002
    path: str,
    out: str,
    sample: str,
    trusted: str = "",
    tolerance: float | None = None,
    optional: bool = False,
    columns: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """Write the model at `path` as ONNX to `out`; how it answers the rows of `sample`.

    With a `tolerance`, `onnx_served` says whether it may take the place of the model: numbers
    differ by no more, and all else is the same. If it is `optional` it must be faster too, and what
    can not be converted is said in `out`; else :class:`Unservable` is raised.
    """
    if format not in ("catboost", "joblib", "lightgbm", "pytorch", "skops", "xgboost"):
        raise Unservable(f"models of the format {format} are not converted")
    check_bytes(format, Path(path))
    reader = importlib.import_module(f"mlspec.formats.{format}")
    options: dict[str, Any] = {"trusted": trusted} if format == "joblib" else {}
    if columns:
        options["columns"] = columns
    signature = reader.read_signature(Path(path), **options)
    frame = _read_sample(Path(sample), signature)
    model = reader.load_model(Path(path))
    if format == "xgboost":
        model = _best_rounds(model)
    own = _own_answers(format, model, signature)
    try:
        written, equal, difference = _write_best(format, model, signature, frame, own)
        types = _keep(written, Path(out))
    except Unservable as error:
        if not optional:
            raise
        why = str(error).removeprefix("is ").removeprefix(UNWRITTEN)
        Path(out).write_text(f"{UNWRITTEN}{why}\n", encoding="utf-8")
        return {"onnx_rows": len(frame), "onnx_served": 0}
    one = frame.iloc[:1]
    slow, fast = _compare_speed(own, _onnx_answers(written), one)
    figures = {
        "onnx_rows": len(frame),
        "onnx_equal": equal,
        "onnx_difference": difference,
        "onnx_microseconds": round(fast, 1),
        "own_microseconds": round(slow, 1),
        "onnx_speedup": round(slow / fast, 2),
    }
    if tolerance is None:
        return figures
    alike = types == [output["type"] for output in signature["outputs"]] and _is_alike(
        own, _onnx_answers(written), frame, signature, tolerance
    )
    served = alike and (not optional or slow / fast >= FASTER)
    if not alike and not optional:
        Path(out).unlink()
        raise Unservable(
            f"answers otherwise as ONNX: {equal:.2%} of {len(frame)} predictions are equal, "
            f"numbers differ by {difference:.2g}, a missing value counted",
            "allow more with `tolerance`, or serve it in its own format",
        )
    return {**figures, "onnx_served": int(served)}


def _write_best(
    format: str,  # noqa: A002
    model: Any,
    signature: dict[str, Any],
    frame: Any,
    own: Answers,
) -> tuple[bytes, float, float]:
    """As float64 or as float32; the share of equal predictions, and the largest difference."""
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
    return written, -minus_equal, difference


def _keep(written: bytes, out: Path) -> list[str]:
    """Write it, if it is what a service can read; the types of its outputs."""
    part = Path(f"{out}.part")
    part.write_bytes(written)
    try:
        signature = importlib.import_module("mlspec.formats.onnx").read_signature(part)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
    return [output["type"] for output in signature["outputs"]]


def _is_alike(
    own: Answers, new: Answers, frame: Any, signature: dict[str, Any], tolerance: float
) -> bool:
    """Whether nobody would notice: on the sample, and where values of it are missing."""
    frames = [frame]
    if blank := [each["name"] for each in signature["columns"] if each.get("missing")]:
        with_gaps = frame.astype(dict.fromkeys(blank, float))
        for number, name in enumerate(blank):
            with_gaps.iloc[number % GAPS :: GAPS, with_gaps.columns.get_loc(name)] = math.nan
        frames.append(with_gaps)
    for each in frames:
        found, expected = new(each), own(each)
        if len(found) != len(expected):
            return False
        equal, _ = compare(found, expected, tolerance)
        if equal < 1 or not _are_close(found[-1], expected[-1], tolerance):
            return False
    return True


def _are_close(found: Any, expected: Any, tolerance: float) -> bool:
    import numpy

    if numpy.asarray(expected).dtype.kind not in "fiu":
        return True
    new, old = (numpy.asarray(each, float).reshape(len(each), -1) for each in (found, expected))
    return bool(numpy.allclose(new, old, rtol=tolerance, atol=tolerance))


def compare(
    found: Sequence[Any], expected: Sequence[Any], tolerance: float = TOLERANCE
) -> tuple[float, float]:
    """The share of predictions that are equal, and by how much a number differs at most.

    The number is a probability where there are any, else a prediction.
    """
    import numpy

    new, old = (numpy.asarray(each[0]).reshape(len(each[0]), -1) for each in (found, expected))
    if old.dtype.kind == "f":
        equal = numpy.isclose(new, old, rtol=tolerance, atol=tolerance)
    else:
        equal = new.astype(str) == old.astype(str)
    numbers = found[-1], expected[-1]
    if numpy.asarray(numbers[1]).dtype.kind not in "fiu":
        return float(equal.all(axis=1).mean()), 0.0
    new, old = (numpy.asarray(each, dtype=float).reshape(len(each), -1) for each in numbers)
    return float(equal.all(axis=1).mean()), float(numpy.abs(new - old).max())


def _read_sample(path: Path, signature: dict[str, Any]) -> Any:
    """At most :data:`ROWS` rows, with the columns of the model; no value is missing."""
    import pandas  # type: ignore[import-untyped]

    frame = read_table(path, "the sample")
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

    if kind == "pytorch":
        return _own_tensors(model)
    if kind == "catboost":

        def ask(frame: Any) -> Sequence[Any]:
            table = frame.to_numpy(dtype=float)
            answers = [model.predict(table, thread_count=1)]
            return [*answers, model.predict_proba(table, thread_count=1)] if probable else answers

        return ask

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


def _own_tensors(program: Any) -> Answers:
    """What PyTorch answers, to rows that are laid out and typed as it takes them."""
    from mlspec.formats.tensors import run_torch

    run = run_torch(program.module(check_guards=False))
    [taken] = [
        node.meta["val"]
        for node in program.graph.nodes
        if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
    ]
    dtype = str(taken.dtype).removeprefix("torch.")
    shape = (-1, *map(int, taken.shape[1:]))
    return lambda frame: run(frame.to_numpy(dtype=dtype).reshape(shape))


def _write(kind: str, model: Any, signature: dict[str, Any], *, wide: bool) -> bytes:
    """The model as ONNX, with numbers of float64 if `wide`."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    if kind == "pytorch":
        return _of_program(model, [column["name"] for column in signature["columns"]])
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


def _best_rounds(booster: Any) -> Any:
    """Without the rounds after its best one, which services leave out."""
    best = booster.attr("best_iteration") if booster.attr("scikit_learn") else None
    return booster if best is None else booster[: int(best) + 1]


def _of_estimator(model: Any, inputs: list[tuple[str, Any]], signature: dict[str, Any]) -> bytes:
    from skl2onnx import to_onnx

    classes = len(signature["outputs"]) > 1
    options = {"zipmap": False} if classes else None
    written: bytes = to_onnx(model, initial_types=inputs, options=options).SerializeToString()
    return written


def _of_booster(kind: str, model: Any, width: int) -> bytes:
    if kind == "catboost":
        return _of_catboost(model)
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


def _of_program(program: Any, names: list[str]) -> bytes:
    import torch

    made = torch.onnx.export(program, dynamo=True, verbose=False)
    return _with_names(made.model_proto.SerializeToString(), names)


def _of_catboost(model: Any) -> bytes:
    """As CatBoost writes it, with probabilities as a matrix instead of a map for each row."""
    import onnx

    with tempfile.TemporaryDirectory(prefix="mlspec-") as folder:
        path = f"{folder}/model.onnx"
        model.save_model(path, format="onnx")
        made = onnx.load(path)
    graph = made.graph
    for node in [node for node in graph.node if node.op_type == "ZipMap"]:
        graph.node.remove(node)
        for output in [output for output in graph.output if output.name == node.output[0]]:
            kind = onnx.TensorProto.FLOAT
            shares = onnx.helper.make_tensor_value_info(node.input[0], kind, [None, None])
            output.CopyFrom(shares)
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
    kinds: dict[str, Any] = {
        "tensor(double)": numpy.float64,
        "tensor(float)": numpy.float32,
        "tensor(int64)": numpy.int64,
    }

    def answer(frame: Any) -> Sequence[Any]:
        if len(inputs) == 1 and inputs[0].type in kinds:
            rows = frame.to_numpy(dtype=kinds[inputs[0].type])
            sizes = inputs[0].shape[1:]
            feed = {inputs[0].name: rows.reshape(-1, *sizes) if len(sizes) > 1 else rows}
        else:
            feed = {
                each.name: frame[[each.name]].to_numpy(dtype=kinds.get(each.type, object))
                for each in inputs
            }
        answers: Sequence[Any] = session.run(None, feed)
        return answers

    return answer


def _compare_speed(own: Answers, new: Answers, one: Any) -> tuple[float, float]:
    """Processor time of a row either way, in turns, so that a busy moment concerns both."""
    own(one), new(one)
    rounds = [(_microseconds(own, one), _microseconds(new, one)) for _ in range(ROUNDS)]
    slow, fast = (statistics.median(times) for times in zip(*rounds, strict=True))
    return slow, fast


def _microseconds(answers: Answers, one: Any) -> float:
    """Processor time of a row, the mean of many."""
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
