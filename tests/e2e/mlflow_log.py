"""Has models at the tracking server whose address is given. Runs where MLflow is installed."""

import sys

import mlflow
import numpy as np
from mlflow import MlflowClient
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression


def log_models(address: str) -> None:
    mlflow.set_tracking_uri(address)
    mlflow.set_experiment("credit")
    rows = np.random.default_rng(7).normal(size=(200, 3)).astype("float32")
    for column in (1, 2):
        model = LogisticRegression().fit(rows, rows[:, 0] + rows[:, column] > 0)
        made = to_onnx(model, rows[:1], options={"zipmap": False})
        with mlflow.start_run():
            mlflow.onnx.log_model(
                made,
                name="credit",
                registered_model_name="credit",
                pip_requirements=["onnx"],  # or else it tries in another Python what that takes
            )
    with mlflow.start_run():
        for name, written in (("pickled", "cloudpickle"), ("skopsed", "skops")):
            mlflow.sklearn.log_model(
                model,
                name=name,
                registered_model_name=name,
                serialization_format=written,
                pip_requirements=["scikit-learn"],
            )
    client = MlflowClient()
    client.set_registered_model_alias("credit", "champion", "1")
    client.set_model_version_tag("credit", "1", "license", "Apache-2.0")


if __name__ == "__main__":
    log_models(sys.argv[1])
