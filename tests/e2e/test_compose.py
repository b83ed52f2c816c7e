"""Real containers: a release is taken into service, replaced under load, and goes back.

Needs podman, HAProxy and a local image `docker.io/library/python:3.11-slim`; nothing is pulled but
uvicorn. HAProxy's own image is made of the program that is installed, to pull none:
`pytest -m container tests/e2e/test_compose.py`.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.target import Release
from mlspec.providers.targets import make_target
from tests.e2e.containers import BASE
from tests.e2e.load import failures, get, load, wait

pytestmark = [
    pytest.mark.container,
    pytest.mark.usefixtures("container_base"),
    pytest.mark.slow,
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the base has Python 3.11"),
]
SERVICE = Path(__file__).parent / "standin_service.py"


def podman(*arguments: str) -> str:
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Place:
    """A target, and releases of a service that behaves as it is told."""

    def __init__(self, root: Path, proxy: str, port: int) -> None:
        self.root = root
        self.place = {
            "image": None,
            "ready": 40.0,
            "engine": "podman",
            "proxy": proxy,
            "listen": "127.0.0.1",
            "base": BASE,
            "project": f"test{port}",
        }
        self.port = port
        self.target: Any = make_target(root, "edge", kind="compose", port=port, place=self.place)

    def release(
        self, version: int, token: int = 1, service: str = "", power: float = 0, **more: Any
    ) -> Release:
        source = self.root / "releases" / str(version) / "src"
        (source / "model").mkdir(parents=True, exist_ok=True)
        behaviour = {"errors": 0, "yes": 0.5, "sleep": 0, "dies": 0}
        behaviour |= {"version": version, "power": power}
        (source / "behaviour.json").write_text(json.dumps(behaviour))
        (source / "service.py").write_text(service or SERVICE.read_text())
        (source / "requirements.txt").write_text("uvicorn==0.38.0\n")
        (source / "model/model.json").write_text('{"commit": ""}')
        settings = {"cpus": 1.0, "memory": 256 * 2**20, "capture": None, "replicas": None, **more}
        return Release(
            digest=f"{version}" * 64,
            path=source.parent,
            bento=source.parent,
            tag=f"m:{version}",
            model="m",
            version=version,
            workers=1,
            memory=None,
            capture=None,
            settings={**settings, "port": self.port, "compose": self.place},
            token=token,
        )

    def get(self) -> tuple[int, str]:
        return get(self.port)


@pytest.fixture
def place(tmp_path: Path, proxy_image: str, free_port: Callable[[], int]) -> Iterator[Place]:
    found = Place(tmp_path, proxy_image, free_port())
    try:
        yield found
    finally:
        found.target.destroy("loans")
        label = f"label=dev.mlspec.project={found.place['project']}"
        assert podman("ps", "--all", "--quiet", "--filter", label) == ""


def test_from_deploy_to_destroy(place: Place) -> None:
    target, smoke = place.target, [{"a": 1}]
    assert target.observe("loans") is None
    running = target.deploy("loans", place.release(1), smoke)
    assert (running.status, running.version, running.differs) == ("serving", 1, ())
    assert place.get()[0] == 200

    with load(place.port) as seen:
        target.deploy("loans", place.release(2, 2), smoke)
    assert failures(seen) == {}
    assert seen["version 1"] and seen["version 2"]
    assert '"version": 2' in place.get()[1]

    with load(place.port) as seen:
        broken = place.release(3, 3, "raise SystemExit('no model')\n")
        with pytest.raises(RolledBack, match="ended by itself") as caught:
            target.deploy("loans", broken, smoke)
    assert "no model" in caught.value.message
    assert failures(seen) == {}
    running = target.observe("loans")
    assert (running.status, running.version, running.differs) == ("serving", 2, ())

    with pytest.raises(MlspecError, match="a later apply"):
        target.deploy("loans", place.release(1, 1), smoke)

    name = f"test{place.port}_edge_loans-green-1"
    about = json.loads(podman("inspect", name))[0]
    assert about["Config"]["User"] == "10001:10001"
    assert about["HostConfig"]["ReadonlyRootfs"]
    assert about["EffectiveCaps"] in (None, [])
    podman("rm", "--force", name)
    running = target.observe("loans")
    assert running.differs == (("green-1", "container", None),)
    target.deploy("loans", place.release(2, 4), smoke)
    assert target.observe("loans").differs == ()

    target.stop("loans")
    assert target.observe("loans").status == "stopped"
    with pytest.raises(OSError):
        place.get()
    assert target.start("loans").status == "serving"
    assert place.get()[0] == 200
    assert any("Application startup complete" in path.read_text() for path in target.logs("loans"))

    target.rename("loans", "credit")
    assert target.observe("loans") is None
    assert place.get()[0] == 200
    target.rename("credit", "loans")


def test_a_canary_gets_its_share_and_goes_back(place: Place) -> None:
    target, capture = place.target, {"capture": {"sample": 1.0}}
    target.deploy("loans", place.release(1, power=1, **capture), [])
    with load(place.port) as seen:
        candidate = place.release(2, 2, power=1, **capture)
        with target.try_out("loans", candidate, [{"a": 1}], splits=True) as trial:
            before = trial.read()
            trial.weigh(0.5)
            wait(lambda: seen["version 2"] >= 50)
            reading = trial.read()
            assert reading.trouble == ""
            assert reading.candidate.since(before.candidate).requests[200] >= 50
            assert reading.champion.since(before.champion).requests[200] >= 25
            trial.abort()
    assert failures(seen) == {}
    running = target.observe("loans")
    assert (running.version, running.differs) == (1, ())
    name = f"test{place.port}_edge_loans"
    code = "import os; print(sorted(os.listdir('/captures')), len(os.listdir('/captures/blue-1')))"
    told = podman("exec", f"{name}-blue-1", "/opt/service/bin/python", "-c", code)
    assert told.strip() == "['blue-1', 'green-1'] 1"


def test_a_challenger_answers_those_who_ask_for_it(place: Place) -> None:
    part = {"shadow": False, "share": 1.0, "by": None, "header": ["x-variant", "b"]}
    place.target.deploy("loans", place.release(1, challenger=part), [{"a": 1}])
    beside: Any = make_target(place.root, "edge", kind="compose", port=0, place=place.place)
    release = place.release(2, 2, challenges="loans")
    release = replace(release, settings={**release.settings, "port": 0})

    def version(variant: str) -> int:
        url, headers = f"http://127.0.0.1:{place.port}/predict", {"x-variant": variant}
        request = urllib.request.Request(url, b"{}", headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(json.load(answer)["version"])

    try:
        assert version("b") == 1, "it is not there yet"
        with load(place.port) as seen:
            running = beside.deploy("loans-challenger", release, [{"a": 1}])
            wait(lambda: version("b") == 2)
            assert {version("a") for _ in range(5)} == {1}
        assert failures(seen) == {}
        assert (running.status, running.differs) == ("serving", ())
        assert place.target.observe("loans").differs == ()
        # where a shadow would get its copies
        champion, asked = f"test{place.port}_edge_loans-blue-1", "http://challenger:3000/predict"
        code = f"import urllib.request as r; print(r.urlopen({asked!r}, b'{{}}').read().decode())"
        assert '"version": 2' in podman("exec", champion, "/opt/service/bin/python", "-c", code)
    finally:
        beside.destroy("loans-challenger")
    assert version("b") == 1, "without it the champion answers everybody"
