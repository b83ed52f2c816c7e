"""A plain host over a real sshd: a release is taken into service, replaced under load, goes back.

HAProxy is real too; systemd is not, as none runs where tests do: `standin_systemd.py` runs what the
unit files say. Services use the packages of the tests' own environment, put where an environment of
their requirements would have been built; that one is really built is a thorough test.
"""

from __future__ import annotations

import json
import platform
import site
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.local.proxy import find_program
from mlspec.providers.ssh.client import environment_name
from mlspec.providers.target import Release
from mlspec.providers.targets import make_target
from tests.e2e.load import failures, get, load
from tests.e2e.sshd import SSHD, Server, make_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server"),
    pytest.mark.skipif(find_program() is None, reason="needs haproxy"),
]
HERE = Path(__file__).parent
VERSION = "{}.{}".format(*sys.version_info[:2])
REQUIREMENTS = "uvicorn\n"


class Place:
    """A target, and releases of a service that behaves as it is told."""

    def __init__(self, root: Path, server: Server, port: int) -> None:
        self.root, self.server, self.port = root, server, port
        (root / "known_hosts").write_text(server.known_hosts)
        self.place = {
            "host": "127.0.0.1",
            "user": None,
            "ssh_port": server.port,
            "identity_env": "DEPLOY_KEY",
            "known_hosts": "known_hosts",
            "folder": None,
            "listen": "127.0.0.1",
            "python": sys.executable,
            "version": VERSION,
            "ready": 40.0,
            "units": "user",
            "project": "test",
        }

    @property
    def target(self) -> Any:
        return make_target(self.root, "host", kind="ssh", port=self.port, place=self.place)

    @property
    def own(self) -> Path:
        """The project's folder on the host."""
        return self.server.home / "mlspec/test"

    @property
    def units(self) -> Path:
        return self.server.home / ".config/systemd/user"

    def release(self, version: int, token: int = 1, service: str = "", **more: Any) -> Release:
        source = self.root / "releases" / str(version) / "src"
        (source / "model").mkdir(parents=True, exist_ok=True)
        behaviour = {"errors": 0, "yes": 0.5, "sleep": 0, "dies": 0, "power": 0}
        (source / "behaviour.json").write_text(json.dumps(behaviour | {"version": version}))
        (source / "service.py").write_text(service or (HERE / "standin_service.py").read_text())
        (source / "requirements.txt").write_text(REQUIREMENTS)
        (source / "model/model.json").write_text('{"commit": ""}')
        settings = {"cpus": 1.0, "memory": 512 * 2**20, "capture": None, **more}
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
            settings={**settings, "port": self.port, "ssh": self.place},
            token=token,
        )

    def lend_environment(self) -> None:
        """Have the tests' own packages where an environment would have been built."""
        interpreter = f"{platform.machine()} {sys.executable}"
        name = environment_name(REQUIREMENTS, interpreter, VERSION)
        folder = self.own / "environments" / name
        folder.parent.mkdir(parents=True)
        make = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
        subprocess.run(make, check=True)
        packages = folder / f"lib/python{VERSION}/site-packages/tests.pth"
        packages.write_text("\n".join(site.getsitepackages()))


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[Server]:
    systemd = HERE / "standin_systemd.py"
    programs = dict.fromkeys(("systemctl", "journalctl", "loginctl"), systemd)
    # a short one, as a socket's path must be
    with tempfile.TemporaryDirectory(prefix="mlspec-host-") as folder:
        server = make_server(Path(folder), free_port(), programs)
        with server.running():
            yield server


@pytest.fixture
def place(
    tmp_path: Path,
    server: Server,
    free_port: Callable[[], int],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    monkeypatch.setenv("DEPLOY_KEY", str(server.key))
    found = Place(tmp_path, server, free_port())
    found.lend_environment()
    try:
        yield found
    finally:
        found.target.destroy("loans")
        assert list(found.units.glob("*.service")) == []
        assert list((found.own / "deployments").iterdir()) == []


def test_a_release_replaces_another_and_a_bad_one_goes_back(place: Place) -> None:
    target, smoke = place.target, [{"a": 1}]
    assert target.observe("loans") is None
    running = target.deploy("loans", place.release(1), smoke)
    assert (running.status, running.version, running.differs) == ("serving", 1, ())
    assert get(place.port)[0] == 200

    with load(place.port) as seen:
        target.deploy("loans", place.release(2, 2), smoke)
        broken = place.release(3, 3, "raise SystemExit('no model')\n")
        with pytest.raises(RolledBack, match="ended by itself") as caught:
            target.deploy("loans", broken, smoke)
    assert "no model" in caught.value.message
    assert failures(seen) == {}
    assert seen["version 1"]
    assert seen["version 2"]
    running = target.observe("loans")
    assert (running.status, running.version, running.differs) == ("serving", 2, ())

    with pytest.raises(MlspecError, match="a later apply"):
        target.deploy("loans", place.release(1, 1), smoke)
