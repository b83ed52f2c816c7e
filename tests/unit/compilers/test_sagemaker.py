"""What SageMaker is asked for: names that say what is in them, and the sizes that AWS takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlspec.compilers.sagemaker import Place, Variant, compile_config, compile_model

botocore = pytest.importorskip("botocore")
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml/churn@sha256:" + "a" * 64
PLACE = Place("demo", "c" * 45, "aws", "arn:aws:iam::123456789012:role/x", "ml.m5.large")
ONE = Variant("m", 3, "1" * 64, IMAGE, 2)
TWO = Variant("m", 4, "2" * 64, IMAGE.replace("a" * 64, "b" * 64), 2, weight=0.0)


def check(operation, request):
    """By the types of the API, as botocore has them."""
    from botocore.loaders import Loader
    from botocore.model import ServiceModel
    from botocore.validate import ParamValidator

    model = ServiceModel(Loader().load_service_model("sagemaker", "service-2"))
    shape = model.operation_model(operation).input_shape
    assert not ParamValidator().validate(request, shape).has_errors()
    for key in request.keys() & {"ModelName", "EndpointConfigName"}:
        assert len(request[key]) <= shape.members[key].metadata["max"]


def test_the_api_takes_them():
    check("CreateModel", compile_model(PLACE, ONE))
    check("CreateEndpointConfig", compile_config(PLACE, [ONE]))
    champion = compile_config(PLACE, [ONE])["ProductionVariants"]
    check("CreateEndpointConfig", compile_config(PLACE, [TWO], champion))


def test_what_is_the_same_has_the_same_name():
    assert compile_model(PLACE, ONE) == compile_model(PLACE, replace(ONE))
    for other in (replace(PLACE, role="arn:aws:iam::123456789012:role/y"),):
        assert compile_model(other, ONE)["ModelName"] != compile_model(PLACE, ONE)["ModelName"]
    name = compile_config(PLACE, [ONE])["EndpointConfigName"]
    for place, variant in (
        (replace(PLACE, machine="ml.c5.large"), ONE),
        (PLACE, replace(ONE, instances=3)),
        (PLACE, TWO),
    ):
        assert compile_config(place, [variant])["EndpointConfigName"] != name


def test_a_model_has_no_network_and_a_role():
    model = compile_model(PLACE, ONE)
    assert model["EnableNetworkIsolation"] is True
    assert model["PrimaryContainer"]["Image"] == IMAGE
    assert "Environment" not in model["PrimaryContainer"]
