"""Reads the signature of an ONNX model; runs in the child process of `mlspec.formats`.

Two layouts are served. `columns`: each input is one column, of shape [N] or [N, 1], as skl2onnx
makes them from a data frame. `matrix`: one input of shape [N, ...], each row of which is laid flat;
its columns are named by the model's metadata `columns` (a JSON list), else x0, x1, and so on.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import Unservable, check_columns

TYPES = {
    "tensor(float16)": "number",
    "tensor(float)": "number",
    "tensor(double)": "number",
    "tensor(int8)": "integer",
    "tensor(int16)": "integer",
    "tensor(int32)": "integer",
    "tensor(int64)": "integer",
    "tensor(uint8)": "integer",
    "tensor(uint16)": "integer",
    "tensor(uint32)": "integer",
    "tensor(string)": "string",
    "tensor(bool)": "boolean",
}
NUMPY = {
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "object",
    "tensor(bool)": "bool",
}
EXAMPLES: dict[str, Any] = {"number": 0.0, "integer": 0, "string": "", "boolean": False}


def read_signature(path: Path) -> dict[str, Any]:
    """Check the model, run it on two rows and say what it takes and gives."""
    _check_model(path)
    session = _open_session(path)
    inputs = session.get_inputs()
    for tensor in (*inputs, *session.get_outputs()):
        if tensor.type not in TYPES:
            raise Unservable(*_unserved_type(tensor))
    scalar = all(len(tensor.shape) == 1 or _is_column(tensor) for tensor in inputs)
    if inputs and scalar and (len(inputs) > 1 or len(inputs[0].shape) == 1):
        layout, source = "columns", None
        columns = [{"name": tensor.name, "type": TYPES[tensor.type]} for tensor in inputs]
    elif len(inputs) == 1:
        layout, source = "matrix", inputs[0].name
        columns = _matrix_columns(inputs[0], session.get_modelmeta().custom_metadata_map)
    else:
        shapes = ", ".join(f"{tensor.name} {tensor.shape}" for tensor in inputs)
        raise Unservable(f"has inputs that are not columns of shape [N, 1]: {shapes or 'none'}")
    check_columns([column["name"] for column in columns])
    _check_batch(inputs)
    return {
        "columns": columns,
        "layout": layout,
        "input": source,
        "outputs": _try_outputs(session, len(columns)),
        "example": {column["name"]: EXAMPLES[column["type"]] for column in columns},
    }


def _check_model(path: Path) -> None:
    import onnx

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's own exceptions are not a stable interface
        raise Unservable(
            f"is not an ONNX model: {_first_line(error)}",
            "write it with onnx.save_model, or with what made it (skl2onnx, torch.onnx)",
        ) from None
    if not model.graph.node:
        raise Unservable("is not an ONNX model: it has no nodes")
    if any(tensor.external_data for tensor in model.graph.initializer):
        raise Unservable(
            "keeps its weights in another file, so it is not the whole model",
            "save it as one file: onnx.save_model(model, path, save_as_external_data=False)",
        )
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise Unservable(f"is not a valid ONNX model: {_first_line(error)}") from None


def _open_session(path: Path) -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common base class
        raise Unservable(f"is not loaded by onnxruntime: {_first_line(error)}") from None


def _unserved_type(tensor: Any) -> tuple[str, str]:
    hint = ""
    if tensor.type.startswith("seq(map"):
        hint = "export without the last ZipMap: to_onnx(..., options={'zipmap': False})"
    return f"{tensor.name!r} has the type {tensor.type}, which is not served", hint


def _is_column(tensor: Any) -> bool:
    return len(tensor.shape) == 2 and tensor.shape[1] == 1


def _matrix_columns(tensor: Any, metadata: dict[str, str]) -> list[dict[str, str]]:
    sizes = tensor.shape[1:]
    names: list[str] | None = None
    if "columns" in metadata:
        try:
            names = json.loads(metadata["columns"])
        except ValueError:
            names = None
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise Unservable("its metadata `columns` is not a JSON list of names")
    if all(isinstance(size, int) for size in sizes):
        width = math.prod(sizes)
    elif len(sizes) == 1 and names:
        width = len(names)
    else:
        raise Unservable(
            f"{tensor.name!r} has the shape {tensor.shape}: how many columns is not known",
            "export with fixed sizes except for the first, such as [None, 30]",
        )
    if names is None:
        names = [f"x{number}" for number in range(width)]
    if len(names) != width:
        raise Unservable(f"its metadata names {len(names)} columns, {tensor.name!r} takes {width}")
    return [{"name": name, "type": TYPES[tensor.type]} for name in names]


def _check_batch(inputs: list[Any]) -> None:
    for tensor in inputs:
        if tensor.shape and isinstance(tensor.shape[0], int):
            raise Unservable(
                f"{tensor.name!r} takes exactly {tensor.shape[0]} rows at once",
                "export with a first size that is not fixed, such as [None, 30]",
            )


def _try_outputs(session: Any, width: int) -> list[dict[str, str]]:
    """Which outputs are answered, told by their shapes for two rows."""
    import numpy

    feed = {}
    for tensor in session.get_inputs():
        dtype = NUMPY.get(tensor.type, tensor.type[7:-1])
        sizes = [size if isinstance(size, int) else width for size in tensor.shape[1:]]
        feed[tensor.name] = numpy.full((2, *sizes), "" if dtype == "object" else 0, dtype=dtype)
    try:
        values = session.run(None, feed)
    except Exception as error:  # onnxruntime has no common base class
        raise Unservable(f"loads, but does not answer: {_first_line(error)}") from None
    outputs: list[dict[str, str]] = []
    for tensor, value in zip(session.get_outputs(), values, strict=True):
        if value.ndim not in (1, 2) or len(value) != 2:
            raise Unservable(
                f"its output {tensor.name!r} has the shape {list(value.shape)} for two rows; "
                "a prediction for each row is needed"
            )
        role = "probabilities" if outputs else "prediction"
        kind = TYPES[tensor.type]
        if value.ndim == 2 and value.shape[1] > 1:
            kind = f"{kind}s"
        outputs.append({"name": tensor.name, "type": kind, "role": role})
    if len(outputs) > 2:
        raise Unservable(f"has {len(outputs)} outputs; a prediction and probabilities are served")
    return outputs


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
