"""Keras: `.keras` files, which run on PyTorch here; what their services answer."""

from __future__ import annotations

import importlib.util
import json
import pickle
import subprocess
import sys
import zipfile

import numpy
import pytest
from sklearn.datasets import load_breast_cancer

from mlspec.errors import MlspecError
from mlspec.formats import inspect_artifact
from mlspec.spec.models import Artifact

TRAIN = """
import json, os, sys
os.environ["KERAS_BACKEND"] = "torch"
import keras, numpy, torch
torch.set_num_threads(1)
keras.utils.set_random_seed(7)
folder = sys.argv[1]
table = numpy.load(folder + "/table.npy").astype("float32")
target = numpy.load(folder + "/target.npy")
inputs = keras.Input((table.shape[1],))
hidden = keras.layers.Dense(16, "relu")(keras.layers.LayerNormalization()(inputs))
shares = keras.layers.Dense(2, "softmax")(keras.layers.Dropout(0.1)(hidden))
model = keras.Model(inputs, shares)
model.compile("adam", "sparse_categorical_crossentropy")
model.fit(table, target, epochs=2, verbose=0)
model.save(folder + "/model.keras")
print(json.dumps(model.predict(table, batch_size=len(table), verbose=0).tolist()))
"""


def test_what_is_answered_is_what_keras_predicts(serve, rows_of, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("h5py")
    if importlib.util.find_spec("keras") is None:
        pytest.skip("keras is not installed")
    data, target = load_breast_cancer(return_X_y=True, as_frame=True)
    rows = rows_of(data)
    numpy.save(tmp_path / "table.npy", data.to_numpy())
    numpy.save(tmp_path / "target.npy", target.to_numpy())
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    columns = dict.fromkeys(data, "number")
    artifact = Artifact(path="model.keras", format="keras", columns=columns)
    signature, answer = serve(tmp_path, artifact, rows)
    assert [column["name"] for column in signature["columns"]] == list(data)
    assert signature["outputs"] == [{"name": "predict", "type": "numbers", "role": "prediction"}]
    assert numpy.array_equal(answer["predictions"], json.loads(done.stdout))


def write(path, layer):
    """The files of a model of one layer that are looked at before Keras sees it."""
    config = {"class_name": "Sequential", "module": "keras", "config": {"layers": [layer]}}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "{}")
        archive.writestr("model.weights.h5", "")


@pytest.mark.parametrize(
    ("layer", "said"),
    [
        ({"class_name": "Lambda", "module": "keras.layers"}, "has a lambda"),
        ({"class_name": "__lambda__", "module": "builtins"}, "has a lambda"),
        (
            {"class_name": "run", "module": "subprocess"},
            "has subprocess.run, which is not of Keras",
        ),
        (
            {"class_name": "Mine", "module": None, "registered_name": "team>Mine"},
            "has team>Mine, which is not of Keras",
        ),
    ],
    ids=["lambda", "function", "module", "registered"],
)
def test_layers_that_would_run_code_are_refused(tmp_path, layer, said):
    write(tmp_path / "m.keras", layer)
    with pytest.raises(MlspecError, match=said) as caught:
        inspect_artifact(tmp_path / "m.keras", "keras")
    assert caught.value.hint


def test_what_is_no_model_is_refused(tmp_path):
    path = tmp_path / "bad.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "{}")
    for bad in (b"this is no model", b"\x89HDF\r\n\x1a\n" + b"\0" * 99, path.read_bytes()):
        path.write_bytes(bad)
        with pytest.raises(MlspecError, match="is not a Keras model") as caught:
            inspect_artifact(path, "keras")
        assert "model.save" in caught.value.hint


def test_a_pickle_is_refused_with_the_way_to_save_it(tmp_path):
    path = tmp_path / "bad.keras"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(MlspecError, match="is a pickle") as caught:
        inspect_artifact(path, "keras")
    assert "model.save" in caught.value.hint
