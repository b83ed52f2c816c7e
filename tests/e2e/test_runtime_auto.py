"""A model is served as ONNX where that answers alike and faster, and the plan says so."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, Project

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
SPEC = """\
mlspec: 1
project: flowers
python: {{version: "{version}"}}
datasets: {{flowers: {{path: data/flowers.csv}}}}
models:
  petals:
    stages:
      train:
        command: python src/train.py
        inputs: [flowers]
        outputs: [models/petals.skops]
        params: {{kind: Ridge}}
    artifact:
      path: models/petals.skops
      format: skops
      signature: {{from: flowers, target: petal}}
    serve: {{runtime: auto, sample: flowers}}
targets: {{local: {{kind: local, port: {port}}}}}
deployments: {{petals: {{model: petals, targets: [local], runtime: asgi}}}}
"""
TRAIN = """\
import json, os
import pandas, skops.io
from sklearn.linear_model import Ridge
from sklearn.kernel_ridge import KernelRidge

params = json.load(open("pipelines/petals/params.json"))["train"]
data = pandas.read_csv("data/flowers.csv")
model = {"Ridge": Ridge, "KernelRidge": KernelRidge}[params["kind"]]()
skops.io.dump(model.fit(data[["length", "width"]], data["petal"]), "models/petals.skops")
with open(os.environ["STAGE_JOURNAL"], "a") as journal:
    print("train", file=journal)
"""


@pytest.fixture
def petals(
    tmp_path: Path, checkout: Checkout, free_port: Callable[[], int]
) -> Iterator[tuple[Project, int]]:
    """The repository, committed, and the port of its deployment."""
    from sklearn.datasets import load_iris

    project, port = checkout(tmp_path / "petals"), free_port()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    table = load_iris().data
    lines = ["length,width,petal", *(f"{a},{b},{c}" for a, b, c, _ in table)]
    files = {
        "data/flowers.csv": "\n".join(lines) + "\n",
        "src/train.py": TRAIN,
        "mlspec.yaml": SPEC.format(port=port, version=version),
    }
    for path, text in files.items():
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        project.write(path, text)
    (project.root / "models").mkdir()
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit("Start")
    yield project, port
    project.end()


def ask(port: int) -> float:
    body = json.dumps({"rows": [{"length": 5.1, "width": 3.5}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        [prediction] = json.load(answer)["predictions"]
    return float(prediction)


def test_what_is_served_is_decided_once(petals: tuple[Project, int]) -> None:
    project, port = petals
    assert project.apply() == ["train"]
    project.commit("Record what was applied")
    first = ask(port)
    [version] = json.loads(project.mlspec("show", "model.petals", "--json").stdout)["versions"]
    conversion = version["conversion"]
    assert conversion["said"].startswith("served as ONNX: ")
    assert "largest difference on 150 rows" in conversion["said"]
    assert conversion["file"]["format"] == "onnx"
    assert version["metrics"]["onnx_equal"] == 1.0
    home = project.root / ".mlspec/releases"
    [release] = home.glob("*/home/bentos/petals/*/src")
    assert (release / "model/artifact.onnx").is_file()
    assert "scikit-learn" not in (release / "requirements.txt").read_text()
    project.mlspec("plan", "--detailed-exitcode")

    text = project.root.joinpath("mlspec.yaml").read_text()
    native = text.replace("    serve: {runtime: auto, sample: flowers}\n", "")
    project.write("mlspec.yaml", native)
    project.commit("As it is")
    assert project.apply() == []
    assert not (project.root / "services/petals/onnx/service.py").exists()
    assert ask(port) == pytest.approx(first, abs=1e-5)

    project.write("mlspec.yaml", text)
    project.commit("Whatever is better")
    steps = project.plan()
    assert "stage.petals.convert" not in steps, "what is known is not measured again"
    reason = steps["deployment.petals@local"]["reason"]
    assert conversion["said"] in reason
    project.apply()

    project.edit("kind: Ridge", "kind: KernelRidge")
    project.commit("What is not converted")
    assert project.apply() == ["train"]
    [*_, version] = json.loads(project.mlspec("show", "model.petals", "--json").stdout)["versions"]
    assert version["conversion"]["said"].startswith("served as it is: not converted: ")
    assert version["conversion"]["file"] is None
    assert ask(port) != first
    project.mlspec("plan", "--detailed-exitcode")
