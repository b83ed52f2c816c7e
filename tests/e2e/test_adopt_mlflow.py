"""A model that others registered with MLflow is taken over, judged, and there in every clone."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

pytestmark = pytest.mark.slow
REGISTRY = Path(__file__).parents[1] / "fixtures" / "mlflow"
VENV = Path(__file__).parents[2] / "build" / "mlflow"
PACKAGES = ("mlflow==3.17.2", "onnx", "onnxruntime", "skl2onnx", "skops")
LOG = Path(__file__).with_name("mlflow_log.py")
READY = 300

EVALUATE = """
import json, onnxruntime, numpy as np
session = onnxruntime.InferenceSession("models/credit.onnx")
rows = np.random.default_rng(3).normal(size=(200, 3)).astype("float32")
label = session.run(None, {session.get_inputs()[0].name: rows})[0]
truth = rows[:, 0] + rows[:, 1] > 0
json.dump({"accuracy": float((label == truth).mean())}, open("metrics/credit.json", "w"))
"""
STAGE = """
    stages:
      evaluate:
        command: python src/evaluate.py
        inputs: [models/credit.onnx]
        metrics: metrics/credit.json
    gates:
      good: {metric: accuracy, min: 0.9}
"""


@pytest.fixture
def fresh(tmp_path: Path, checkout: Callable[[Path], Any]) -> Any:
    """A repository with nothing in it."""
    project = checkout(tmp_path / "scores")
    project.root.mkdir()
    project.git("init", "--quiet", "--initial-branch", "main")
    return project


def actions(project: Any) -> dict[str, str]:
    """What is planned, of all but files."""
    steps = project.plan()
    return {a: step["action"] for a, step in steps.items() if not a.startswith("file.")}


def test_from_taking_over_to_another_clone(
    fresh: Any, tmp_path: Path, checkout: Callable[[Path], Any]
) -> None:
    storage = tmp_path / "storage"
    fresh.write("mlspec.yaml", f"mlspec: 1\nproject: scores\nstorage: {{url: {storage}}}\n")
    fresh.commit("Start")
    said = fresh.json("adopt", "--from-mlflow", str(REGISTRY), "credit@champion")
    assert said["address"] == "model.credit"
    assert said["licence"] == "Apache-2.0"
    version = sys.version_info
    python = f'python: {{version: "{version.major}.{version.minor}.{version.micro}"}}\n'
    fresh.write("mlspec.yaml", python + fresh.read() + STAGE)
    (fresh.root / "src").mkdir()
    fresh.write("src/evaluate.py", EVALUATE)
    assert actions(fresh) == {
        "stage.credit.evaluate": "run",
        "gate.credit.good": "evaluate",
        "model.credit": "register",
    }
    fresh.mlspec("apply", "--yes")
    fresh.commit("Take over credit")
    assert actions(fresh) == {}
    shown = fresh.json("show", "model.credit@1")
    assert shown["source"]["digest"] == said["digest"]
    assert shown["metrics"]["accuracy"] > 0.9
    assert "up to date" in fresh.run("dvc", "status").stdout

    other = checkout(tmp_path / "clone")
    fresh.run("git", "clone", "--quiet", str(fresh.root), str(other.root))
    assert actions(other) == {}, "the file is not here, and nothing has to be brought"
    other.run("dvc", "pull", "--quiet")
    taken, here = (each.root / "models/credit.onnx" for each in (fresh, other))
    assert taken.read_bytes() == here.read_bytes()

    fresh.mlspec("adopt", "--from-mlflow", str(REGISTRY), "credit/2")
    assert actions(fresh)["stage.credit.evaluate"] == "run"
    failed = fresh.mlspec("apply", "--yes", code=None)
    assert failed.returncode, "the second one is about another question, and no good for this one"
    assert [v["version"] for v in fresh.json("show", "model.credit")["versions"]] == [1]
    fresh.mlspec("adopt", "--from-mlflow", str(REGISTRY), "credit/1")
    assert "run" not in actions(fresh).values(), "what it measured is known"


def test_a_file_that_is_not_what_was_taken(fresh: Any) -> None:
    fresh.mlspec("adopt", "--from-mlflow", str(REGISTRY), "credit/1")
    fresh.mlspec("apply", "--yes")
    (fresh.root / "models/credit.onnx").unlink()
    assert actions(fresh) == {}, "storage has it"
    second = next(REGISTRY.glob("*/models/m-ff4d*/artifacts/model.onnx"))
    shutil.copy(second, fresh.root / "models/credit.onnx")
    assert "MLS606" in fresh.mlspec("plan", code=1).stderr
    fresh.run("dvc", "checkout", "--force", "--quiet", "models/credit.onnx.dvc")
    assert actions(fresh) == {}
    (fresh.root / "models/credit.onnx").unlink()
    (fresh.root / "models/credit.onnx.dvc").unlink()
    assert "MLS606" in fresh.mlspec("plan", code=1).stderr


# a real server, in a venv of its own --------------------------------------------------------------


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a tracking server of MLflow that has models."""
    python = VENV / "bin" / "python"
    if not python.exists():
        if shutil.which("uv") is None:
            pytest.skip("needs uv, or MLflow in build/mlflow")
        subprocess.run(["uv", "venv", "--python", sys.executable, VENV], check=True, timeout=120)
        subprocess.run(
            ["uv", "pip", "install", "--python", python, *PACKAGES], check=True, timeout=900
        )
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--backend-store-uri", f"sqlite:///{folder}/db.sqlite", "--workers", "1"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("w") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        await_health(address, running)
        subprocess.run([python, LOG, address], check=True, timeout=900, capture_output=True)
        yield address
    finally:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def await_health(address: str, running: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + READY
    while time.monotonic() < end and running.poll() is None:
        try:
            with urlopen(f"{address}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.5)
    pytest.fail("the tracking server does not answer")


@pytest.mark.thorough
def test_a_real_server(fresh: Any, server: str) -> None:
    said = fresh.json("adopt", "--from-mlflow", server, "credit@champion")
    assert (said["mlflow"], said["licence"]) == (f"{server}#credit/1", "Apache-2.0")
    assert actions(fresh) == {"model.credit": "register"}
    fresh.mlspec("apply", "--yes")
    assert actions(fresh) == {}
    assert fresh.json("show", "model.credit@1")["source"]["mlflow"] == f"{server}#credit/1"
    newest = fresh.json("adopt", "--from-mlflow", server, "credit")
    assert newest["mlflow"] == f"{server}#credit/2"
    assert actions(fresh) == {"model.credit": "register"}
    skops = fresh.json("adopt", "--from-mlflow", server, "skopsed", "--licence", "MIT")
    assert skops["format"] == "skops"
    pickled = fresh.json("adopt", "--from-mlflow", server, "pickled", "--licence", "MIT")
    assert pickled["address"] == "dataset.pickled"
    fresh.mlspec("apply", "--yes")
    assert len(fresh.json("show", "model.credit")["versions"]) == 2
    for missing in ("nobody", "credit/9", "credit@nobody"):
        refused = fresh.mlspec("adopt", "--from-mlflow", server, missing, code=1)
        assert "error: " in refused.stderr
        assert "Traceback" not in refused.stderr
    assert json.loads(fresh.mlspec("show", "model.skopsed", "--json").stdout)["versions"]
