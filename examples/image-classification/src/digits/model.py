"""The model: how it is fitted, and how it becomes a file."""

from __future__ import annotations

import json
import warnings

import onnx
from skl2onnx import convert_sklearn
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler
from threadpoolctl import threadpool_limits

from digits.images import COLUMNS, Images


def fit_model(images: Images, hidden: int, epochs: int, seed: int) -> Pipeline:
    """A neural network with one hidden layer, trained for a number of epochs."""
    network = MLPClassifier(
        hidden_layer_sizes=(hidden,), max_iter=epochs, learning_rate_init=0.003, random_state=seed
    )
    model = make_pipeline(MinMaxScaler(), network)
    # One thread: the order of additions, and so the last bit, is the same on every run.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # A fixed number of epochs is the plan, not a failure to converge.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(images.pixels, images.digits)


def export_model(model: Pipeline) -> bytes:
    """ONNX that takes the pixels side by side in one matrix; their names are in its metadata."""
    exported = convert_sklearn(
        model,
        name="digits",
        initial_types=[("input", FloatTensorType([None, len(COLUMNS)]))],
        final_types=[
            ("label", Int64TensorType([None])),
            ("probabilities", FloatTensorType([None, 10])),
        ],
        options={"zipmap": False},
        target_opset=21,
    )
    onnx.helper.set_model_props(exported, {"columns": json.dumps(COLUMNS)})
    # The converter leaves them in the order of a set, which differs from run to run.
    exported.opset_import.sort(key=lambda opset: opset.domain)
    return exported.SerializeToString(deterministic=True)
