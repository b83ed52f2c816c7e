"""A class of the repository answers: a change of its code is deployed, and nothing is trained."""

from __future__ import annotations

import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, Project

pytestmark = pytest.mark.slow
SPEC = """\
mlspec: 1
project: words
python: {{version: "{version}"}}
datasets: {{numbers: {{path: data/numbers.txt}}}}
models:
  line:
    stages:
      make: {{command: python src/make.py, inputs: [numbers], outputs: [models/line]}}
    artifact:
      path: models/line
      format: python
      class: line.serving:Predictor
      columns: {{x: number}}
targets: {{local: {{kind: local, port: {port}}}}}
deployments: {{line: {{model: line, targets: [local], runtime: asgi}}}}
"""
MAKE = """\
import json, os
from pathlib import Path

slope, start = map(float, Path("data/numbers.txt").read_text().split())
Path("models/line/deep").mkdir(parents=True, exist_ok=True)
Path("models/line/slope.json").write_text(json.dumps(slope))
Path("models/line/deep/start.json").write_text(json.dumps(start))
with open(os.environ["STAGE_JOURNAL"], "a") as journal:
    print("make", file=journal)
"""
SERVING = """\
import json
from pathlib import Path

from line.maths import evaluate


class Predictor:
    def __init__(self, path):
        self.slope = json.loads(Path(path, "slope.json").read_text())
        self.start = json.loads(Path(path, "deep/start.json").read_text())

    def predict(self, rows):
        return [evaluate(self.slope, self.start, row["x"]) for row in rows]
"""
MATHS = "def evaluate(slope, start, x):\n    return slope * x + start\n"
FILES = {
    "data/numbers.txt": "2 1\n",
    "src/make.py": MAKE,
    "src/line/__init__.py": "",
    "src/line/maths.py": MATHS,
    "src/line/serving.py": SERVING,
}


@pytest.fixture
def line(
    tmp_path: Path, checkout: Checkout, free_port: Callable[[], int]
) -> Iterator[tuple[Project, int]]:
    """The repository, committed, and the port of its deployment."""
    project, port = checkout(tmp_path / "line"), free_port()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path, text in {**FILES, "mlspec.yaml": SPEC.format(port=port, version=version)}.items():
        (project.root / path).parent.mkdir(parents=True, exist_ok=True)
        project.write(path, text)
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit("Start")
    yield project, port
    project.end()


def ask(port: int, x: float) -> float:
    body = json.dumps({"rows": [{"x": x}]}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        [prediction] = json.load(answer)["predictions"]
    return float(prediction)


def test_a_change_of_its_code_is_deployed_and_nothing_is_trained(line: tuple[Project, int]) -> None:
    project, port = line
    assert project.apply() == ["make"]
    project.commit("Record what was applied")
    assert ask(port, 3) == 7
    project.edit("slope * x + start", "slope * x + start + 100", "src/line/maths.py")
    project.commit("Another answer")
    assert [(a, s["action"]) for a, s in project.plan().items()] == [
        ("deployment.line@local", "deploy")
    ]
    assert project.apply() == []
    assert ask(port, 3) == 107
    project.mlspec("plan", "--detailed-exitcode")
    project.write("src/line/unrelated.py", "\n")
    project.mlspec("plan", "--detailed-exitcode")
    project.edit("2 1", "2 2", "data/numbers.txt")
    assert project.apply() == ["make"]
    assert ask(port, 3) == 108


def test_code_that_does_not_answer_goes_back(line: tuple[Project, int]) -> None:
    project, port = line
    project.apply()
    project.edit("from line.maths", "from line.nowhere", "src/line/serving.py")
    project.commit("Broken")
    done = project.mlspec("apply", "--yes", code=6)
    assert "No module named 'line.nowhere'" in done.stdout + done.stderr
    assert ask(port, 3) == 7
