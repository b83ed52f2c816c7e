"""Debian's `docker-registry`, the reference of the interface, gives what was pushed to it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import pytest

from tests.unit.fetching.conftest import Place, digest_of
from tests.unit.fetching.test_registry import manifest_of

MODEL = b"weights" * 100_000
READY = 60.0
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("needs docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = tmp_path / "registry.yml"
    settings.write_text(
        "version: 0.1\n"
        f"storage: {{filesystem: {{rootdirectory: {tmp_path / 'registry'}}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\n"
    )
    with (tmp_path / "log").open("w") as log:
        running = subprocess.Popen([program, "serve", settings], stdout=log, stderr=log)
    try:
        end = time.monotonic() + READY
        while True:
            try:
                urlopen(f"http://127.0.0.1:{port}/v2/", timeout=5).close()
                break
            except URLError:
                assert time.monotonic() < end, (tmp_path / "log").read_text()
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        os.kill(running.pid, signal.SIGKILL)
        running.wait()


def push(address: str, name: str, data: bytes) -> str:
    """As `oras push` does it; the digest of the manifest."""
    base = f"http://{address}/v2/team/credit"
    config = b"{}"
    for blob in (data, config):
        with urlopen(Request(f"{base}/blobs/uploads/", method="POST"), timeout=60) as answer:
            place = answer.headers["Location"]
        url = f"{place}&digest={digest_of(blob)}"
        headers = {"Content-Type": "application/octet-stream"}
        urlopen(Request(url, blob, headers, method="PUT"), timeout=60).close()
    described = {"mediaType": "application/octet-stream", "size": 2, "digest": digest_of(config)}
    body = json.loads(manifest_of({name: data}, mediaType=MANIFEST, config=described))
    for layer in body["layers"]:
        layer["mediaType"] = "application/octet-stream"
    manifest = json.dumps(body).encode()
    request = Request(f"{base}/manifests/v1", manifest, {"Content-Type": MANIFEST}, method="PUT")
    urlopen(request, timeout=60).close()
    return digest_of(manifest)


def test_what_was_pushed(address: str, place: Place) -> None:
    digest = push(address, "credit.onnx", MODEL)
    got = place.fetch(digest, oci=f"{address}/team/credit")
    assert (got.digest, got.size) == (digest, len(MODEL))
    assert place.files() == {"models/model.onnx": MODEL}
