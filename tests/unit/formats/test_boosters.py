"""XGBoost, LightGBM and CatBoost: what is read of their files, and what their services answer.

Trained on real data; a service answers exactly what the framework itself predicts.
"""

from __future__ import annotations

import pickle

import numpy
import pandas
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from mlspec.errors import MlspecError
from mlspec.formats import inspect_artifact
from mlspec.spec.models import Artifact

ENDINGS = {"xgboost": "ubj", "lightgbm": "txt", "catboost": "cbm"}
NAMES = {"xgboost": "XGBoost", "lightgbm": "LightGBM", "catboost": "CatBoost"}


def learner(kind, classes, **options):
    """An estimator of a framework, on one thread and silent."""
    framework = pytest.importorskip(kind)
    if kind == "xgboost":
        made = framework.XGBClassifier if classes else framework.XGBRegressor
        return made(n_estimators=20, n_jobs=1, **options)
    if kind == "lightgbm":
        made = framework.LGBMClassifier if classes else framework.LGBMRegressor
        return made(n_estimators=20, n_jobs=1, verbose=-1, **options)
    made = framework.CatBoostClassifier if classes else framework.CatBoostRegressor
    return made(iterations=20, thread_count=1, verbose=0, allow_writing_files=False, **options)


def save(estimator, folder, kind, ending=None):
    path = folder / f"model.{ending or ENDINGS[kind]}"
    (estimator.booster_ if kind == "lightgbm" else estimator).save_model(str(path))
    return Artifact(path=path.name, format=kind)


@pytest.fixture
def sent(rows_of):
    """Rows as the model names their columns: LightGBM writes no blanks."""

    def send(frame, kind):
        names = {name: name.replace(" ", "_") for name in frame} if kind == "lightgbm" else {}
        return rows_of(frame.rename(columns=names))

    return send


@pytest.mark.parametrize(
    ("kind", "load"),
    [
        ("xgboost", load_wine),
        ("lightgbm", load_wine),
        ("lightgbm", load_breast_cancer),
        ("catboost", load_wine),
    ],
)
def test_classes_and_probabilities_are_those_of_the_framework(serve, sent, tmp_path, kind, load):
    data, target = load(return_X_y=True, as_frame=True)
    estimator = learner(kind, classes=True).fit(data, target)
    signature, answer = serve(tmp_path, save(estimator, tmp_path, kind), sent(data, kind))
    assert len(signature["columns"]) == data.shape[1]
    assert [output["type"] for output in signature["outputs"]] == ["integer", "numbers"]
    assert answer["predictions"] == estimator.predict(data).ravel().tolist()
    assert numpy.array_equal(answer["probabilities"], estimator.predict_proba(data))


@pytest.mark.parametrize("kind", ENDINGS)
def test_numbers_categories_and_what_is_missing(serve, sent, tmp_path, kind):
    data, target = load_diabetes(return_X_y=True, as_frame=True)
    ages = pandas.cut(data["age"], 3, labels=["young", "between", "old one"])
    data = data.mask(numpy.random.default_rng(7).random(data.shape) < 0.1)
    data["age"] = ages.astype(str).astype("category")
    known = {"cat_features": ["age"]} if kind == "catboost" else {}
    known = {"enable_categorical": True} if kind == "xgboost" else known
    estimator = learner(kind, classes=False, **known).fit(data, target)
    rows, unseen, huge = (sent(part, kind) for part in (data, data[:3], data[:3]))
    unseen[1]["age"] = "never seen"
    huge[2]["bmi"] = 1e300
    artifact = save(estimator, tmp_path, kind)
    signature, known, unknown, large = serve(tmp_path, artifact, rows, unseen, huge)
    assert [output["type"] for output in signature["outputs"]] == ["number"]
    assert signature["columns"][0]["type"] == "string"
    assert signature["columns"][2] == {"name": "bmi", "type": "number", "missing": True}
    assert numpy.array_equal(known["predictions"], estimator.predict(data))
    if kind == "xgboost":
        problem = "is not a category that the model knows"
        assert unknown["problems"] == [{"row": 1, "column": "age", "problem": problem}]
        problem = "is out of range"
        assert large["problems"] == [{"row": 2, "column": "bmi", "problem": problem}]
    else:
        ages = pandas.Series([row["age"] for row in unseen], index=data.index[:3])
        if kind == "lightgbm":
            ages = ages.where(ages.isin(data["age"].cat.categories)).astype(data["age"].dtype)
        expected = estimator.predict(data[:3].assign(age=ages))
        assert numpy.array_equal(unknown["predictions"], expected)


