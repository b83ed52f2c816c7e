from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from diabetes.evaluation import measure
from diabetes.model import export_model, fit_model
from diabetes.samples import COLUMNS, TARGET, Samples, make_samples


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Rows whose value is a weighted sum of the columns."""
    random = np.random.default_rng(7)
    features = random.normal(size=(200, len(COLUMNS)))
    values = features @ np.arange(len(COLUMNS), dtype=float) + 100
    return Samples([str(number) for number in range(200)], features, values)


def test_samples_keep_the_order_of_columns() -> None:
    row = {column: str(number) for number, column in enumerate(COLUMNS)}
    samples = make_samples([{**row, "id": "a", TARGET: "151"}])
    assert samples.features.tolist() == [list(range(len(COLUMNS)))]
    assert samples.values.tolist() == [151]


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(KeyError, match="age"):
        make_samples([{"id": "a", TARGET: "1"}])


def test_a_sum_is_learned(samples: Samples) -> None:
    model = fit_model(samples, alpha=1e-6)
    np.testing.assert_allclose(model.predict(samples.features), samples.values, atol=1e-4)


def test_the_exported_model_answers_like_the_fitted_one(samples: Samples) -> None:
    model = fit_model(samples, alpha=1.0)
    session = InferenceSession(export_model(model))
    (answers,) = session.run(None, {"input": samples.features.astype(np.float32)})
    np.testing.assert_allclose(answers[:, 0], model.predict(samples.features), rtol=1e-4)


def test_the_exported_model_names_its_columns(samples: Samples) -> None:
    exported = onnx.load_from_string(export_model(fit_model(samples, alpha=1.0)))
    (columns,) = (prop.value for prop in exported.metadata_props if prop.key == "columns")
    assert json.loads(columns) == list(COLUMNS)


def test_the_same_samples_give_the_same_bytes(samples: Samples) -> None:
    assert export_model(fit_model(samples, 1.0)) == export_model(fit_model(samples, 1.0))


def test_metrics_of_known_errors() -> None:
    metrics = measure(np.array([1.0, 3.0]), np.array([2.0, 2.0]))
    assert metrics == {"rmse": 1, "mae": 1, "r2": 0, "rows": 2}
