"""A service that answers as SageMaker asks: `/ping` and `POST /invocations`, by the file that the
program `serve` of its image runs."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlspec.compilers.bento import compile_bento
from mlspec.formats import inspect_artifact
from mlspec.spec.models import Artifact, Deployment, Model, Stage

pytestmark = pytest.mark.slow
PATIENCE = 120.0


def write_sum(path: Path) -> None:
    """An ONNX model that adds its two columns."""
    from onnx import TensorProto, helper

    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 1]) for name in "ab"]
    output = helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1])
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["sum"])], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def ask(port: int, path: str, body: Any = None) -> tuple[int, bytes]:
    content = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


@pytest.mark.parametrize("runtime", ["asgi", "bentoml"])
def test_ping_and_invocations(tmp_path: Path, runtime: str) -> None:
    (tmp_path / "model").mkdir()
    artifact = tmp_path / "model/artifact.onnx"
    write_sum(artifact)
    model = Model(
        stages={"train": Stage(command="true")}, artifact=Artifact(path="m.onnx", format="onnx")
    )
    deployment = Deployment(model="m", targets=("aws",), runtime=runtime)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for file in compile_bento("m", deployment, "m", model, {}, sagemaker=True):
        text = file.text.replace("PORT = 8080", f"PORT = {port}")
        (tmp_path / file.path.rpartition("/")[2]).write_text(text)
    about = {"model": "m", "version": 3, "signature": inspect_artifact(artifact, "onnx")}
    (tmp_path / "model/model.json").write_text(json.dumps(about))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "on_sagemaker.py"],
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            env={**os.environ, "BENTOML_HOME": str(tmp_path / "home")},
            start_new_session=True,
        )
    try:
        end = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < end, (tmp_path / "log").read_text()
            try:
                if ask(port, "/ping")[0] == 200:
                    break
            except OSError:
                time.sleep(0.2)
        status, text = ask(port, "/invocations", {"rows": [{"a": 1, "b": 2}]})
        answer = json.loads(text)
        assert (status, answer["predictions"], answer["version"]) == (200, [3.0], 3)
        assert ask(port, "/predict", {"rows": [{"a": 1, "b": 2}]})[0] == 200
        status, text = ask(port, "/invocations", {"rows": [{"a": 1}]})
        assert status == 422 and "b" in json.loads(text)["error"]
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


SPEC = """
targets:
  aws:
    kind: sagemaker
    region: eu-central-1
    role: arn:aws:iam::123456789012:role/sagemaker
    instance: ml.m5.large
    image: {repository: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml}

deployments:
  loans: {model: loans, targets: [aws], runtime: asgi, resources: {replicas: {min: 2}}}
"""


def test_a_plan_needs_no_credentials(project: Any, tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    nowhere = str(tmp_path / "none")
    settings = {"AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere}
    hidden = {key: value for key, value in project.environment.items() if "AWS_" not in key}
    far = replace(project, environment={**hidden, **settings, "AWS_EC2_METADATA_DISABLED": "true"})
    far.write("mlspec.yaml", far.read() + SPEC)
    far.commit("Serve on SageMaker")
    assert far.plan()["deployment.loans@aws"]["action"] == "deploy"
    said = far.mlspec("apply", "--yes", code=5).stderr
    assert "there are no credentials" in said and "Traceback" not in said
    assert (far.root / "services/loans/on_sagemaker.py").is_file()
