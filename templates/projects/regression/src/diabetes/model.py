"""The model: how it is fitted, and how it becomes a file."""

from __future__ import annotations

import json

import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from diabetes.samples import COLUMNS, Samples


def fit_model(samples: Samples, alpha: float) -> Pipeline:
    """A ridge regression on standardised columns; more `alpha`, smoother."""
    model = make_pipeline(StandardScaler(), Ridge(alpha=alpha))
    # One thread: the order of additions, and so the last bit, is the same on every run.
    with threadpool_limits(limits=1):
        return model.fit(samples.features, samples.values)


def export_model(model: Pipeline) -> bytes:
    """ONNX that takes the columns side by side in one matrix; their names are in its metadata."""
    exported = convert_sklearn(
        model,
        name="diabetes",
        initial_types=[("input", FloatTensorType([None, len(COLUMNS)]))],
        final_types=[("prediction", FloatTensorType([None, 1]))],
        target_opset=21,
    )
    onnx.helper.set_model_props(exported, {"columns": json.dumps(COLUMNS)})
    # The converter leaves them in the order of a set, which differs from run to run.
    exported.opset_import.sort(key=lambda opset: opset.domain)
    return exported.SerializeToString(deterministic=True)
