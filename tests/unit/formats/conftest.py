"""Small artifacts, good and bad."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy
import pytest
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression, LogisticRegression

from benchmarks.artifacts import pack

PROGRAM = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import service
infer = service.load_model()
def answer(rows):
    try:
        return infer(service.read_rows(json.dumps({"rows": rows}).encode()))
    except service.Refused as refused:
        return json.loads(refused.answer("id"))
print(json.dumps([answer(rows) for rows in json.load(sys.stdin)]))
"""


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


@pytest.fixture(scope="session")
def serve():
    """Loads the service of an artifact in a process of its own and has it answer rows."""
    return _serve


def _serve(folder, artifact, *requests, code=()):
    """What the service of an artifact of the repository `folder` answers to lists of rows.

    Goes out: its signature, then each answer: predictions and perhaps probabilities, or problems.
    """
    training = artifact.signature.from_ if artifact.signature else ""
    place, signature = pack(folder, artifact, code, training)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=place,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return signature, *json.loads(done.stdout)


@pytest.fixture(scope="session")
def rows_of():
    """The rows of a data frame as a client sends them; null where nothing is known."""
    return lambda frame: json.loads(frame.to_json(orient="records", double_precision=15))
