"""The models that all contenders serve, and what they are asked: one file of ONNX for all.

`small` is a logistic regression of 30 numbers: a request costs what the server costs. `large` is a
forest of as many, for which a batch costs what the model costs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

COLUMNS = tuple(f"feature_{number:02d}" for number in range(30))
TREES = 200
BATCH = 1000


def make_models(folder: Path) -> dict[str, Any]:
    """Write `small.onnx`, `large.onnx` and `columns.json`; the estimators by name."""
    import numpy
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data, target = make_classification(10_000, len(COLUMNS), n_informative=12, random_state=0)
    data = data.astype(numpy.float32)
    estimators = {
        "small": make_pipeline(StandardScaler(), LogisticRegression()),
        "large": RandomForestClassifier(TREES, max_depth=12, random_state=0),
    }
    for name, estimator in estimators.items():
        estimator.fit(data, target)
        model = to_onnx(estimator, data[:1], options={"zipmap": False}, target_opset=17)
        entry = model.metadata_props.add()
        entry.key, entry.value = "columns", json.dumps(COLUMNS)
        (folder / f"{name}.onnx").write_bytes(model.SerializeToString())
    (folder / "columns.json").write_text(json.dumps(COLUMNS))
    rows = [dict(zip(COLUMNS, map(float, values), strict=True)) for values in data[:BATCH].round(4)]
    (folder / "rows.json").write_text(json.dumps(rows))
    return estimators
