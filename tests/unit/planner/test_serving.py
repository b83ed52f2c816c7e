"""What is served of a version: decided when it was registered, if the spec lets it."""

from __future__ import annotations

from dataclasses import replace

from mlspec.ledger.records import Conversion, File, Version
from mlspec.planner.serving import choose_served
from mlspec.resources import DeploymentResource
from mlspec.spec.models import Deployment

OWN = File(path="models/m.skops", format="skops", md5="1" * 32, size=1)
ONNX = File(path="models/m.onnx", format="onnx", md5="2" * 32, size=1)
VERSION = Version(
    model="m",
    number=1,
    fingerprint="f",
    stages={},
    artifact=OWN,
    signature={"layout": "columns"},
    metrics={},
    verdicts=(),
    commit="",
)
RESOURCE = DeploymentResource(
    name="d",
    target="here",
    deployment=Deployment(model="m", targets=("here",)),
    port=3000,
    service={"service.py": "own"},
    settings={},
    files=(),
    converted={"service.py": "onnx"},
)


def test_onnx_is_served_where_it_was_found_to_be_better():
    conversion = Conversion(said="served as ONNX: ...", file=ONNX, signature={"layout": "matrix"})
    version = VERSION.model_copy(update={"conversion": conversion})
    served = choose_served(RESOURCE, version)
    assert (served.file, served.texts["service.py"]) == (ONNX, "onnx")
    assert (served.folder, served.signature) == ("services/d/onnx", {"layout": "matrix"})
    assert served.said == conversion.said
    native = choose_served(replace(RESOURCE, converted={}), version)
    assert (native.file, native.folder, native.said) == (OWN, "services/d", "")


def test_else_the_artifact_is_served_as_it_is():
    assert choose_served(RESOURCE, VERSION).file == OWN
    assert choose_served(RESOURCE, VERSION).said == ""
    conversion = Conversion(said="served as it is: not converted: ...")
    served = choose_served(RESOURCE, VERSION.model_copy(update={"conversion": conversion}))
    assert (served.file, served.texts, served.said) == (OWN, RESOURCE.service, conversion.said)


def test_a_version_without_a_conversion_is_recorded_as_ever():
    assert "conversion" not in VERSION.model_dump(mode="json")
    assert Version.model_validate(VERSION.model_dump(mode="json")) == VERSION
