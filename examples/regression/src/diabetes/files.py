"""The files that stages share, relative to the root of the repository, where stages run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DATASET = Path("data/diabetes.csv")
TRAIN = Path("build/train.csv")
TEST = Path("build/test.csv")
ARTIFACT = Path("models/diabetes.onnx")
METRICS = Path("metrics/diabetes.json")
PREDICTIONS = Path("predictions/diabetes.csv")
PARAMS = Path("pipelines/diabetes/params.json")


def load_params(stage: str) -> dict[str, Any]:
    """The params of a stage, as mlspec writes them from the spec."""
    return json.loads(PARAMS.read_text(encoding="utf-8"))[stage]


def save(path: Path, content: bytes) -> None:
    """Write a file, and the folder around it if there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
