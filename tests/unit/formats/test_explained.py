"""What services tell of their predictions: each column's part, which all together come to them."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy
import pytest

from mlspec.compilers.bento import compile_bento
from mlspec.compilers.naming import artifact_name
from mlspec.formats import inspect_declared
from mlspec.spec.models import Artifact, Deployment, Model, Stage

PROGRAM = """
import asyncio, json, sys
import service

async def ask(rows, query):
    scope = {
        "type": "http", "path": "/predict", "method": "POST", "headers": [], "client": None,
        "query_string": query.encode(),
    }
    sent = []
    async def receive():
        return {"type": "http.request", "body": json.dumps({"rows": rows}).encode()}
    async def send(message):
        sent.append(message)
    await service.app(scope, receive, send)
    return {"status": sent[0]["status"], **json.loads(sent[1]["body"])}

async def main():
    service.CORE.open()
    print(json.dumps([await ask(*each) for each in json.load(sys.stdin)]))
    service.CORE.close()

asyncio.run(main())
"""


def explain(folder: Path, artifact: Artifact, requests, text: str = "", **asked):
    """What the service of an artifact answers to pairs of rows and a query."""
    place = folder / "service"
    shutil.rmtree(place, ignore_errors=True)
    (place / "model").mkdir(parents=True)
    model = Model(stages={"train": Stage(command="true")}, artifact=artifact)
    deployment = Deployment.model_validate_json(
        json.dumps({"model": "m", "targets": ["here"], "runtime": "asgi", "explain": asked})
    )
    for file in compile_bento("m", deployment, "m", model, {}):
        (place / file.path.rpartition("/")[2]).write_text(file.text)
    signature = inspect_declared(artifact, folder, ())
    described = {"model": "m", "version": 1, "signature": signature}
    (place / "model/model.json").write_text(json.dumps(described))
    shutil.copyfile(folder / artifact.path, place / "model" / artifact_name(artifact.path))
    if text:
        (place / "code").mkdir()
        (place / "code/background.csv").write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=place,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        return done.stderr
    return json.loads(done.stdout)


def adds_up(told):
    return math.isclose(
        told["base"] + sum(told["contributions"].values()), told["value"], abs_tol=1e-4
    )


@pytest.fixture(scope="module")
def data():
    source = numpy.random.default_rng(1)
    table = source.normal(size=(300, 3))
    return table, table @ [2.0, -1.0, 0.0]


def rows_of(table, columns=("f0", "f1", "f2")):
    return [dict(zip(columns, map(float, row), strict=True)) for row in table]


def test_trees_of_xgboost(data, tmp_path):
    xgboost = pytest.importorskip("xgboost")
    table, target = data
    names = ["f0", "f1", "f2"]
    matrix = xgboost.DMatrix(table, target, feature_names=names)
    booster = xgboost.train({"max_depth": 3, "nthread": 1}, matrix, 20)
    booster.save_model(tmp_path / "m.ubj")
    artifact = Artifact(path="m.ubj", format="xgboost")
    rows = rows_of(table[:2])
    plain, asked = explain(tmp_path, artifact, [(rows, ""), (rows, "explain=true")], method="shap")
    assert "explanations" not in plain
    expected = booster.predict(matrix.slice([0, 1]), pred_contribs=True)
    for told, prediction, parts in zip(
        asked["explanations"], asked["predictions"], expected, strict=True
    ):
        assert told["of"] == "prediction"
        assert math.isclose(told["value"], prediction, abs_tol=1e-4)
        assert numpy.allclose([*told["contributions"].values()], parts[:-1], atol=1e-5)
        assert adds_up(told)

    classes = xgboost.DMatrix(table, (target > 0).astype(int), feature_names=names)
    booster = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 2, "nthread": 1}, classes, 10
    )
    booster.save_model(tmp_path / "m.ubj")
    [answer] = explain(tmp_path, artifact, [(rows, "")], method="shap", sample=1.0)
    for told, shares in zip(answer["explanations"], answer["probabilities"], strict=True):
        assert (told["of"], told["class"]) == ("score", 1)
        assert math.isclose(1 / (1 + math.exp(-told["value"])), shares[1], abs_tol=1e-4)
        assert adds_up(told)


def test_trees_of_lightgbm_with_several_classes(data, tmp_path):
    lightgbm = pytest.importorskip("lightgbm")
    table, target = data
    classes = numpy.digitize(target, [-1, 1])
    options = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    booster = lightgbm.train(options, lightgbm.Dataset(table, classes), 10)
    booster.save_model(tmp_path / "m.txt")
    artifact = Artifact(path="m.txt", format="lightgbm")
    rows = rows_of(table[:3], booster.feature_name())
    [answer] = explain(tmp_path, artifact, [(rows, "explain=true")], method="shap")
    scores = booster.predict(table[:3], raw_score=True)
    for told, chosen, score in zip(
        answer["explanations"], answer["predictions"], scores, strict=True
    ):
        assert (told["of"], told["class"]) == ("score", chosen)
        assert math.isclose(told["value"], score[chosen], abs_tol=1e-4)
        assert adds_up(told)


def test_trees_of_catboost(data, tmp_path):
    catboost = pytest.importorskip("catboost")
    table, target = data
    model = catboost.CatBoostRegressor(
        iterations=20, thread_count=1, verbose=False, allow_writing_files=False
    )
    model.fit(catboost.Pool(table, target, feature_names=["f0", "f1", "f2"]))
    model.save_model(str(tmp_path / "m.cbm"))
    artifact = Artifact(path="m.cbm", format="catboost")
    rows = rows_of(table[:2], model.feature_names_)
    [answer] = explain(tmp_path, artifact, [(rows, "explain=true")], method="shap")
    for told, prediction in zip(answer["explanations"], answer["predictions"], strict=True):
        assert math.isclose(told["value"], prediction, abs_tol=1e-4)
        assert adds_up(told)


def test_any_model_by_rows_between(regressor, classifier, iris, write_onnx, tmp_path):
    """Of a linear model the sampled parts are exactly those of its weights."""
    names = ["a", "b", "c"]
    path = write_onnx(regressor, 3, names)
    artifact = Artifact(path=path.name, format="onnx")
    lines = [",".join(names), *(",".join(map(str, row[:3])) for row in iris.data[::30])]
    background = "\n".join(lines)
    asked = {"method": "permutation", "background": "background.csv", "permutations": 8}
    rows = rows_of(iris.data[:2, :3], names)
    requests = [(rows, "explain=true"), (rows[::-1], "explain=true&x=1")]
    first, second = explain(tmp_path, artifact, requests, background, **asked)
    assert first["explanations"] == second["explanations"][::-1]
    values = iris.data[::30, :3]
    for told, row, prediction in zip(
        first["explanations"], iris.data, first["predictions"], strict=False
    ):
        assert math.isclose(told["value"], prediction, abs_tol=1e-5)
        assert adds_up(told)
        low = (row[:3] - values.max(axis=0)) * regressor.coef_
        high = (row[:3] - values.min(axis=0)) * regressor.coef_
        for part, *bounds in zip(told["contributions"].values(), low, high, strict=True):
            assert min(bounds) - 1e-4 <= part <= max(bounds) + 1e-4

    path = write_onnx(classifier, 4, [*names, "d"], options={"zipmap": False})
    lines = [",".join(["id", *names, "d"]), *(",".join(map(str, (7, *row))) for row in iris.data)]
    rows = rows_of(iris.data[[0, 60, 120]], [*names, "d"])
    [answer] = explain(tmp_path, artifact, [(rows, "explain=true")], "\n".join(lines), **asked)
    for told, shares in zip(answer["explanations"], answer["probabilities"], strict=True):
        assert (told["of"], told["class"]) == ("probability", int(numpy.argmax(shares)))
        assert math.isclose(told["value"], max(shares), abs_tol=1e-5)
        assert adds_up(told)

    many = rows * 1000
    [answer] = explain(tmp_path, artifact, [(many[:1000], "explain=true")], "\n".join(lines), **{
        **asked, "permutations": 1000,
    })  # fmt: skip
    assert (answer["status"], answer["error"]) == (
        422,
        "request: rows: at most 10 are explained at once",
    )


def test_a_background_that_is_none(regressor, write_onnx, tmp_path):
    path = write_onnx(regressor, 3, ["a", "b", "c"])
    artifact = Artifact(path=path.name, format="onnx")
    asked = {"method": "permutation", "background": "background.csv"}
    said = explain(tmp_path, artifact, [], "a,b,c\n1,2,3\n1,two,3\n", **asked)
    assert "row 2 of background.csv has no number in the column b" in said
    assert "background.csv has no rows" in explain(tmp_path, artifact, [], "a,b,c\n", **asked)
