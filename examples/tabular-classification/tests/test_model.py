from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
from onnxruntime import InferenceSession

from breast_cancer.evaluation import measure
from breast_cancer.model import export_model, fit_model
from breast_cancer.samples import COLUMNS, LABEL, Samples, make_samples


@pytest.fixture(scope="module")
def samples() -> Samples:
    """Rows in which the first column tells the label."""
    random = np.random.default_rng(7)
    features = random.normal(size=(200, len(COLUMNS)))
    labels = (features[:, 0] > 0).astype(np.int64)
    return Samples([str(number) for number in range(200)], features, labels)


def test_samples_keep_the_order_of_columns() -> None:
    row = {column: str(number) for number, column in enumerate(COLUMNS)}
    samples = make_samples([{**row, "id": "a", LABEL: "1"}])
    assert samples.features.tolist() == [list(range(len(COLUMNS)))]
    assert samples.labels.tolist() == [1]


def test_a_missing_column_is_an_error() -> None:
    with pytest.raises(KeyError, match="mean_radius"):
        make_samples([{"id": "a", LABEL: "1"}])


def test_the_exported_model_answers_like_the_fitted_one(samples: Samples) -> None:
    model = fit_model(samples, strength=1.0, max_iter=100)
    session = InferenceSession(export_model(model))
    label, probabilities = session.run(None, {"input": samples.features.astype(np.float32)})
    np.testing.assert_allclose(probabilities, model.predict_proba(samples.features), atol=1e-5)
    assert (label == model.predict(samples.features)).all()


def test_the_exported_model_names_its_columns(samples: Samples) -> None:
    exported = onnx.load_from_string(export_model(fit_model(samples, 1.0, 100)))
    (columns,) = (prop.value for prop in exported.metadata_props if prop.key == "columns")
    assert json.loads(columns) == list(COLUMNS)


def test_the_same_samples_give_the_same_bytes(samples: Samples) -> None:
    assert export_model(fit_model(samples, 1.0, 100)) == export_model(fit_model(samples, 1.0, 100))


def test_perfect_scores_have_perfect_metrics() -> None:
    metrics = measure(np.array([0, 1, 1]), np.array([0.0, 1.0, 1.0]))
    assert metrics == {
        "accuracy": 1, "auc": 1, "brier": 0, "precision": 1, "recall": 1, "rows": 3
    }  # fmt: skip
