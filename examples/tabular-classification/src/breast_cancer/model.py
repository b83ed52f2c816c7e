"""The model: how it is fitted, and how it becomes a file."""

from __future__ import annotations

import json

import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from breast_cancer.samples import COLUMNS, Samples


def fit_model(samples: Samples, strength: float, max_iter: int) -> Pipeline:
    """A logistic regression on standardised columns; less `strength`, smoother."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=max_iter))
    # One thread: the order of additions, and so the last bit, is the same on every run.
    with threadpool_limits(limits=1):
        return model.fit(samples.features, samples.labels)


def export_model(model: Pipeline) -> bytes:
    """ONNX that takes the columns side by side in one matrix; their names are in its metadata."""
    exported = convert_sklearn(
        model,
        name="breast-cancer",
        initial_types=[("input", FloatTensorType([None, len(COLUMNS)]))],
        final_types=[
            ("label", Int64TensorType([None])),
            ("probabilities", FloatTensorType([None, 2])),
        ],
        options={"zipmap": False},
        target_opset=21,
    )
    onnx.helper.set_model_props(exported, {"columns": json.dumps(COLUMNS)})
    # The converter leaves them in the order of a set, which differs from run to run.
    exported.opset_import.sort(key=lambda opset: opset.domain)
    return exported.SerializeToString(deterministic=True)
