"""A model as ONNX: written where it can be, with figures that are true."""

from __future__ import annotations

import json

import numpy
import onnxruntime
import pytest
import skops.io
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from mlspec.errors import MlspecError
from mlspec.formats import convert_artifact, inspect_artifact


@pytest.fixture
def cancer(tmp_path):
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    data.assign(target=target).to_csv(tmp_path / "sample.csv", index=False)
    return data, target


def test_a_pipeline_answers_as_before(tmp_path, cancer):
    data, target = cancer
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(data, target)
    skops.io.dump(pipeline, tmp_path / "m.skops")
    out = tmp_path / "m.onnx"
    figures = convert_artifact(tmp_path / "m.skops", "skops", tmp_path / "sample.csv", out)
    assert figures["onnx_rows"] == len(data)
    assert figures["onnx_equal"] == 1.0
    assert 0 <= figures["onnx_difference"] < 1e-9
    assert figures["onnx_microseconds"] > 0
    signature = inspect_artifact(out, "onnx")
    assert [column["name"] for column in signature["columns"]] == list(data)
    labels, shares = onnxruntime.InferenceSession(out).run(None, {"X": data.to_numpy()})
    assert numpy.array_equal(labels, pipeline.predict(data))
    assert numpy.allclose(shares, pipeline.predict_proba(data), atol=figures["onnx_difference"])
    assert list(tmp_path.glob("*.part")) == []


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm"])
def test_boosters(tmp_path, kind):
    framework = pytest.importorskip(kind)
    pytest.importorskip("onnxmltools")
    data, target = load_diabetes(return_X_y=True, as_frame=True)
    data.to_csv(tmp_path / "sample.csv", index=False)
    path = tmp_path / "m.ubj"
    if kind == "xgboost":
        framework.XGBRegressor(n_estimators=10, n_jobs=1).fit(data, target).save_model(path)
    else:
        estimator = framework.LGBMRegressor(n_estimators=10, verbose=-1, n_jobs=1)
        estimator.fit(data, target).booster_.save_model(path)
    figures = convert_artifact(path, kind, tmp_path / "sample.csv", tmp_path / "m.onnx")
    assert figures["onnx_equal"] == 1.0
    assert figures["onnx_difference"] < 0.01


@pytest.mark.parametrize("data", [load_iris, load_breast_cancer, load_diabetes])
def test_catboost(tmp_path, data):
    framework = pytest.importorskip("catboost")
    table, target = data(return_X_y=True, as_frame=True)
    table.to_csv(tmp_path / "sample.csv", index=False)
    kind = "CatBoostRegressor" if data is load_diabetes else "CatBoostClassifier"
    model = getattr(framework, kind)(iterations=10, verbose=0, allow_writing_files=False)
    model.fit(table, target).save_model(tmp_path / "m.cbm")
    given = (tmp_path / "m.cbm", "catboost", tmp_path / "sample.csv", tmp_path / "m.onnx")
    figures = convert_artifact(*given, tolerance=1e-4)
    assert figures["onnx_equal"] == figures["onnx_served"] == 1.0
    signature = inspect_artifact(tmp_path / "m.onnx", "onnx")
    assert [column["name"] for column in signature["columns"]] == list(table)


