"""A model of others is fetched once, judged, served, and in every clone without asking again."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
REGISTRY = Path(__file__).parents[1] / "fixtures" / "mlflow"
FIRST, SECOND = (
    next(REGISTRY.glob(f"*/models/{name}*/artifacts/model.onnx")) for name in ("m-566c", "m-ff4d")
)
PATIENCE = 120.0

EVALUATE = """
import json, onnxruntime, numpy as np
session = onnxruntime.InferenceSession("models/credit.onnx")
rows = np.random.default_rng(3).normal(size=(200, 3)).astype("float32")
label = session.run(None, {session.get_inputs()[0].name: rows})[0]
truth = rows[:, 0] + rows[:, 1] > 0
json.dump({"accuracy": float((label == truth).mean())}, open("metrics/credit.json", "w"))
"""
SPEC = """\
mlspec: 1
project: scores
storage: {{url: {storage}}}
python: {{version: "{python}"}}
models:
  credit:
    from:
      url: {url}
      digest: {digest}
      licence: Apache-2.0
    artifact: {{path: models/credit.onnx, format: onnx}}
"""
JUDGED = """\
    stages:
      evaluate:
        command: python src/evaluate.py
        inputs: [models/credit.onnx]
        metrics: metrics/credit.json
    gates:
      good: {metric: accuracy, min: 0.9}
"""
SERVED = """\
targets:
  local: {kind: local, port: 3000}
deployments:
  credit: {model: credit, targets: [local]}
