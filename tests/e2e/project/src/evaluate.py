"""Counts how often the model is right."""

import csv
import json
from pathlib import Path

import onnx
from journal import note
from onnx import numpy_helper

model = onnx.load("models/loans.onnx")
tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
income, age = (float(weight) for weight in tensors["weights"].ravel())
bias = float(tensors["bias"].item())

with Path("build/rows.csv").open() as file:
    rows = list(csv.DictReader(file))
right = sum(
    (income * float(row["income"]) + age * float(row["age"]) + bias >= 0) == (row["repaid"] == "1")
    for row in rows
)
Path("metrics/loans.json").write_text(json.dumps({"accuracy": round(right / len(rows), 4)}))
note("evaluate")
