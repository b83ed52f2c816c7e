"""A plain host over a real sshd: a release is taken into service, replaced under load, goes back.

HAProxy is real too; systemd is not, as none runs where tests do: `standin_systemd.py` runs what the
unit files say, and `test_ssh_systemd.py` does all of this with the real one. Services use packages
of the tests' own environment, put where an environment of their requirements would have been built;
that one is really built is a thorough test.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mlspec.errors import MlspecError, RemoteUnreachable, RolledBack
from mlspec.providers.local.proxy import find_program
from mlspec.providers.ssh.host import Host
from mlspec.providers.target import Release
from mlspec.providers.targets import make_target
from tests.e2e.load import failures, get, load, wait
from tests.e2e.sshd import SSHD, VERSION, Server, lend_environment, run_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(SSHD is None, reason="needs sshd: apt-get install openssh-server"),
    pytest.mark.skipif(find_program() is None, reason="needs haproxy"),
]
HERE = Path(__file__).parent
CUT_FROM = int(os.environ.get("MLSPEC_TEST_CUT_FROM", "2"))
CUT_STEP = int(os.environ.get("MLSPEC_TEST_CUT_STEP", "3"))
REQUIREMENTS = "uvicorn\n"


class Place:
    """A target, and releases of a service that behaves as it is told."""

    def __init__(self, root: Path, server: Server, port: int) -> None:
        self.root, self.server, self.port = root, server, port
        self.requirements = REQUIREMENTS
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

    def release(
        self,
        version: int,
        token: int = 1,
        service: str = "",
        *,
        power: float = 0,
        dies: int = 0,
        **more: Any,
    ) -> Release:
        source = self.root / "releases" / str(version) / "src"
        (source / "model").mkdir(parents=True, exist_ok=True)
        behaviour = {"errors": 0, "yes": 0.5, "sleep": 0, "dies": dies, "power": power}
        (source / "behaviour.json").write_text(json.dumps(behaviour | {"version": version}))
        (source / "service.py").write_text(service or (HERE / "standin_service.py").read_text())
        (source / "requirements.txt").write_text(self.requirements)
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

    def systemctl(self, *words: str) -> None:
        """Do something by hand on the host."""
        environment = self.server.environment
        program = str(shutil.which("systemctl", path=environment["PATH"]))
        subprocess.run([program, "--user", *words], env=environment, check=True)

    def cut(self) -> None:
        """End the connections that there are."""
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "cmdline").read_bytes().split(b"\0")
                if words[0].endswith(b"ssh") and str(self.server.port).encode() in words:
                    os.kill(int(folder.name), signal.SIGKILL)


@pytest.fixture
def server(free_port: Callable[[], int]) -> Iterator[Server]:
    with run_server(free_port()) as server:
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
    lend_environment(found.own, REQUIREMENTS)
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


def test_a_host_that_lets_nobody_in_is_said(
    tmp_path: Path, server: Server, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Place(tmp_path, server, free_port())
    with pytest.raises(MlspecError, match="DEPLOY_KEY is not set"):
        place.target.observe("loans")
    monkeypatch.setenv("DEPLOY_KEY", str(server.folder / "host"))
    with pytest.raises(RemoteUnreachable, match="lets you not in") as caught:
        place.target.observe("loans")
    assert "the key that DEPLOY_KEY names" in caught.value.hint

    monkeypatch.setenv("DEPLOY_KEY", str(server.key))
    assert place.target.observe("loans") is None
    known = (tmp_path / "known_hosts").read_text()
    (tmp_path / "known_hosts").write_text("")
    with pytest.raises(RemoteUnreachable, match="its host key is unknown") as caught:
        place.target.observe("loans")
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in caught.value.hint
    other = " ".join((server.folder / "key.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"[127.0.0.1]:{server.port} {other}\n")
    with pytest.raises(RemoteUnreachable, match="not the one that is known") as caught:
        place.target.observe("loans")
    assert "somebody may be in between" in caught.value.hint

    (tmp_path / "known_hosts").write_text(known)
    place.place["python"] = "python9.9"
    with pytest.raises(MlspecError, match=r"it has no python9\.9"):
        place.target.observe("loans")
    place.place |= {"python": sys.executable, "ssh_port": free_port()}
    with pytest.raises(RemoteUnreachable, match="Connection refused"):
        place.target.observe("loans")
    assert not (server.home / "mlspec").exists()


@pytest.mark.thorough
def test_what_is_not_as_it_was_deployed_is_found_and_mended(place: Place) -> None:
    target = place.target
    target.deploy("loans", place.release(1), [])
    unit = place.units / "mlspec-test_host_loans-blue.service"
    drop_in = place.units / f"{unit.name}.d/more.conf"
    drop_in.parent.mkdir()
    drop_in.write_text("[Service]\nNice=5\n")
    place.systemctl("daemon-reload")
    unit.write_text(unit.read_text().replace("MemoryMax=536870912", "MemoryMax=1073741824"))
    config = place.own / "deployments/loans@host/haproxy.cfg"
    config.write_text(config.read_text().replace("timeout queue 10s", "timeout queue 1s"))
    assert target.observe("loans").differs == (
        ("blue.MemoryMax", "536870912", "1073741824"),
        ("blue.drop-in", None, str(drop_in)),
        ("blue.loaded", "as it is written", "as it was before"),
        ("proxy.config", "timeout queue 10s", "timeout queue 1s"),
    )

    target.deploy("loans", place.release(1, 2), [])
    assert target.observe("loans").differs == ()
    place.systemctl("stop", "mlspec-test_host_loans-green.service")
    place.systemctl("disable", "mlspec-test_host_loans-proxy.service")
    running = target.observe("loans")
    assert running.status == "down"
    assert running.differs == (
        ("proxy.enabled", True, False),
        ("green.running", True, False),
    )
    target.deploy("loans", place.release(1, 3), [])
    assert target.observe("loans").differs == ()
    assert get(place.port)[0] == 200

    shutil.rmtree(place.own / "releases" / ("1" * 24))
    assert target.observe("loans").differs == (("blue.release", "1" * 24, None),)

    (place.own / "releases" / ("2" * 24)).mkdir()  # not whole: it is sent again
    target.deploy("loans", place.release(2, 4), [])
    assert target.observe("loans").differs == ()
    assert get(place.port)[1].startswith('{"version": 2')


@pytest.mark.thorough
def test_stop_start_rename_and_logs(place: Place) -> None:
    target = place.target
    target.deploy("loans", place.release(1, power=1, capture={"sample": 1.0}), [])
    assert get(place.port)[0] == 200
    target.stop("loans")
    target.stop("loans")
    assert target.observe("loans").status == "stopped"
    with pytest.raises(OSError):
        get(place.port)
    assert target.start("loans").status == "serving"
    assert get(place.port)[0] == 200
    assert any("Uvicorn running" in path.read_text() for path in target.logs("loans"))

    captured = place.server.home / ".config/mlspec/mlspec-test_host_loans-blue/captures"
    assert captured.is_dir()
    target.rename("loans", "credit")
    assert captured.is_dir()
    assert target.observe("loans") is None
    assert target.observe("credit").differs == ()
    assert get(place.port)[0] == 200
    target.rename("credit", "loans")
    target.rename("credit", "loans")  # it was done, and not recorded
    assert target.observe("loans").differs == ()


@pytest.mark.thorough
def test_another_port_is_taken(place: Place, free_port: Callable[[], int]) -> None:
    place.target.deploy("loans", place.release(1), [])
    before, place.port = place.port, free_port()
    with socket.create_server(("127.0.0.1", place.port)):
        with pytest.raises(MlspecError, match=f"something else listens on port {place.port}"):
            place.target.deploy("loans", place.release(2, 2), [])
        assert get(before)[1].startswith('{"version": 1')
    place.target.deploy("loans", place.release(2, 3), [])
    assert get(place.port)[1].startswith('{"version": 2')
    with pytest.raises(OSError):
        get(before)


@pytest.mark.thorough
def test_a_program_that_does_not_start_is_rolled_back(place: Place) -> None:
    place.target.deploy("loans", place.release(1), [])
    [environment] = (place.own / "environments").iterdir()
    (environment / "bin/python").unlink()
    (environment / "bin/python").write_text("")  # somebody broke it; no program can be run
    with pytest.raises(RolledBack, match="it does not start"):
        place.target.deploy("loans", place.release(2, 2), [])
    assert get(place.port)[1].startswith('{"version": 1')


@pytest.mark.thorough
def test_a_canary_gets_its_share_goes_back_and_is_promoted(place: Place) -> None:
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
        running = target.observe("loans")
        assert (running.version, running.differs) == (1, ())
        with target.try_out("loans", candidate, [{"a": 1}], splits=False) as trial:
            trial.weigh(1.0)
            wait(lambda: get(place.port)[1].startswith('{"version": 2'))
            trial.abort()
            assert get(place.port)[1].startswith('{"version": 1')
        with target.try_out("loans", candidate, [{"a": 1}], splits=True) as trial:
            trial.weigh(0.1)
            trial.promote()
        running = target.observe("loans")
        assert (running.version, running.differs) == (2, ())
    assert failures(seen) == {}
    state = place.server.home / ".config/mlspec"
    kept = {path.parent.parent.name for path in state.glob("*/captures/*.jsonl")}
    assert kept == {"mlspec-test_host_loans-blue", "mlspec-test_host_loans-green"}


@pytest.mark.thorough
def test_a_process_that_dies_is_seen(place: Place) -> None:
    target = place.target
    target.deploy("loans", place.release(1), [])
    with target.try_out("loans", place.release(2, 2, dies=1), [], splits=True) as trial:
        trial.weigh(0.9)
        with load(place.port):
            wait(lambda: "began anew" in trial.read().trouble)
        trial.abort()
    assert target.observe("loans").version == 1


@pytest.mark.thorough
def test_a_connection_that_is_lost_leaves_what_served(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlspec.providers.ssh.site.LOCK_SECONDS", 1.0)
    target = place.target
    target.deploy("loans", place.release(1), [])
    with load(place.port) as seen:
        with (
            pytest.raises(RemoteUnreachable),
            target.try_out("loans", place.release(2, 2), [], splits=True) as trial,
        ):
            trial.weigh(0.5)
            wait(lambda: seen["version 2"] >= 20)
            with pytest.raises(MlspecError, match="another command of mlspec is at work"):
                target.deploy("loans", place.release(3, 3), [])
            place.cut()
            trial.read()
        wait(lambda: place.target.observe("loans").differs == ())
    assert failures(seen) == {}
    assert target.deploy("loans", place.release(3, 3), []).version == 3


@pytest.mark.thorough
def test_a_deploy_may_end_anywhere(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """ssh is killed after some request: none of a client fails, and the next apply goes on."""
    target, send = place.target, Host._send
    left = 0

    def cut(host: Host, data: bytes) -> None:
        nonlocal left
        send(host, data)
        left -= 1
        if left == 0:
            assert host._process is not None
            host._process.kill()

    target.deploy("loans", place.release(1), [])
    monkeypatch.setattr(Host, "_send", cut)
    token, ended = 1, False
    with load(place.port) as seen:
        for count in itertools.count(CUT_FROM, CUT_STEP):
            if ended:
                break
            token, ended = token + 2, True
            before = target.observe("loans").version
            left = count
            release, smoke = place.release(3 - before, token), [{"a": 1}]
            try:
                target.deploy("loans", release, smoke)
            except RemoteUnreachable:
                ended = False
            left = 0
            with target._site("loans", alone=True):  # until it is put in order
                assert get(place.port)[0] == 200
            target.deploy("loans", replace(release, token=token + 1), smoke)
            running = target.observe("loans")
            assert (running.status, running.version, running.differs) == (
                "serving",
                3 - before,
                (),
            )
    assert failures(seen) == {}
    assert token > 20


@pytest.mark.thorough
def test_an_environment_is_built_once(place: Place) -> None:
    asked = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "click==8.1.8"]
    if subprocess.run(asked, cwd=place.root, check=False, capture_output=True).returncode:
        pytest.skip("no package index is reached from here")
    place.requirements = "# comment\nuvicorn==0.38.0\n"
    target = place.target
    assert target.deploy("loans", place.release(1), [{"a": 1}]).status == "serving"
    environments = place.own / "environments"
    built = {path.name: path.stat().st_ino for path in environments.iterdir()}
    assert len(built) == 2
    assert target.deploy("loans", place.release(2, 2), []).version == 2
    assert {path.name: path.stat().st_ino for path in environments.iterdir()} == built
    place.requirements = "no-such-package-of-mlspec==1\n"
    with pytest.raises(MlspecError, match="cannot install its packages"):
        target.deploy("loans", place.release(3, 3), [])
    assert {path.name for path in environments.iterdir()} == set(built)
    assert get(place.port)[1].startswith('{"version": 2')
