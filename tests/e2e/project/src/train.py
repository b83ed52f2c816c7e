"""Makes a linear model of two columns: above zero means that the loan is repaid."""

import json
from pathlib import Path

from journal import note
from linear import linear_model

PARAMS = json.loads(Path("pipelines/loans/params.json").read_text())["train"]
AGE_WEIGHT = 0.0

model = linear_model({"income": 1.0, "age": AGE_WEIGHT}, bias=-float(PARAMS["threshold"]))
Path("models/loans.onnx").write_bytes(model.SerializeToString())
note("train")
