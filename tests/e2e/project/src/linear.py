"""A linear model as ONNX."""

import json

from onnx import ModelProto, TensorProto, helper

SCALE = 1.0


def linear_model(weights: dict[str, float], bias: float) -> ModelProto:
    count = len(weights)
    values = [weight * SCALE for weight in weights.values()]
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["rows", "weights"], ["weighted"]),
            helper.make_node("Add", ["weighted", "bias"], ["score"]),
        ],
        "linear",
        [helper.make_tensor_value_info("rows", TensorProto.FLOAT, [None, count])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 1])],
        [
            helper.make_tensor("weights", TensorProto.FLOAT, [count, 1], values),
            helper.make_tensor("bias", TensorProto.FLOAT, [1], [bias * SCALE]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {"columns": json.dumps(list(weights))})
    return model
