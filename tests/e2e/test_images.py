"""A real image: built by podman, pushed to a registry, run from the manifests that name it.

Needs podman, docker-registry and a local image `docker.io/library/python:3.11-slim`; nothing is
pulled from elsewhere but packages. Takes minutes: `pytest -m container tests/e2e/test_images.py`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

PATIENCE = 300.0
OF_PODMAN = ("CONTAINERS_CONF", "HOME", "XDG_RUNTIME_DIR")
"""By which podman finds its images."""


pytestmark = [
    pytest.mark.container,
    pytest.mark.usefixtures("container_base"),
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the base has Python 3.11"),
]
SPEC = """
targets:
  store:
    kind: image
    image: {{repository: "{registry}/ml"}}
  production:
    kind: kubernetes
    namespace: ml
    gitops: deploy
    after: store
    image: {{repository: "{registry}/ml"}}

deployments:
  loans:
    model: loans
    targets: [store, production]
    runtime: asgi
    resources: {{cpus: 1, memory: 512MiB}}
"""
ASK = """
import sys, urllib.request
request = urllib.request.Request(
    "http://127.0.0.1:3000/predict", sys.stdin.buffer.read(), {"content-type": "application/json"}
)
print(urllib.request.urlopen(request).read().decode())
"""


@pytest.fixture
def registry(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[str]:
    if not shutil.which("docker-registry"):
        pytest.skip("needs docker-registry")
    address = f"127.0.0.1:{free_port()}"
    settings = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(tmp_path / "registry")}},
        "http": {"addr": address},
    }
    (tmp_path / "registry.yml").write_text(json.dumps(settings))
    with subprocess.Popen(
        ["docker-registry", "serve", str(tmp_path / "registry.yml")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            wait(lambda: answers(address))
            yield address
        finally:
            process.kill()


def answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def wait(check: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < deadline
        time.sleep(0.5)


def podman(*arguments: str, stdin: str = "", code: int | None = 0) -> str:
    done = subprocess.run(
        ["podman", *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    assert code is None or done.returncode == code, done.stderr
    return done.stdout


def image_in(project: Any) -> str:
    manifest = yaml.safe_load((project.root / "deploy/loans/deployment.yaml").read_text())
    return str(manifest["spec"]["template"]["spec"]["containers"][0]["image"])


def test_an_image_is_the_same_twice_and_answers(
    make_project: Callable[..., Any], registry: str
) -> None:
    images = []
    for place in ("ml", "again"):
        project = make_project()
        spec = SPEC.format(registry=registry).replace(f"{registry}/ml", f"{registry}/{place}")
        project.write("mlspec.yaml", project.read() + spec)
        # Each layer is made anew: what podman has of an earlier build proves nothing.
        podmans = {key: os.environ[key] for key in OF_PODMAN if key in os.environ}
        podmans |= {"BUILDAH_LAYERS": "false", "MLSPEC_IMAGE_BUILDER": "podman"}
        project.mlspec("apply", "--yes", **podmans)
        images.append(image_in(project))
        # what the store has is what production gets
        pushed = project.mlspec("log", "deployment.loans@store", "--json")
        assert f"version 1 is {images[-1]}" in pushed.stdout
        assert "nothing to do" in project.mlspec("status").stdout
    assert len({image.partition("@")[2] for image in images}) == 1
    [bom] = (project.root / ".mlspec/images").glob("*/sbom.json")
    names = {each["name"] for each in json.loads(bom.read_text())["components"]}
    assert {"numpy", "onnxruntime", "uvicorn"} <= names and "pip" not in names

    find = ("--entrypoint", "find", images[1], "/app", "-type", "f")
    files = podman("run", "--rm", "--tls-verify=false", *find).split()
    assert sorted(files) == [
        "/app/model/artifact.onnx",
        "/app/model/model.json",
        "/app/requirements.txt",
        "/app/service.py",
    ]
    manifest = str(project.root / "deploy/loans/deployment.yaml")
    podman("kube", "play", "--tls-verify=false", manifest)
    try:
        [container] = [
            name
            for name in podman("ps", "--format", "{{.Names}}").split()
            if name.startswith("loans") and name.endswith("-service")
        ]
        body = json.dumps({"rows": [{"income": 70, "age": 30}]})
        ask = ("exec", "-i", container, "/opt/service/bin/python", "-c", ASK)
        wait(lambda: "predictions" in podman(*ask, stdin=body, code=None))
        assert json.loads(podman(*ask, stdin=body))["predictions"] == [25.0]
        assert "uid=10001" in podman("exec", container, "id")
        podman("exec", container, "touch", "/app/x", code=1)
    finally:
        podman("kube", "down", manifest)


ON_SAGEMAKER = """
targets:
  production:
    kind: kubernetes
    namespace: ml
    gitops: deploy
    image: {{repository: "{registry}/ml"}}
  aws:
    kind: sagemaker
    after: production
    region: eu-central-1
    role: arn:aws:iam::123456789012:role/sagemaker
    instance: ml.m5.large
    image: {{repository: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml}}

deployments:
  loans:
    model: loans
    targets: [production, aws]
    runtime: asgi
"""


def test_the_image_starts_as_sagemaker_starts_it(project: Any, registry: str) -> None:
    """By the word `serve`; other targets run the very same image by its own command."""
    project.write("mlspec.yaml", project.read() + ON_SAGEMAKER.format(registry=registry))
    podmans = {key: os.environ[key] for key in OF_PODMAN if key in os.environ}
    podmans["MLSPEC_IMAGE_BUILDER"] = "podman"
    select = ("--select", "deployment.loans@production")
    project.mlspec("apply", "--yes", *select, **podmans)
    image, body = image_in(project), json.dumps({"rows": [{"income": 70, "age": 30}]})
    ask = ASK.replace("3000/predict", "8080/invocations")
    ping = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/ping').status)"
    python = ("/opt/service/bin/python", "-c")
    name = podman("run", "--detach", "--tls-verify=false", image, "serve").strip()
    try:
        wait(lambda: "200" in podman("exec", name, *python, ping, code=None))
        answer = podman("exec", "-i", name, *python, ask, stdin=body)
        assert json.loads(answer)["predictions"] == [25.0]
    finally:
        podman("rm", "--force", name)
