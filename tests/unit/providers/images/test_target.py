"""A registry as a target: what was pushed is known by its digest, and the registry is asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.providers.images import target as module
from mlspec.providers.images.target import ImageTarget
from mlspec.providers.target import Release

DIGEST = "sha256:" + "a" * 64


class Registry(BaseHTTPRequestHandler):
    status = 200

    def do_GET(self) -> None:
        self.send_response(self.status if self.path.endswith(DIGEST) else 404)
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def registry() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Registry)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def target(tmp_path: Path, registry: str, monkeypatch: pytest.MonkeyPatch) -> ImageTarget:
    """One that has pushed version 3 of `m`."""
    reference = f"{registry}/ml/churn@{DIGEST}"
    monkeypatch.setattr(module, "image_of", lambda *_: reference)
    place = {"image": {"repository": f"{registry}/ml", "auth_env": None}}
    target = ImageTarget(tmp_path, "registry", 0, place)
    release = Release("r" * 64, tmp_path, tmp_path, "t", "m", 3, 1, None, None)
    running = target.deploy("churn", release, ())
    assert (running.image, running.note) == (reference, f"is {reference}")
    return target


def test_what_the_registry_has(target: ImageTarget) -> None:
    running = target.observe("churn")
    assert running is not None
    assert (running.release, running.version, running.differs) == ("r" * 64, 3, ())
    assert target.observe("other") is None


@pytest.mark.parametrize(("status", "gone"), [(404, True), (500, False), (401, False)])
def test_what_it_has_no_more_or_does_not_tell(
    target: ImageTarget, monkeypatch: pytest.MonkeyPatch, status: int, gone: bool
) -> None:
    monkeypatch.setattr(Registry, "status", status)
    if not gone:
        with pytest.raises(RemoteUnreachable):
            target.observe("churn")
        return
    running = target.observe("churn")
    assert running is not None
    assert running.differs == (("image", running.image, None),)


def test_it_runs_nothing_and_is_forgotten(target: ImageTarget) -> None:
    for verb in (target.stop, target.start):
        with pytest.raises(MlspecError, match="nothing runs there"):
            verb("churn")
    target.rename("churn", "other")
    assert target.observe("churn") is None
    target.destroy("other")
    target.destroy("other")
    assert target.observe("other") is None


def test_smoke_that_nothing_can_run_is_said_not_to_be_tried(
    target: ImageTarget, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    release = Release("r" * 64, tmp_path, tmp_path, "t", "m", 3, 1, None, None)
    running = target.deploy("churn", release, [{"x": 1}])
    assert running.note.endswith("smoke was not tried: there is no podman and no docker here")
