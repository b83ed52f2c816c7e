"""What all hand-written services share: the session of ONNX Runtime, on one thread."""

from __future__ import annotations

import json
import os
from pathlib import Path

import onnxruntime

MODEL = Path(os.environ["BENCH_MODEL"])
COLUMNS: list[str] = json.loads(MODEL.with_name("columns.json").read_text())


def open_session() -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(MODEL), options, providers=["CPUExecutionProvider"])
