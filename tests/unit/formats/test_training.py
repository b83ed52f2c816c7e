"""What the data say that a model was trained on, and what services refuse by it."""

from __future__ import annotations

import json

import numpy
import pandas
import pytest
import skops.io
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from mlspec.errors import MlspecError
from mlspec.formats import inspect_declared
from mlspec.spec.models import Artifact

KNOWN = {"from": "train.csv", "target": "class"}


@pytest.fixture(scope="module")
def wine():
    """Real wines; some of them have no known ash, and all have a maker and a number."""
    data, target = load_wine(return_X_y=True, as_frame=True)
    table = data[["alcohol", "ash", "proline"]].copy()
    table["proline"] = table["proline"].astype(int)
    table["ash"] = table["ash"].mask(table.index % 7 == 0)
    table["bottles"] = pandas.Series(numpy.arange(len(table)) % 9 + 1.0).mask(table.index % 5 == 0)
    table["maker"] = numpy.where(target == 0, "Barolo", "Grignolino")
    table["bio"] = target == 2
    return table, target


def declare(path, form, **more):
    signature = {**KNOWN, **more.pop("signature", {})}
    said = {"path": path, "format": form, "signature": signature, **more}
    return Artifact.model_validate_json(json.dumps(said))


def test_types_and_missing_values(tmp_path, wine, serve, rows_of):
    table, target = wine
    columns = make_column_transformer(
        (SimpleImputer(), ["ash", "bottles"]),
        (OneHotEncoder(handle_unknown="ignore"), ["maker"]),
        ("passthrough", ["alcohol", "proline", "bio"]),
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=5000)).fit(table, target)
    skops.io.dump(model, tmp_path / "m.skops")
    table.assign(**{"class": target, "id": range(len(table))}).to_csv(
        tmp_path / "train.csv", index=False
    )
    artifact = declare("m.skops", "skops", signature={"without": ["id"]})
    good = rows_of(table.head(60))
    row = good[1]
    bad = [
        {**row, "proline": 700.5},
        {**row, "proline": "700"},
        {**row, "bio": 1},
        {**row, "maker": 3},
        {**row, "alcohol": None},
        {**row, "id": 1},
    ]
    signature, answer, *refused = serve(tmp_path, artifact, good, *([each] for each in bad))
    kinds = {
        each["name"]: (each["type"], each.get("missing", False)) for each in signature["columns"]
    }
    assert kinds == {
        "alcohol": ("number", False),
        "ash": ("number", True),
        "proline": ("integer", False),
        "bottles": ("number", True),
        "maker": ("string", False),
        "bio": ("boolean", False),
    }
    assert answer["predictions"] == model.predict(table.head(60)).tolist()
    assert numpy.allclose(answer["probabilities"], model.predict_proba(table.head(60)), atol=1e-12)
    said = [(each["problems"][0]["column"], each["problems"][0]["problem"]) for each in refused]
    assert said == [
        ("proline", "must be a whole number"),
        ("proline", "must be a whole number"),
        ("bio", "must be true or false"),
        ("maker", "must be text"),
        ("alcohol", "must be a number"),
        ("id", "is not a column of this model"),
    ]


def test_names_of_columns_that_have_none(tmp_path, wine):
    table, target = wine
    table = table[["alcohol", "proline"]]
    model = LogisticRegression(max_iter=5000).fit(table.to_numpy(), target)
    skops.io.dump(model, tmp_path / "m.skops")
    table.assign(**{"class": target}).to_csv(tmp_path / "train.csv", index=False)
    signature = inspect_declared(declare("m.skops", "skops"), tmp_path, training="train.csv")
    assert signature["columns"] == [
        {"name": "alcohol", "type": "number"},
        {"name": "proline", "type": "integer"},
    ]
    assert list(signature["example"]) == ["alcohol", "proline"]


def test_a_class_of_the_user_has_the_columns_of_the_data(tmp_path, wine):
    table, target = wine
    table.assign(**{"class": target}).to_csv(tmp_path / "train.csv", index=False)
    (tmp_path / "own.py").write_text(
        "class Predictor:\n"
        "    def __init__(self, path): pass\n"
        "    def predict(self, rows):\n"
        "        return [row['alcohol'] * 2 + (row['ash'] or 0) for row in rows]\n"
    )
    (tmp_path / "m.txt").write_text("-")
    artifact = declare("m.txt", "python", **{"class": "own:Predictor"})
    signature = inspect_declared(artifact, tmp_path, ["own.py"], training="train.csv")
    kinds = {each["name"]: each for each in signature["columns"]}
    assert kinds["ash"] == {"name": "ash", "type": "number", "missing": True}
    assert kinds["bio"] == {"name": "bio", "type": "boolean"}
    assert signature["example"]["maker"] == "Barolo"


def test_a_booster_takes_null_only_where_the_data_have_it(tmp_path, wine):
    framework = pytest.importorskip("xgboost")
    table, target = wine
    table = table[["alcohol", "ash"]]
    framework.XGBClassifier(n_estimators=3).fit(table, target).save_model(tmp_path / "m.ubj")
    table.assign(**{"class": target}).to_csv(tmp_path / "train.csv", index=False)
    signature = inspect_declared(declare("m.ubj", "xgboost"), tmp_path, training="train.csv")
    assert signature["columns"] == [
        {"name": "alcohol", "type": "number"},
        {"name": "ash", "type": "number", "missing": True},
    ]


@pytest.mark.parametrize(
    ("text", "without", "message"),
    [
        ("class\n1\n", [], "have no row, or no column but these"),
        ("a,class\n1,1\n", ["b"], "have no column 'b'"),
        ("a,class\n1,1\n", [], "takes a column 'alcohol' that the training data do not have"),
        ("alcohol,class\nlow,1\n", [], "could not convert|takes numbers in 'alcohol'"),
        ("alcohol,class\n,1\n", [], "have no value in the column 'alcohol'"),
        ('"a\n', [], "the training data train.csv is not read"),
    ],
)
def test_what_is_not_the_training_data(tmp_path, wine, text, without, message):
    table, target = wine
    skops.io.dump(LogisticRegression().fit(table[["alcohol"]], target), tmp_path / "m.skops")
    (tmp_path / "train.csv").write_text(text)
    artifact = declare("m.skops", "skops", signature={"without": without})
    with pytest.raises(MlspecError, match=message):
        inspect_declared(artifact, tmp_path, training="train.csv")
