"""A deployment becomes files of a service, and nothing a user writes becomes code."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
import yaml
from pydantic import ValidationError

from mlspec.compilers.bento import TESTED, compile_bento
from mlspec.compilers.generated import MARK
from mlspec.compilers.templates import render_template, templates_folder
from mlspec.errors import MlspecError
from mlspec.plan import Consequence
from mlspec.spec.models import (
    Artifact,
    Auth,
    Challenger,
    Deployment,
    Explain,
    Model,
    RequestLimits,
    ServiceMetrics,
    ServiceResources,
    Stage,
    Telemetry,
)

STAGES = {"train": Stage(command="python train.py")}


def make_model(kind="onnx"):
    return Model(stages=STAGES, artifact=Artifact(path=f"models/risk.{kind}", format=kind))


def make_files(name="risk", kind="onnx", pins=None, model="credit-risk", **deployment):
    deployment = Deployment(model=model, targets=("staging",), **deployment)
    files = compile_bento(name, deployment, model, make_model(kind), pins or {})
    return {file.path.rpartition("/")[2]: file for file in files}


@pytest.mark.parametrize("kind", ["onnx", "skops"])
def test_three_marked_files_that_cost_a_redeploy(kind):
    files = make_files(kind=kind)
    assert sorted(files) == ["bentofile.yaml", "requirements.txt", "service.py"]
    for file in files.values():
        assert file.path == f"services/risk/{file.path.rpartition('/')[2]}"
        assert file.text.splitlines()[0].startswith(f"# {MARK} from deployment.risk")
        assert file.owner == "deployment.risk"
        assert file.consequence is Consequence.REDEPLOY
        assert file.text.endswith("\n")


def imports_of(text):
    """The modules that are imported anywhere in a source."""
    return {
        name
        for node in ast.walk(ast.parse(text))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }


@pytest.mark.parametrize("runtime", ["asgi", "bentoml"])
@pytest.mark.parametrize("kind", ["onnx", "skops"])
def test_the_service_is_python_that_needs_no_mlspec(kind, runtime):
    imported = imports_of(make_files(kind=kind, runtime=runtime)["service.py"].text)
    assert not [name for name in imported if name.startswith("mlspec")]
    assert "pickle" not in imported
    assert ("bentoml" in imported) == (runtime == "bentoml")


def test_without_bentoml_nothing_of_it_is_needed():
    files = make_files(runtime="asgi")
    assert sorted(files) == ["requirements.txt", "service.py"]
    packages = [line.partition("==")[0] for line in files["requirements.txt"].text.splitlines()[1:]]
    assert packages == ["httptools", "msgspec", "numpy", "onnxruntime", "uvicorn", "uvloop"]


def test_buckets_of_predictions_reach_the_service():
    text = make_files(metrics=ServiceMetrics(buckets=(0.5, 20)))["service.py"].text
    assert "PREDICTION_BUCKETS: tuple[float, ...] = (0.5, 20.0)\n" in text


@pytest.mark.parametrize("buckets", [(), (1.0, 1.0), (2.0, 1.0)])
def test_buckets_rise(buckets):
    with pytest.raises(ValidationError):
        ServiceMetrics(buckets=buckets)


def test_same_spec_same_bytes():
    assert make_files() == make_files()


def test_a_description_changes_nothing():
    assert make_files(description="one") == make_files(description="another")


def test_processors_become_workers():
    def workers(cpus):
        text = make_files(resources=ServiceResources(cpus=cpus))["service.py"].text
        return next(line for line in text.splitlines() if line.startswith("WORKERS"))

    assert workers(0.5) == "WORKERS = 1"
    assert workers(2) == "WORKERS = 2"
    assert workers(2.5) == "WORKERS = 3"


def test_the_users_pins_win_over_the_tested_ones():
    pins = {"NumPy": "1.26.4", "scikit_learn": "1.5.2", "torch": "2.0"}
    lines = make_files(kind="skops", pins=pins)["requirements.txt"].text.splitlines()[1:]
    assert lines == [
        f"bentoml=={TESTED['bentoml']}",
        f"httptools=={TESTED['httptools']}",
        f"msgspec=={TESTED['msgspec']}",
        "numpy==1.26.4",
        "scikit-learn==1.5.2",
        f"skops=={TESTED['skops']}",
        f"uvloop=={TESTED['uvloop']}",
    ]


def test_pandas_is_taken_along_only_if_the_user_has_it():
    assert "pandas" not in make_files(kind="skops")["requirements.txt"].text
    pinned = make_files(kind="skops", pins={"pandas": "2.2.3"})["requirements.txt"].text
    assert "pandas==2.2.3\n" in pinned


def test_the_bento_includes_only_what_is_named():
    files = make_files()
    content = yaml.safe_load(files["bentofile.yaml"].text)
    assert content["name"] == "risk"
    assert content["include"] == [
        "service.py", "requirements.txt", "model/model.json", "model/artifact.onnx",
    ]  # fmt: skip
    assert content["python"]["lock_packages"] is False
    assert content["python"]["packages"] == files["requirements.txt"].text.splitlines()[1:]


@pytest.mark.parametrize("name", ["Risk", "a/b", "a\nb", '"); import os; ("', "", "-a", "a" * 64])
def test_a_name_that_is_no_name_is_refused(name):
    with pytest.raises(MlspecError, match="can not be the name of a service"):
        make_files(name=name)


def test_a_models_name_does_not_reach_the_source():
    hostile = 'm"""\nimport os; os.system("true")\n"""'
    assert make_files(model=hostile)["service.py"] == make_files()["service.py"]


def test_a_model_without_artifact_is_refused():
    deployment = Deployment(model="m", targets=("staging",))
    with pytest.raises(MlspecError, match=r"deployment\.d serves model\.m, which has no artifact"):
        compile_bento("d", deployment, "m", Model(stages=STAGES), {})


def test_a_template_that_lacks_a_value_is_an_error():
    with pytest.raises(Exception, match="'header' is undefined"):
        render_template("service/service.py.jinja", format="onnx")


def test_the_templates_are_found():
    assert (templates_folder() / "service" / "service.py.jinja").is_file()


def packages_of(kind, pins=None, **artifact):
    """What the service of an artifact needs, by name."""
    given = {"path": f"models/risk.{kind}", "format": kind, **artifact}
    model = Model(stages=STAGES, artifact=Artifact.model_validate(given))
    deployment = Deployment(model="m", targets=("here",), runtime="asgi")
    files = {f.path.rpartition("/")[2]: f for f in compile_bento("m", deployment, "m", model, pins)}
    ast.parse(files["service.py"].text)
    lines = files["requirements.txt"].text.splitlines()[1:]
    return dict(line.split("==") for line in lines)


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "catboost"])
def test_a_booster_brings_its_framework_and_nothing_of_others(kind):
    found = packages_of(kind, {"torch": "2.0"})
    assert {"xgboost": "xgboost-cpu"}.get(kind, kind) in found
    assert not {"scikit-learn", "onnxruntime", "torch"} & found.keys()


def test_the_xgboost_that_the_user_pins_is_taken():
    assert packages_of("xgboost", {})["xgboost-cpu"] == TESTED["xgboost-cpu"]
    pinned = packages_of("xgboost", {"xgboost": "3.1.0"})
    assert pinned["xgboost"] == "3.1.0"
    assert "xgboost-cpu" not in pinned


def test_what_may_need_anything_gets_all_that_is_pinned():
    own = {"class": "risk.serving:Predictor"}
    pins = {"polars": "1.0.0", "numpy": "2.0.0"}
    assert packages_of("joblib", pins, trusted="ours").items() >= pins.items()
    assert packages_of("python", pins, **own).items() >= pins.items()
    assert "pandas" not in packages_of("python", pins, **own)
    assert packages_of("python", pins, **own, input="frame")["pandas"] == TESTED["pandas"]


def test_code_of_a_class_is_included_where_there_is_one():
    model = Model(
        stages=STAGES,
        artifact=Artifact.model_validate(
            {"path": "models/risk.tar.gz", "format": "python", "class": "risk.serving:Predictor"}
        ),
    )
    deployment = Deployment(model="m", targets=("here",))
    files = {f.path.rpartition("/")[2]: f for f in compile_bento("m", deployment, "m", model, {})}
    include = yaml.safe_load(files["bentofile.yaml"].text)["include"]
    assert include[2:] == [
        "model/model.json", "model/artifact.gz", "model/artifact.gz/**", "code/**",
    ]  # fmt: skip
    assert '"risk.serving:Predictor"' in files["service.py"].text


def test_an_artifact_is_never_called_like_what_lies_beside_it():
    files = compile_bento(
        "m",
        Deployment(model="m", targets=("here",)),
        "m",
        Model(stages=STAGES, artifact=Artifact(path="models/model.json", format="xgboost")),
        {},
    )
    text = next(file.text for file in files if file.path.endswith("bentofile.yaml"))
    assert yaml.safe_load(text)["include"][2:] == ["model/model.json", "model/artifact.json"]


@pytest.mark.parametrize("runtime", ["asgi", "bentoml"])
def test_what_is_not_asked_for_is_not_in_the_service(runtime):
    words = ("Door", "Limited", "Traced", "opentelemetry", "explanations", "def guard")
    plain = make_files(runtime=runtime)
    text = plain["service.py"].text
    assert not [word for word in words if word in text]
    asked = make_files(
        runtime=runtime,
        auth=Auth(file="/etc/tokens"),
        limits=RequestLimits(in_flight=4),
        telemetry=Telemetry(endpoint="http://127.0.0.1:4318/"),
        explain=Explain(method="permutation", background="rows.csv"),
    )
    text = asked["service.py"].text
    assert all(word in text for word in words)
    assert '"http://127.0.0.1:4318/v1/traces"' in text
    assert "return Traced(Door(Limited(app)))" in text
    before, after = (set(each["requirements.txt"].text.splitlines()) for each in (plain, asked))
    assert {line.partition("==")[0] for line in after - before} == {
        "opentelemetry-exporter-otlp-proto-http",
        "opentelemetry-sdk",
    }
    if runtime == "bentoml":
        assert "code/**" in yaml.safe_load(asked["bentofile.yaml"].text)["include"]


def test_no_part_of_a_service_takes_a_name_of_another():
    text = make_files(
        auth=Auth(file="/etc/tokens"),
        limits=RequestLimits(in_flight=4, rate="5/s"),
        telemetry=Telemetry(endpoint="http://127.0.0.1:4318/"),
        explain=Explain(method="permutation", background="rows.csv"),
        challenger=Challenger(model="other", mode="shadow"),
    )["service.py"].text
    names = Counter(
        target.id
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    )
    assert [name for name, count in names.items() if count > 1] == []
