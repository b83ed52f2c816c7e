"""A class of the user's: what is asked of it, with which code, and what its service answers."""

from __future__ import annotations

import numpy
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from benchmarks.artifacts import save_weights
from mlspec.errors import MlspecError
from mlspec.formats import inspect_declared
from mlspec.imports import trace_class
from mlspec.spec.models import Artifact
from mlspec.worktree import Worktree

MATHS = """
import numpy

def share(scores):
    return 1 / (1 + numpy.exp(-scores))
"""
SERVING = """
import numpy

from risk.maths import share


class Predictor:
    def __init__(self, path):
        self.weights = numpy.load(path)

    def signature(self):
        return {"columns": dict.fromkeys(self.weights["names"].tolist(), "number")}

    def predict(self, rows):
        return (self.predict_proba(rows)[:, 1] > 0.5).astype(int)

    def predict_proba(self, rows):
        table = numpy.array([list(row.values()) for row in rows])
        shares = share(table @ self.weights["slopes"] + self.weights["start"])
        return numpy.column_stack([1 - shares, shares])
"""
FRAMED = """
class Doubler:
    def __init__(self, path):
        self.factor = float(open(path).read())

    def predict(self, frame):
        assert list(frame.columns) == ["amount", "grade"]
        rows = frame.itertuples(index=False)
        return [f"{grade} {amount * self.factor}" for amount, grade in rows]
"""


@pytest.fixture
def repository(tmp_path):
    for name, text in (("src/risk/maths.py", MATHS), ("src/risk/serving.py", SERVING)):
        (path := tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "src/risk/__init__.py").touch()
    (tmp_path / "src/risk/training.py").write_text("raise SystemExit('never imported')\n")
    return tmp_path


@pytest.fixture
def weights(repository):
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    estimator = LogisticRegression(max_iter=10_000).fit(data, target)
    save_weights(repository / "m.npz", list(data), estimator)
    return data, estimator


def declare(path="m.npz", class_="risk.serving:Predictor", **more):
    return Artifact(path=path, format="python", **{"class": class_}, **more)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_it_answers_with_the_code_that_its_imports_lead_to(serve, rows_of, repository, weights):
    data, estimator = weights
    code = trace_class("risk.serving:Predictor", Worktree(repository))
    assert code == ("src/risk/__init__.py", "src/risk/maths.py", "src/risk/serving.py")
    signature, answer = serve(repository, declare(), rows_of(data), code=code)
    assert signature["columns"][0] == {"name": "mean radius", "type": "number"}
    assert [output["type"] for output in signature["outputs"]] == ["integer", "numbers"]
    assert answer["predictions"] == estimator.predict(data).tolist()
    assert numpy.allclose(answer["probabilities"], estimator.predict_proba(data), atol=1e-12)


def test_it_may_take_data_frames_of_declared_columns(serve, tmp_path):
    (tmp_path / "doubler.py").write_text(FRAMED)
    (tmp_path / "factor.txt").write_text("2")
    artifact = declare(
        "factor.txt",
        "doubler:Doubler",
        input="frame",
        columns={"amount": "number", "grade": "string"},
        example={"amount": 1.5, "grade": "A"},
    )
    rows = [{"grade": "B", "amount": 2}, {"amount": 0.5, "grade": "C"}]
    signature, answer, refused = serve(
        tmp_path, artifact, rows, [{"amount": "much", "grade": "A"}], code=["doubler.py"]
    )
    assert signature["outputs"] == [{"name": "predict", "type": "string", "role": "prediction"}]
    assert signature["example"] == {"amount": 1.5, "grade": "A"}
    assert answer["predictions"] == ["B 4.0", "C 1.0"]
    assert refused["error"] == "row 0, column amount: must be a number"


BAD = {
    "raise OSError('no such weights')": "module is not imported: OSError: no such weights",
    "import riks": "module does not find the module riks",
    "Other = 1": "module has no Own",
    "class Own:\n def __init__(self): pass": "__init__ raised TypeError",
    "class Own:\n def __init__(self, path): pass": "has no method predict",
    "class Own:\n def __init__(self, path): pass\n def predict(self, rows): 1 / 0": (
        "predict raised ZeroDivisionError: division by zero"
    ),
    "class Own:\n def __init__(self, path): pass\n def predict(self, rows): return [1]": (
        "its predictions for 2 rows have the shape"
    ),
    "class Own:\n def __init__(self, path): pass\n def predict(self, rows): return [None] * 2": (
        "predicts values of the type NoneType"
    ),
}


@pytest.mark.parametrize(("text", "message"), BAD.items(), ids=range(len(BAD)))
def test_what_is_wrong_with_a_class_is_said(tmp_path, text, message):
    (tmp_path / "module.py").write_text(f"{text}\n")
    (tmp_path / "m.npz").touch()
    artifact = declare(class_="module:Own", columns={"a": "number"})
    with pytest.raises(MlspecError, match=message) as caught:
        inspect_declared(artifact, tmp_path, ["module.py"])
    assert caught.value.hint
    assert "Traceback" not in caught.value.message


def test_columns_are_declared_or_told(tmp_path):
    (tmp_path / "module.py").write_text("class Own:\n def __init__(self, path): pass\n")
    (tmp_path / "m.npz").touch()
    with pytest.raises(MlspecError, match="which columns it takes is not known") as caught:
        inspect_declared(declare(class_="module:Own"), tmp_path, ["module.py"])
    assert "`columns`" in caught.value.hint


def test_what_no_import_leads_to_is_named(repository):
    tree = Worktree(repository)
    (repository / "grades.json").write_text("{}")
    assert "grades.json" in trace_class("risk.serving:Predictor", tree, ["grades.json"])
    assert trace_class("risk.nowhere:Predictor", tree) == ()
    assert trace_class("numpy:ndarray", tree) == ()