def test_labels_that_catboost_knows_are_answered(serve, sent, tmp_path):
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    labels = target.map({0: "malignant", 1: "benign"})
    estimator = learner("catboost", classes=True).fit(data, labels)
    artifact = save(estimator, tmp_path, "catboost")
    signature, answer = serve(tmp_path, artifact, sent(data, "catboost"))
    assert signature["outputs"][0]["type"] == "string"
    assert answer["predictions"] == estimator.predict(data).tolist()


def test_linear_boosters(serve, sent, tmp_path):
    data, target = load_diabetes(return_X_y=True, as_frame=True)
    estimator = learner("xgboost", classes=False, booster="gblinear").fit(data, target)
    artifact = save(estimator, tmp_path, "xgboost", "json")
    _, answer = serve(tmp_path, artifact, sent(data, "xgboost"))
    assert numpy.array_equal(answer["predictions"], estimator.predict(data))


def test_the_best_iteration_is_that_of_the_estimator(serve, sent, tmp_path):
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    estimator = learner("xgboost", classes=True, early_stopping_rounds=2, learning_rate=1.0)
    estimator.fit(data[:300], target[:300], eval_set=[(data[300:], target[300:])], verbose=False)
    assert estimator.best_iteration + 1 < estimator.get_booster().num_boosted_rounds()
    _, answer = serve(tmp_path, save(estimator, tmp_path, "xgboost"), sent(data, "xgboost"))
    assert numpy.array_equal(answer["probabilities"], estimator.predict_proba(data))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The bytes of a good model of a framework."""
    data, target = load_diabetes(return_X_y=True, as_frame=True)

    def make(kind):
        folder = tmp_path_factory.mktemp(kind)
        return (
            folder / save(learner(kind, False).fit(data, target), folder, kind).path
        ).read_bytes()

    return make


@pytest.mark.parametrize("kind", ENDINGS)
def test_what_is_no_model_is_refused(tmp_path, good, kind):
    whole = good(kind)
    path = tmp_path / "bad.bin"
    for bad in (b"this is no model", b"{}", b"\x7fELF" + b"\0" * 99, whole[: len(whole) // 2]):
        path.write_bytes(bad)
        with pytest.raises(MlspecError, match=f"is not a.* {NAMES[kind]} model") as caught:
            inspect_artifact(path, kind)
        assert "save_model" in caught.value.hint
        assert "/workspace/" not in caught.value.message


@pytest.mark.parametrize("kind", ENDINGS)
def test_a_pickle_is_refused_with_the_way_to_save_it(tmp_path, kind):
    path = tmp_path / "bad.bin"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(MlspecError, match="is a pickle") as caught:
        inspect_artifact(path, kind)
    assert "save_model" in caught.value.hint


def test_the_old_format_of_xgboost_is_named(tmp_path):
    path = tmp_path / "m.bin"
    path.write_bytes(b"binf" + b"\0" * 200)
    with pytest.raises(MlspecError, match="old binary format"):
        inspect_artifact(path, "xgboost")


def test_categories_that_xgboost_does_not_keep_are_refused(tmp_path):
    data = pandas.DataFrame({"grade": pandas.Categorical(["Ω", "β", "c"] * 20)})
    estimator = learner("xgboost", classes=False, enable_categorical=True)
    artifact = save(estimator.fit(data, [1.0, 2.0, 3.0] * 20), tmp_path, "xgboost")
    with pytest.raises(MlspecError, match="not ASCII"):
        inspect_artifact(tmp_path / artifact.path, "xgboost")
