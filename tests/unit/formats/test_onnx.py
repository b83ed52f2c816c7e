"""What an ONNX file takes and gives, and what is refused."""

from __future__ import annotations

import pickle

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlspec.errors import MlspecError
from mlspec.formats import inspect_artifact

NO_ZIPMAP = {"options": {"zipmap": False}}


def write_graph(path, nodes, inputs, outputs, initializers=()):
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(*entry) for entry in inputs],
        [helper.make_tensor_value_info(*entry) for entry in outputs],
        list(initializers),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_a_classifier_with_named_columns(write_onnx, classifier):
    names = ["sepal length", "sepal width", "petal length", "petal width"]
    signature = inspect_artifact(write_onnx(classifier, 4, columns=names, **NO_ZIPMAP), "onnx")
    assert signature == {
        "columns": [{"name": name, "type": "number"} for name in names],
        "layout": "matrix",
        "input": "X",
        "outputs": [
            {"name": "label", "type": "integer", "role": "prediction"},
            {"name": "probabilities", "type": "numbers", "role": "probabilities"},
        ],
        "example": dict.fromkeys(names, 0.0),
    }


def test_a_regressor_without_names(write_onnx, regressor):
    signature = inspect_artifact(write_onnx(regressor, 3), "onnx")
    assert [column["name"] for column in signature["columns"]] == ["x0", "x1", "x2"]
    assert signature["outputs"] == [{"name": "variable", "type": "number", "role": "prediction"}]


def test_several_inputs_are_columns_of_their_own_types(tmp_path):
    path = write_graph(
        tmp_path / "m.onnx",
        [
            helper.make_node("Cast", ["count"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["amount", "wide"], ["sum"]),
            helper.make_node("Identity", ["grade"], ["same"]),
        ],
        [
            ("amount", TensorProto.FLOAT, [None, 1]),
            ("count", TensorProto.INT64, [None, 1]),
            ("grade", TensorProto.STRING, [None, 1]),
        ],
        [("sum", TensorProto.FLOAT, [None, 1])],
    )
    signature = inspect_artifact(path, "onnx")
    assert signature["layout"] == "columns"
    assert signature["input"] is None
    assert signature["columns"] == [
        {"name": "amount", "type": "number"},
        {"name": "count", "type": "integer"},
        {"name": "grade", "type": "string"},
    ]


def test_an_image_is_laid_flat(tmp_path):
    path = write_graph(
        tmp_path / "m.onnx",
        [helper.make_node("Flatten", ["pixels"], ["flat"])],
        [("pixels", TensorProto.FLOAT, [None, 1, 8, 8])],
        [("flat", TensorProto.FLOAT, [None, 64])],
    )
    signature = inspect_artifact(path, "onnx")
    assert len(signature["columns"]) == 64
    assert signature["outputs"][0]["type"] == "numbers"


def test_a_zipmap_is_refused_with_the_way_to_leave_it_out(write_onnx, classifier):
    with pytest.raises(MlspecError, match="which is not served") as caught:
        inspect_artifact(write_onnx(classifier, 4), "onnx")
    assert "'zipmap': False" in caught.value.hint


def test_a_fixed_number_of_rows_is_refused(tmp_path):
    path = write_graph(
        tmp_path / "m.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [("x", TensorProto.FLOAT, [1, 3])],
        [("y", TensorProto.FLOAT, [1, 3])],
    )
    with pytest.raises(MlspecError, match="takes exactly 1 rows at once"):
        inspect_artifact(path, "onnx")


def test_weights_in_another_file_are_refused(tmp_path):
    weights = numpy_helper.from_array(numpy.ones((3, 3), dtype=numpy.float32), "w")
    path = write_graph(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [("x", TensorProto.FLOAT, [None, 3])],
        [("y", TensorProto.FLOAT, [None, 3])],
        [weights],
    )
    onnx.save_model(
        onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0
    )
    with pytest.raises(MlspecError, match="keeps its weights in another file"):
        inspect_artifact(path, "onnx")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["a", "b"], "names 2 columns, 'X' takes 4"),
        (["a", "a", "b", "c"], "more than one column named 'a'"),
        ("{not json", "is not a JSON list of names"),
        ([1, 2, 3, 4], "is not a JSON list of names"),
    ],
)
def test_names_that_do_not_fit_are_refused(write_onnx, classifier, columns, message):
    path = write_onnx(classifier, 4, columns=columns, **NO_ZIPMAP)
    with pytest.raises(MlspecError, match=message):
        inspect_artifact(path, "onnx")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"this is not a model", "is not an ONNX model"),
        (pickle.dumps({"a": 1}), "is a pickle"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path, content, message):
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(MlspecError, match=message):
        inspect_artifact(path, "onnx")


def test_a_cut_file_is_refused(write_onnx, classifier):
    path = write_onnx(classifier, 4, **NO_ZIPMAP)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(MlspecError, match="is not a"):
        inspect_artifact(path, "onnx")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(MlspecError, match="the artifact is not there"):
        inspect_artifact(tmp_path / "none.onnx", "onnx")
