"""An artifact of a registry comes by the digest of its manifest, and by nothing else."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from mlspec.errors import MlspecError
from mlspec.fetching import Source, fetch
from tests.unit.fetching.conftest import Place, Web, digest_of

MODEL = b"weights" * 1000
TITLE = "org.opencontainers.image.title"


def manifest_of(layers: Mapping[str, bytes], **more: Any) -> bytes:
    body = {
        "schemaVersion": 2,
        "layers": [
            {"digest": digest_of(data), "size": len(data), "annotations": {TITLE: name}}
            for name, data in layers.items()
        ],
        **more,
    }
    return json.dumps(body).encode()


class Registry:
    """The repository team/credit of a registry of this machine."""

    def __init__(self, web: Web) -> None:
        self.web = web
        self.where = f"{web.address.removeprefix('http://')}/team/credit"

    def push(self, layers: Mapping[str, bytes], **more: Any) -> str:
        manifest = manifest_of(layers, **more)
        for reference in (digest_of(manifest), "latest"):
            self.web.give(f"/v2/team/credit/manifests/{reference}", manifest)
        for data in layers.values():
            self.web.give(f"/v2/team/credit/blobs/{digest_of(data)}", data)
        return digest_of(manifest)

    def lock(self, authorization: str, challenge: str) -> None:
        """Have all that there is ask for this header."""
        for path, answer in [*self.web.answers.items()]:

            def locked(request: BaseHTTPRequestHandler, answer: Any = answer) -> None:
                if request.headers.get("Authorization") == authorization:
                    answer(request)
                    return
                request.send_response(401)
                request.send_header("WWW-Authenticate", challenge)
                request.send_header("Content-Length", "0")
                request.end_headers()

            self.web.answers[path] = locked


@pytest.fixture
def registry(web: Web, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Registry:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    return Registry(web)


def test_an_artifact_of_one_file(registry: Registry, place: Place) -> None:
    digest = registry.push({"credit.onnx": MODEL})
    got = place.fetch(digest, oci=registry.where)
    assert (got.digest, got.size) == (digest, len(MODEL))
    assert place.files() == {"models/model.onnx": MODEL}


def test_one_file_of_several(registry: Registry, place: Place) -> None:
    digest = registry.push({"README.md": b"read me", "credit.onnx": MODEL})
    place.fetch(digest, oci=registry.where, path="credit.onnx")
    assert place.files() == {"models/model.onnx": MODEL}
    for path, why in (("", "one layer"), ("none.onnx", "the layer")):
        with pytest.raises(MlspecError, match=why) as error:
            place.fetch(digest, oci=registry.where, path=path)
        assert "credit.onnx" in error.value.message


def test_a_tag_tells_its_digest(registry: Registry, place: Place) -> None:
    digest = registry.push({"credit.onnx": MODEL})
    for tag in ("", ":latest"):
        source = Source(oci=f"{registry.where}{tag}")
        assert fetch(source, "", None, place.said.append, root=place.root).digest == digest


def test_another_manifest_or_layer_is_refused(registry: Registry, place: Place) -> None:
    digest = registry.push({"credit.onnx": MODEL})
    registry.web.give(f"/v2/team/credit/manifests/{digest}", manifest_of({"evil.onnx": b"evil"}))
    with pytest.raises(MlspecError, match="was asked for"):
        place.fetch(digest, oci=registry.where)
    registry.push({"credit.onnx": MODEL})
    registry.web.give(f"/v2/team/credit/blobs/{digest_of(MODEL)}", MODEL[:-1] + b"x")
    with pytest.raises(MlspecError, match="gave a layer"):
        place.fetch(digest, oci=registry.where)
    assert place.files() == {}


@pytest.mark.parametrize(
    "data",
    [
        b"no manifest",
        b"[]",
        b'{"layers": [{"digest": "md5:0f", "size": 1}]}',
        b'{"layers": [{"digest": 1}]}',
        b'{"manifests": []}',
    ],
)
def test_what_is_no_manifest(registry: Registry, place: Place, data: bytes) -> None:
    registry.web.give(f"/v2/team/credit/manifests/{digest_of(data)}", data)
    with pytest.raises(MlspecError):
        place.fetch(digest_of(data), oci=registry.where)


def test_too_large(registry: Registry, place: Place) -> None:
    digest = registry.push({"credit.onnx": MODEL})
    with pytest.raises(MlspecError, match="more than 10 bytes"):
        place.fetch(digest, oci=registry.where, most=10)


def test_a_name_and_a_password_from_docker_login(
    registry: Registry, place: Place, tmp_path: Path
) -> None:
    digest = registry.push({"credit.onnx": MODEL})
    auth = base64.b64encode(b"ada:lovelace").decode()
    registry.lock(f"Basic {auth}", 'Basic realm="registry"')
    with pytest.raises(MlspecError, match="HTTP 401"):
        place.fetch(digest, oci=registry.where)
    (tmp_path / "docker").mkdir()
    host = registry.where.partition("/")[0]
    (tmp_path / "docker/config.json").write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    place.fetch(digest, oci=registry.where)
    assert place.files() == {"models/model.onnx": MODEL}


def test_a_token_that_is_asked_for(registry: Registry, place: Place) -> None:
    digest = registry.push({"credit.onnx": MODEL})
    realm = f"{registry.web.address}/token"
    registry.lock("Bearer given", f'Bearer realm="{realm}",service="here"')
    registry.web.give("/token", b'{"token": "given"}')
    place.fetch(digest, oci=registry.where, token="ada:lovelace")
    assert place.files() == {"models/model.onnx": MODEL}
    path, headers = next(asked for asked in registry.web.asked if asked[0].startswith("/token"))
    assert "scope=repository%3Ateam%2Fcredit%3Apull" in path
    assert headers["Authorization"].startswith("Basic ")


def test_a_server_of_tokens_elsewhere_gets_nothing(registry: Registry, place: Place) -> None:
    digest = registry.push({"credit.onnx": MODEL})
    registry.lock("Bearer given", 'Bearer realm="http://evil.example.org/token"')
    with pytest.raises(MlspecError, match="not https"):
        place.fetch(digest, oci=registry.where, token="ada:lovelace")


def test_what_is_no_address_is_told_as_such(registry: Registry, place: Place) -> None:
    with pytest.raises(MlspecError, match="cannot be reached"):
        place.fetch(digest_of(MODEL), oci="localhost:99999/team/credit")
    digest = registry.push({"credit.onnx": MODEL})
    registry.lock("Bearer given", 'Bearer realm="https://[/token"')
    with pytest.raises(MlspecError, match="which is no address"):
        place.fetch(digest, oci=registry.where)
