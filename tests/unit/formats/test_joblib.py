"""A joblib file is loaded only if the spec says why, and then answers as the estimator does."""

from __future__ import annotations

import joblib
import numpy
import pandas
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from mlspec.errors import MlspecError
from mlspec.formats import inspect_artifact, inspect_declared
from mlspec.spec.models import Artifact

WHY = "made by our own pipeline"


def test_answers_are_those_of_the_estimator(serve, rows_of, tmp_path):
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    data["size"] = pandas.cut(data["mean radius"], 3, labels=["small", "fair", "big"]).astype(str)
    prepare = ColumnTransformer([("texts", OneHotEncoder(), ["size"])], remainder=StandardScaler())
    pipeline = make_pipeline(prepare, LogisticRegression()).fit(data, target)
    joblib.dump(pipeline, tmp_path / "m.joblib", compress=3)
    artifact = Artifact(path="m.joblib", format="joblib", trusted=WHY)
    signature, answer = serve(tmp_path, artifact, rows_of(data))
    assert signature["columns"][-1] == {"name": "size", "type": "string"}
    assert answer["predictions"] == pipeline.predict(data).tolist()
    assert numpy.array_equal(answer["probabilities"], pipeline.predict_proba(data))


class Mischief:
    """Writes a file when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "x")


@pytest.mark.parametrize("trusted", [None, "", "  "])
def test_nothing_is_loaded_that_is_not_trusted(tmp_path, trusted):
    marked = tmp_path / "it was loaded"
    joblib.dump(Mischief(str(marked)), tmp_path / "m.joblib")
    artifact = Artifact(path="m.joblib", format="joblib", trusted=trusted)
    with pytest.raises(MlspecError, match="is a pickle") as caught:
        inspect_declared(artifact, tmp_path)
    assert "skops" in caught.value.hint
    with pytest.raises(MlspecError, match="is a pickle"):
        inspect_artifact(tmp_path / "m.joblib", "joblib")
    assert not marked.exists()


def test_what_is_no_joblib_file_is_refused(tmp_path):
    artifact = Artifact(path="m.joblib", format="joblib", trusted=WHY)
    for bad in (b"\xff\xfe no pickle", b"\x80\x04."):
        (tmp_path / "m.joblib").write_bytes(bad)
        with pytest.raises(MlspecError, match="is not loaded by joblib"):
            inspect_declared(artifact, tmp_path)
    joblib.dump({"a": 1}, tmp_path / "m.joblib")
    with pytest.raises(MlspecError, match="holds a dict, which has no predict"):
        inspect_declared(artifact, tmp_path)