def test_a_program_of_pytorch(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    table, _ = load_iris(return_X_y=True, as_frame=True)
    table.assign(other=1).to_csv(tmp_path / "sample.csv", index=False)
    torch.manual_seed(7)
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 1))
    free = ({0: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(network.eval(), (torch.zeros(2, 4),), dynamic_shapes=free)
    torch.export.save(program, tmp_path / "m.pt2")
    given = (tmp_path / "m.pt2", "pytorch", tmp_path / "sample.csv", tmp_path / "m.onnx")
    figures = convert_artifact(*given, tolerance=1e-5, columns=dict.fromkeys(table, "number"))
    assert figures["onnx_equal"] == figures["onnx_served"] == 1.0
    signature = inspect_artifact(tmp_path / "m.onnx", "onnx")
    assert [column["name"] for column in signature["columns"]] == list(table)


def test_what_differs_is_said():
    from mlspec.formats.convert import compare

    shares = numpy.array([[0.4, 0.6], [0.9, 0.1]])
    others = numpy.array([[0.6, 0.4], [0.9, 0.1]])
    assert compare([[0, 0], others], [[1, 0], shares]) == (0.5, pytest.approx(0.2))
    assert compare([[1.0, 2.0 + 1e-7]], [[1.0, 2.0]]) == (1.0, pytest.approx(1e-7))
    assert compare([["a", "b"]], [["a", "c"]]) == (0.5, 0.0)


def test_what_can_not_be_compared_is_refused(tmp_path, cancer, classifier):
    data, target = cancer
    skops.io.dump(LogisticRegression(max_iter=9).fit(data, target), tmp_path / "m.skops")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    (tmp_path / "empty.csv").write_text(",".join(data) + "\n")
    skops.io.dump(classifier, tmp_path / "unnamed.skops")
    for model, kind, sample, message in (
        ("m.skops", "skops", "other.csv", "has no column 'mean radius' and 29 more"),
        ("m.skops", "skops", "empty.csv", "has no row without a missing value"),
        ("m.skops", "skops", "none.csv", "there is no such file"),
        ("unnamed.skops", "skops", "other.csv", "the sample has 2, not 4"),
        ("other.csv", "keras", "other.csv", "format keras are not converted"),
        ("other.csv", "joblib", "other.csv", "is a pickle"),
    ):
        with pytest.raises(MlspecError, match=message):
            convert_artifact(tmp_path / model, kind, tmp_path / sample, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_it_is_served_only_if_it_answers_alike(tmp_path, cancer):
    data, target = cancer
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(data, target)
    skops.io.dump(pipeline, tmp_path / "m.skops")
    given = (tmp_path / "m.skops", "skops", tmp_path / "sample.csv", tmp_path / "m.onnx")
    assert convert_artifact(*given, tolerance=1e-5, optional=True)["onnx_served"] == 1
    assert convert_artifact(*given, tolerance=1e-5)["onnx_served"] == 1
    assert "onnx_served" not in convert_artifact(*given)


def test_what_is_not_converted_is_served_as_it_is(tmp_path, cancer):
    from sklearn.kernel_ridge import KernelRidge

    data, target = cancer
    skops.io.dump(KernelRidge().fit(data, target), tmp_path / "m.skops")
    given = (tmp_path / "m.skops", "skops", tmp_path / "sample.csv", tmp_path / "m.onnx")
    with pytest.raises(MlspecError, match=r"is not converted: .*KernelRidge"):
        convert_artifact(*given, tolerance=1e-5)
    figures = convert_artifact(*given, tolerance=1e-5, optional=True)
    assert figures == {"onnx_rows": len(data), "onnx_served": 0}
    assert given[3].read_text().startswith("not converted: ")


def test_missing_values_are_compared_too(tmp_path):
    """XGBoost answers for them, and its ONNX says the same."""
    framework = pytest.importorskip("xgboost")
    pytest.importorskip("onnxmltools")
    from mlspec.formats.convert import convert

    data, target = load_diabetes(return_X_y=True, as_frame=True)
    data.to_csv(tmp_path / "sample.csv", index=False)
    model = framework.XGBRegressor(n_estimators=50, n_jobs=1, early_stopping_rounds=2)
    model.fit(data[:300], target[:300], eval_set=[(data[300:], target[300:])], verbose=False)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    model.save_model(tmp_path / "m.ubj")
    paths = {"path": "m.ubj", "out": "m.onnx", "sample": "sample.csv"}
    places = {key: str(tmp_path / name) for key, name in paths.items()}
    assert convert("xgboost", **places, tolerance=1e-5)["onnx_served"] == 1
    data.iloc[::3, 2] = numpy.nan
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    [found] = session.run(None, {"X": data.to_numpy(numpy.float32)})
    assert numpy.allclose(found.ravel(), model.predict(data), rtol=1e-5)


def test_what_differs_is_not_served():
    from mlspec.formats.convert import _is_alike

    frame = load_iris(as_frame=True).data
    signature = {"columns": [{"name": name, "missing": True} for name in frame]}

    def answer(table):
        return [table.sum(axis=1).to_numpy()]

    def strict(table):
        return [table.sum(axis=1, skipna=False).fillna(-1).to_numpy()]

    def rounded(table):
        return [table.sum(axis=1).round(1).to_numpy() + 0.01]

    assert _is_alike(answer, answer, frame, signature, 1e-5)
    assert not _is_alike(answer, strict, frame, signature, 1e-5)
    assert not _is_alike(answer, rounded, frame, signature, 1e-5)
    assert _is_alike(answer, rounded, frame, signature, 0.1)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_command_writes_metrics(tmp_path, cancer, capsys):
    from mlspec.commands.convert import run_convert
    from mlspec.render.console import Console

    data, target = cancer
    skops.io.dump(LogisticRegression(max_iter=9).fit(data, target), tmp_path / "m.skops")
    options = {"sample": "sample.csv", "format": "", "trusted": "", "as_json": False}
    done = run_convert(
        tmp_path, Console(), "m.skops", "models/m.onnx", metrics="metrics/m.json", **options
    )
    assert done == 0
    assert "of 569 predictions are equal" in " ".join(capsys.readouterr().out.split())
    figures = json.loads((tmp_path / "metrics/m.json").read_text())
    assert figures["onnx_equal"] == 1.0
    assert (tmp_path / "models/m.onnx").is_file()
