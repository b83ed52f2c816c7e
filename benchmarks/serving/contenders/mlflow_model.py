"""Saves the model as MLflow does: `python mlflow_model.py FOLDER`.

Not by its flavour of ONNX, which can not give classes and probabilities at once.
"""

from __future__ import annotations

import sys
from typing import Any

import mlflow.pyfunc
from mlflow.models import ModelSignature
from mlflow.types.schema import ColSpec, DataType, Schema


class Predictor(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:  # noqa: ARG002
        from session import open_session

        self.session = open_session()
        self.name = self.session.get_inputs()[0].name

    def predict(self, context: Any, model_input: Any) -> Any:  # noqa: ARG002
        values = model_input.to_numpy("float32")
        labels, probabilities = self.session.run(None, {self.name: values})
        return {"predictions": labels.tolist(), "probabilities": probabilities.tolist()}


if __name__ == "__main__":
    from session import COLUMNS

    columns = [ColSpec(DataType.double, column) for column in COLUMNS]
    mlflow.pyfunc.save_model(
        sys.argv[1],
        python_model=Predictor(),
        signature=ModelSignature(inputs=Schema(columns)),
        pip_requirements=["onnxruntime"],
    )
