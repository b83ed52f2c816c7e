"""A model that answers elsewhere over HTTP: registered, deployed and asked as any other."""

from __future__ import annotations

import json
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Checkout, Project

pytestmark = [pytest.mark.slow, pytest.mark.thorough]
SPEC = """\
mlspec: 1
project: payments
python: {{version: "{version}"}}
models:
  fraud:
    artifact:
      path: models/fraud.json
      format: http
      columns: {{amount: number}}
      passes: {{url: "http://127.0.0.1:{other}/score", timeout: 5s}}
targets: {{local: {{kind: local, port: {port}}}}}
deployments:
  fraud: {{model: fraud, targets: [local], runtime: {runtime}, smoke: [{{input: {{amount: 2}}}}]}}
"""


class Doubling(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        predictions = [2 * row["amount"] for row in body["rows"]]
        text = json.dumps({"predictions": predictions}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def other() -> Iterator[int]:
    """The port of the model."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Doubling)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("runtime", ["asgi", "bentoml"])
def test_it_is_a_model_like_others(
    tmp_path: Path, checkout: Checkout, free_port: Callable[[], int], other: int, runtime: str
) -> None:
    project, port = checkout(tmp_path / "fraud"), free_port()
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    said = {"port": port, "version": version, "other": other, "runtime": runtime}
    project.root.mkdir(exist_ok=True)
    project.write("mlspec.yaml", SPEC.format(**said))
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit("Start")
    try:
        check(project, port)
    finally:
        project.end()


def check(project: Project, port: int) -> None:
    project.mlspec("apply", "--yes")
    project.commit("Record what was applied")
    body = json.dumps({"rows": [{"amount": 21}]}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/predict", body)
    with urllib.request.urlopen(request, timeout=60) as answer:
        found = json.load(answer)
    assert (found["version"], found["predictions"]) == (1, [42.0])
    project.mlspec("plan", "--detailed-exitcode")
    project.edit("timeout: 5s", "timeout: 6s")
    steps = project.plan()
    assert {"stage.fraud.declare", "model.fraud", "deployment.fraud@local"} <= steps.keys()
    assert steps["stage.fraud.declare"]["consequence"] == "reevaluate"
