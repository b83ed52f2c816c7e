"""What a skops file takes and gives; types that could run code are not loaded."""

from __future__ import annotations

import pickle

import numpy
import pandas
import pytest
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from mlspec.errors import MlspecError
from mlspec.formats import inspect_artifact


@pytest.fixture
def write_skops(tmp_path):
    def write(estimator):
        path = tmp_path / "model.skops"
        skops.io.dump(estimator, path)
        return path

    return write


def test_an_estimator_fitted_on_an_array(write_skops, regressor):
    signature = inspect_artifact(write_skops(regressor), "skops")
    assert signature["layout"] == "matrix"
    assert [column["name"] for column in signature["columns"]] == ["x0", "x1", "x2"]
    assert signature["outputs"] == [{"name": "predict", "type": "number", "role": "prediction"}]


def test_a_pipeline_fitted_on_a_frame_with_texts(write_skops):
    frame = pandas.DataFrame({"grade": ["A", "B", "A", "B"], "income": [1.0, 2.0, 3.0, 4.0]})
    prepare = ColumnTransformer(
        [("texts", OneHotEncoder(), ["grade"]), ("numbers", StandardScaler(), ["income"])]
    )
    pipeline = make_pipeline(prepare, LogisticRegression()).fit(frame, ["no", "no", "yes", "yes"])
    signature = inspect_artifact(write_skops(pipeline), "skops")
    assert signature["layout"] == "columns"
    assert signature["columns"] == [
        {"name": "grade", "type": "string"},
        {"name": "income", "type": "number"},
    ]
    assert signature["example"] == {"grade": "A", "income": 0.0}
    assert [output["type"] for output in signature["outputs"]] == ["string", "numbers"]


def test_a_function_of_numpy_is_loaded(write_skops, iris):
    pipeline = make_pipeline(FunctionTransformer(numpy.log1p), LogisticRegression(max_iter=500))
    signature = inspect_artifact(write_skops(pipeline.fit(iris.data, iris.target)), "skops")
    assert len(signature["columns"]) == 4


def test_a_function_that_runs_code_is_not_loaded(write_skops, iris):
    import os

    pipeline = make_pipeline(FunctionTransformer(os.system), LogisticRegression())
    pipeline.steps[1][1].fit(iris.data, iris.target)
    with pytest.raises(MlspecError, match=r"holds types that are not loaded: .*system"):
        inspect_artifact(write_skops(pipeline), "skops")


def test_an_estimator_that_is_not_fitted(write_skops):
    with pytest.raises(MlspecError, match="is it fitted"):
        inspect_artifact(write_skops(LogisticRegression()), "skops")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"no archive", "is not a skops file"),
        (b"PK\x05\x06" + bytes(18), "is not loaded by skops"),
        (pickle.dumps([1]), "is a pickle"),
    ],
)
def test_what_is_no_estimator_is_refused(tmp_path, content, message):
    path = tmp_path / "model.skops"
    path.write_bytes(content)
    with pytest.raises(MlspecError, match=message):
        inspect_artifact(path, "skops")
