"""Small artifacts, good and bad."""

from __future__ import annotations

import json

import numpy
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression


@pytest.fixture
def shadows(tmp_path, monkeypatch):
    """Go to a folder whose modules are named like those that a child process imports."""
    folder = tmp_path / "shadows"
    folder.mkdir()
    for name in ("resource", "types", "numpy", "onnx", "skops"):
        (folder / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(folder)


@pytest.fixture(scope="session")
def iris():
    return load_iris()


@pytest.fixture(scope="session")
def classifier(iris):
    return LogisticRegression(max_iter=200).fit(iris.data, iris.target)


@pytest.fixture(scope="session")
def regressor(iris):
    return LinearRegression().fit(iris.data[:, :3], iris.data[:, 3])


@pytest.fixture
def write_onnx(tmp_path):
    """Write an estimator as ONNX; `columns` become its metadata."""

    def write(estimator, width, columns=None, **options):
        from skl2onnx import to_onnx

        example = numpy.zeros((1, width), dtype=numpy.float32)
        model = to_onnx(estimator, example, **options)
        if columns is not None:
            entry = model.metadata_props.add()
            entry.key = "columns"
            entry.value = columns if isinstance(columns, str) else json.dumps(columns)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return write