"""


class Web:
    """A server that has one file, and can be told to stop in the middle of it."""

    def __init__(self) -> None:
        self.data = b""
        self.asked = 0
        self.hangs = False
        self.waits = threading.Event()
        self.go_on = threading.Event()
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                web.asked += 1
                self.send_response(200)
                self.send_header("Content-Length", str(len(web.data)))
                self.end_headers()
                if web.hangs:
                    self.wfile.write(web.data[:100])
                    self.wfile.flush()
                    web.waits.set()
                    web.go_on.wait(PATIENCE)
                else:
                    self.wfile.write(web.data)

            def log_message(self, *_arguments: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/credit.onnx"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.go_on.set()
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    web.data = FIRST.read_bytes()
    yield web
    web.close()


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@pytest.fixture
def fresh(tmp_path: Path, checkout: Callable[[Path], Any], web: Web) -> Iterator[Any]:
    """A repository whose spec takes the model from `web`."""
    project = checkout(tmp_path / "scores")
    (project.root / "src").mkdir(parents=True)
    (project.root / "metrics").mkdir()
    project.write("metrics/.gitkeep", "")
    project.write("src/evaluate.py", EVALUATE)
    project.git("init", "--quiet", "--initial-branch", "main")
    python = "{}.{}".format(*sys.version_info)
    text = SPEC.format(
        storage=tmp_path / "storage", python=python, url=web.address, digest=digest_of(web.data)
    )
    project.write("mlspec.yaml", text)
    project.commit("Start")
    yield project
    project.end()


def actions(project: Any) -> dict[str, str]:
    """What is planned, of all but files."""
    steps = project.plan()
    return {a: step["action"] for a, step in steps.items() if not a.startswith("file.")}


def unfinished(project: Any) -> list[Path]:
    """Of what is fetched, all that is not whole or not where it belongs."""
    staged = (project.root / ".mlspec/fetching").rglob("*")
    return [*(path for path in staged if path.is_file()), *project.root.glob("models/*.onnx*")]


def predict(port: int, row: Mapping[str, float]) -> list[Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict",
        json.dumps({"rows": [row]}).encode(),
        {"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.headers["x-model-version"] == "1"
        predictions: list[Any] = json.load(answer)["predictions"]
    return predictions


def test_fetched_once_judged_served_and_in_every_clone(
    fresh: Any, web: Web, tmp_path: Path, checkout: Callable[[Path], Any]
) -> None:
    fresh.write("mlspec.yaml", fresh.read() + JUDGED + SERVED)
    port = fresh.use_a_free_port()
    assert actions(fresh) == {
        "stage.credit.fetch": "run",
        "stage.credit.evaluate": "run",
        "gate.credit.good": "evaluate",
        "model.credit": "register",
        "deployment.credit@local": "deploy",
    }
    assert web.asked == 0, "a plan asks nobody"
    fresh.mlspec("apply", "--yes")
    fresh.commit("Take credit")
    assert actions(fresh) == {}
    assert web.asked == 1
    assert "up to date" in fresh.run("dvc", "status").stdout
    version = fresh.json("show", "model.credit@1")
    assert version["source"] == {
        "url": web.address,
        "digest": digest_of(web.data),
        "licence": "Apache-2.0",
    }
    assert version["metrics"]["accuracy"] > 0.9
    assert predict(port, {"x0": 2.0, "x1": 1.0, "x2": 0.0}) == [1]

    web.close()
    other = checkout(tmp_path / "clone")
    fresh.run("git", "clone", "--quiet", str(fresh.root), str(other.root))
    assert "stage.credit.fetch" not in actions(other), "storage has it"
    other.mlspec("pull")
    assert (other.root / "models/credit.onnx").read_bytes() == web.data
    (fresh.root / "models/credit.onnx").write_bytes(b"other")
    assert actions(fresh)["stage.credit.fetch"] == "restore"
    fresh.mlspec("apply", "--yes")
    assert (fresh.root / "models/credit.onnx").read_bytes() == web.data
    assert web.asked == 1


def test_another_one_is_judged_and_what_the_digest_does_not_name_is_refused(
    fresh: Any, web: Web
) -> None:
    fresh.write("mlspec.yaml", fresh.read() + JUDGED)
    fresh.mlspec("apply", "--yes")
    first = digest_of(web.data)
    web.data = SECOND.read_bytes()
    assert actions(fresh) == {}, "what they changed there changes nothing here"

    third = digest_of(b"a third one")
    fresh.edit(first, third)
    failed = fresh.mlspec("apply", "--yes", code=1)
    assert "is not what the spec names" in failed.stdout + failed.stderr
    assert digest_of(web.data) in failed.stdout + failed.stderr
    assert unfinished(fresh) == [fresh.root / "models/credit.onnx"]
    assert digest_of((fresh.root / "models/credit.onnx").read_bytes()) == first

    fresh.edit(third, digest_of(web.data))
    fresh.mlspec("apply", "--yes", code=3)
    assert "rejected" in fresh.held()["model.credit"]
    assert [v["version"] for v in fresh.json("show", "model.credit")["versions"]] == [1]
    fresh.edit(digest_of(web.data), first)
    asked = web.asked
    fresh.mlspec("apply", "--yes")
    assert web.asked == asked, "storage has the first one"
    assert actions(fresh) == {}

    web.data = FIRST.read_bytes()
    fresh.edit("licence: Apache-2.0", "licence: Apache-2.0\n      max_size: 1MB")
    fresh.mlspec("apply", "--yes")
    assert web.asked == asked + 1, "it may be another server that answers"
    assert actions(fresh) == {}
    versions = fresh.json("show", "model.credit")["versions"]
    assert [each["version"] for each in versions] == [1], "of the same bytes there is one version"


def hang(project: Any, web: Web) -> subprocess.Popen[bytes]:
    """An apply that waits for the rest of the model."""
    web.hangs = True
    running = subprocess.Popen(
        ["mlspec", "apply", "--yes"],
        cwd=project.root,
        env=project.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert web.waits.wait(PATIENCE)
    end = time.monotonic() + PATIENCE
    while not unfinished(project):
        assert time.monotonic() < end
        time.sleep(0.05)
    return running


def test_a_fetch_that_is_ended_leaves_nothing(fresh: Any, web: Web) -> None:
    running = hang(fresh, web)
    running.send_signal(signal.SIGTERM)
    running.wait(PATIENCE)
    assert unfinished(fresh) == []
    web.go_on.set()
    web.hangs = False
    fresh.mlspec("apply", "--yes")
    assert (fresh.root / "models/credit.onnx").read_bytes() == web.data


def test_a_fetch_that_is_killed_leaves_nothing_to_the_next(fresh: Any, web: Web) -> None:
    running = hang(fresh, web)
    os.kill(running.pid, signal.SIGKILL)
    running.wait(PATIENCE)
    assert [path.parts[-3] for path in unfinished(fresh)] == ["fetching"]
    web.go_on.set()
    web.hangs = False
    fresh.mlspec("apply", "--yes")
    assert unfinished(fresh) == [fresh.root / "models/credit.onnx"]
    assert (fresh.root / "models/credit.onnx").read_bytes() == web.data
