"""The target `compose`, against a stand-in for docker.

`standin_docker.py` keeps containers in a folder and says in its head what it does. What podman
makes of the very same calls is tried in tests/e2e/test_compose.py.
"""

from __future__ import annotations

import io
import json
import runpy
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from mlspec.compilers.compose import render_haproxy
from mlspec.errors import ExitCode, MlspecError, RemoteUnreachable, RolledBack
from mlspec.providers.compose.engine import run_arguments
from mlspec.providers.haproxy import weights
from mlspec.providers.target import Release
from mlspec.providers.targets import make_target, target_where

STANDIN = Path(__file__).parent / "standin_docker.py"
PLACE = {
    "image": None,
    "ready": 2.0,
    "engine": "docker",
    "proxy": None,
    "listen": "127.0.0.1",
    "base": "python:3.11-slim",
    "project": "demo",
}
STACK = "demo_edge_churn"


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """The folder of the stand-in's state."""
    programs, state = tmp_path / "bin", tmp_path / "engine"
    for folder in (programs, state, state / "containers"):
        folder.mkdir()
    (programs / "docker").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("ENGINE_STANDIN", str(state))
    standin = runpy.run_path(str(STANDIN))

    def run(command, *, stderr=None, input=b"", **_):  # noqa: A002 as subprocess has it
        assert command[0] == str(programs / "docker")
        printed, complained, code = io.StringIO(), io.StringIO(), 0
        monkeypatch.setattr(sys, "stdin", io.StringIO(input.decode()))
        with redirect_stdout(printed), redirect_stderr(complained):
            try:
                standin["main"](list(command[1:]))
            except SystemExit as end:
                code = int(str(end.code))
        told, problems = printed.getvalue().encode(), complained.getvalue().encode()
        if stderr is subprocess.STDOUT:
            return subprocess.CompletedProcess(command, code, told + problems, None)
        return subprocess.CompletedProcess(command, code, told, problems)

    monkeypatch.setattr(subprocess, "run", run)
    return state


@pytest.fixture
def root(tmp_path):
    found = tmp_path / "repository"
    found.mkdir()
    return found


@pytest.fixture
def make_release(root):
    def make(version=1, token=0, **settings):
        bento = root / "bentos" / str(version)
        (bento / "src/model").mkdir(parents=True, exist_ok=True)
        (bento / "src/service.py").write_text(f"# {version}\n")
        (bento / "src/model/model.json").write_text('{"commit": "abc"}')
        given = {"cpus": 1.0, "memory": None, "port": 3000, "capture": None, **settings}
        return Release(
            digest=f"{version}" * 64,
            path=bento,
            bento=bento,
            tag=f"churn:{version}",
            model="m",
            version=version,
            workers=1,
            memory=None,
            capture=None,
            settings={"compose": PLACE, **given},
            token=token,
        )

    return make


@pytest.fixture
def target(root, engine):  # noqa: ARG001 stand-in
    return make_target(root, "edge", kind="compose", port=3000, place=PLACE)


def containers(engine):
    return sorted(path.stem.removeprefix(f"{STACK}-") for path in (engine / "containers").iterdir())


def live_weights(engine):
    return json.loads((engine / "weights").read_text())


def calls(engine):
    return [json.loads(line) for line in (engine / "calls").read_text().splitlines()]


def test_nothing_is_there(target, engine):
    assert target.observe("churn") is None
    target.stop("churn")
    target.destroy("churn")
    assert target.logs("churn") == ()
    assert not (engine / "calls").exists(), "what was never here asks nobody"


def test_deploy_and_observe(target, engine, root, make_release):
    running = target.deploy("churn", make_release(), [{"a": 1}])
    assert (running.status, running.version, running.workers, running.ready) == ("serving", 1, 1, 1)
    assert (running.url, running.differs) == ("http://127.0.0.1:3000", ())
    assert target.observe("churn") == running
    assert containers(engine) == ["blue-1", "proxy"]
    file = yaml.safe_load((root / ".mlspec/compose/churn@edge/compose.yaml").read_text())
    service = file["services"]["blue-1"]
    assert service["image"].startswith("sha256:")
    assert (service["read_only"], service["cap_drop"], service["user"]) == (
        True,
        ["ALL"],
        "10001:10001",
    )
    assert file["services"]["proxy"]["ports"] == ["127.0.0.1:3000:3000"]


def test_releases_take_turns_in_the_slots(target, engine, root, make_release):
    target.deploy("churn", make_release(1), [])
    target.deploy("churn", make_release(2), [])
    assert containers(engine) == ["green-1", "proxy"]
    assert live_weights(engine) == {"blue": "0", "green": "200"}
    config = root / ".mlspec/compose/churn@edge/proxy/haproxy.cfg"
    assert config.read_text() == render_haproxy("green", 1), "it begins anew as it was left"
    target.deploy("churn", make_release(3), [])
    assert containers(engine) == ["blue-1", "proxy"]
    creations = [call for call in calls(engine) if call[0] == "run" and "--detach" in call]
    assert sum(f"--name={STACK}-proxy" in call for call in creations) == 1


def test_haproxy_is_replaced_by_another_one(target, engine, make_release):
    target.deploy("churn", make_release(1), [])
    place = {**PLACE, "proxy": "haproxy:3.1-alpine"}
    target.deploy("churn", make_release(2, compose=place), [])
    target.deploy("churn", make_release(3, compose=place), [])
    proxies = [call for call in calls(engine) if f"--name={STACK}-proxy" in call]
    assert [
        next(each for each in call if "haproxy:" in each and "=" not in each) for call in proxies
    ] == [
        "docker.io/library/haproxy:3.0-alpine",
        "haproxy:3.1-alpine",
    ]


def test_copies_and_captures(target, engine, make_release):
    release = make_release(1, replicas={"min": 2}, capture={"sample": 0.5}, memory=2**28)
    running = target.deploy("churn", release, [])
    assert (running.workers, running.ready, running.differs) == (2, 2, ())
    assert containers(engine) == ["blue-1", "blue-2", "proxy"]
    [second] = [call for call in calls(engine) if f"--name={STACK}-blue-2" in call]
    assert "--env=MLSPEC_CAPTURE_DIR=/captures/blue-2" in second
    assert f"--volume={STACK}-captures:/captures" in second
    assert f"--memory={2**28}" in second


def test_tokens_are_a_file_of_the_machine(target, engine, make_release, tmp_path_factory):
    file = tmp_path_factory.mktemp("etc") / "tokens"
    release = make_release(1, auth={"file": str(file)})
    with pytest.raises(MlspecError, match="is not a file of this machine"):
        target.deploy("churn", release, [])
    assert containers(engine) == []
    file.write_text("a-token-that-is-long-enough")
    assert target.deploy("churn", release, []).differs == ()
    [copy] = [call for call in calls(engine) if f"--name={STACK}-blue-1" in call]
    assert f"--volume={file}:/run/mlspec/tokens:ro" in copy
    assert "--env=MLSPEC_TOKENS=/run/mlspec/tokens" in copy


def test_a_port_for_tls(target, engine, root, make_release, tmp_path_factory):
    folder = tmp_path_factory.mktemp("etc")
    tls = {"certificate": str(folder / "edge.pem"), "client_ca": str(folder / "ca.pem")}
    for file in tls.values():
        Path(file).touch()
    release = make_release(1)
    place = {**release.settings["compose"], "tls": tls}
    release = replace(release, settings={**release.settings, "compose": place})
    running = target.deploy("churn", release, [])
    assert (running.url.partition(":")[0], running.differs) == ("https", ())
    [proxy] = [call for call in calls(engine) if f"--name={STACK}-proxy" in call]
    assert f"--volume={tls['certificate']}:/run/mlspec/certificate.pem:ro" in proxy
    config = (root / ".mlspec/compose/churn@edge/proxy/haproxy.cfg").read_text()
    [bind] = [line for line in config.splitlines() if " ssl " in line]
    assert bind.endswith("ca-file /run/mlspec/client_ca.pem verify required")

    target.deploy("churn", make_release(2), [])  # without it the port is plain again
    creations = [call for call in calls(engine) if f"--name={STACK}-proxy" in call]
    assert len([call for call in creations if call[0] == "run"]) == 2


@pytest.mark.parametrize(
    ("how", "said"), [("unready", "not ready within 2 s"), ("ends", "ended by itself")]
)
def test_a_release_that_is_not_ready_goes_back(target, engine, make_release, how, said):
    target.deploy("churn", make_release(1), [])
    (engine / how).write_text("2" * 64)
    with pytest.raises(RolledBack, match=f"version 2 of m was not taken .*{said}") as caught:
        target.deploy("churn", make_release(2), [])
    assert caught.value.exit_code is ExitCode.ROLLED_BACK
    assert "loaded the model" in caught.value.message
    running = target.observe("churn")
    assert (running.version, running.status, running.differs) == (1, "serving", ())


def test_smoke_rows_are_asked_before_any_request(target, engine, make_release):
    target.deploy("churn", make_release(1), [])
    (engine / "smoke.json").write_text(json.dumps([[422, '{"error": "row 0: a is missing"}']]))
    with pytest.raises(RolledBack, match="smoke request 1 of 1 got 422: row 0: a is missing"):
        target.deploy("churn", make_release(2), [{"a": 1}])
    assert containers(engine) == ["blue-1", "proxy"]
    assert not (engine / "weighed").exists() or live_weights(engine)["blue"] == "200"


def test_a_port_that_another_has_leaves_what_serves(target, engine, make_release):
    target.deploy("churn", make_release(1), [])
    (engine / "taken").write_text("3999")
    with pytest.raises(MlspecError, match="address already in use"):
        target.deploy("churn", make_release(2, port=3999), [])
    running = target.observe("churn")
    assert (running.version, running.status, running.differs) == (1, "serving", ())
    assert running.url.endswith(":3000") and live_weights(engine)["blue"] == "200"


def test_a_first_release_that_fails_leaves_nothing(target, engine, make_release):
    (engine / "unready").write_text("1" * 64)
    with pytest.raises(RolledBack):
        target.deploy("churn", make_release(1), [])
    (engine / "unready").unlink()
    (engine / "taken").touch()
    with pytest.raises(MlspecError, match="address already in use") as caught:
        target.deploy("churn", make_release(1), [])
    assert "another one" in caught.value.hint
    assert containers(engine) == []
    assert target.observe("churn") is None


def test_what_is_edited_by_hand_is_drift(target, engine, make_release):
    target.deploy("churn", make_release(1, memory=2**28), [])
    path = engine / "containers" / f"{STACK}-blue-1.json"
    live = json.loads(path.read_text())
    live["HostConfig"]["Memory"] = 2**30
    live["Image"] = "f" * 64
    path.write_text(json.dumps(live))
    differs = {name: now for name, _, now in target.observe("churn").differs}
    assert differs == {
        "blue-1.memory": 2**30,
        "blue-1.image": "f" * 12,
    }
    path.unlink()
    running = target.observe("churn")
    assert (running.status, running.differs[0]) == ("down", ("blue-1", "container", None))
    assert target.deploy("churn", make_release(1, memory=2**28), []).differs == ()


def test_what_a_killed_command_left_is_cleared(target, engine, make_release):
    target.deploy("churn", make_release(1), [])
    with target.try_out("churn", make_release(2), [], splits=True) as trial:
        trial.weigh(0.25)
        left = {path: path.read_text() for path in (engine / "containers").iterdir()}
        during = live_weights(engine)
    assert during == {"blue": "200", "green": "67"}
    for path, text in left.items():
        path.write_text(text)
    (engine / "weights").write_text(json.dumps(during))
    assert [name for name, *_ in target.observe("churn").differs] == ["green-1", "proxy.green"]
    running = target.deploy("churn", make_release(3), [])
    assert (running.version, running.differs) == (3, ())
    assert containers(engine) == ["green-1", "proxy"]


def test_haproxy_begins_with_what_is_settled(target, engine, root, make_release):
    target.deploy("churn", make_release(1), [])
    config = root / ".mlspec/compose/churn@edge/proxy/haproxy.cfg"
    settled = config.read_text()
    config.write_text(render_haproxy("green", 1))  # as a command that was killed left it
    (engine / "smoke.json").write_text(json.dumps([[422, '{"error": "row 0: a is missing"}']]))
    with pytest.raises(RolledBack):
        target.deploy("churn", make_release(2), [{"a": 1}])
    assert config.read_text() == settled


def test_a_rollout_reads_what_both_count(target, engine, make_release):
    target.deploy("churn", make_release(1), [])
    (engine / "metrics").write_text('mlspec_requests_total{status="200"} 7\n')
    with target.try_out("churn", make_release(2, replicas={"min": 2}), [], splits=True) as trial:
        trial.weigh(0.5)
        assert live_weights(engine) == {"blue": "200", "green": "100"}, "two have a half"
        reading = trial.read()
        assert (reading.champion.total, reading.candidate.total) == (7, 14)
        assert reading.trouble == ""
        (engine / "containers" / f"{STACK}-green-2.json").unlink()
        path = engine / "containers" / f"{STACK}-green-1.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "RestartCount": 3}))
        assert trial.read().trouble == "its containers began anew 3 times"
        trial.abort()
    running = target.observe("churn")
    assert (running.version, running.differs) == (1, ())


def test_a_rollout_that_is_promoted(target, make_release):
    target.deploy("churn", make_release(1), [])
    with target.try_out("churn", make_release(2), [], splits=True) as trial:
        trial.weigh(0.5)
        trial.promote()
    running = target.observe("churn")
    assert (running.version, running.differs) == (2, ())


def test_stop_start_rename_destroy(target, engine, root, make_release):
    target.deploy("churn", make_release(1), [])
    target.stop("churn")
    running = target.observe("churn")
    assert (running.status, running.differs) == ("stopped", ())
    assert target.start("churn").status == "serving"
    [log, *_] = target.logs("churn")
    assert log.read_text() == "loaded the model\n"
    target.rename("churn", "loans")
    assert target.observe("churn") is None
    assert target.observe("loans").status == "serving"
    where = {"kind": "compose", "port": 3000, **PLACE, "resources": {}}
    target_where(root, "edge", where).destroy("loans")
    assert containers(engine) == []
    assert target.observe("loans") is None


def test_a_later_apply_is_not_undone(target, make_release):
    target.deploy("churn", make_release(2, token=7), [])
    with pytest.raises(MlspecError, match="a later apply deployed here meanwhile"):
        target.deploy("churn", make_release(1, token=6), [])


def test_another_checkout_is_left_alone(target, engine, tmp_path, make_release):
    target.deploy("churn", make_release(1), [])
    other = make_target(tmp_path / "clone", "edge", kind="compose", port=3000, place=PLACE)
    with pytest.raises(MlspecError, match="another checkout runs it"):
        other.deploy("churn", make_release(2), [])
    other.destroy("churn")
    assert containers(engine) == ["blue-1", "proxy"]


def test_a_daemon_that_does_not_answer(target, engine, make_release, monkeypatch):
    target.deploy("churn", make_release(1), [])
    (engine / "unreachable").touch()
    second = make_release(2)
    for call in (lambda: target.observe("churn"), lambda: target.deploy("churn", second, [])):
        with pytest.raises(RemoteUnreachable, match="docker does not answer") as caught:
            call()
        assert caught.value.exit_code is ExitCode.UNREACHABLE
    monkeypatch.setenv("PATH", "")
    with pytest.raises(RemoteUnreachable, match="docker is not installed"):
        target.observe("churn")


def test_a_key_of_a_service_is_never_left_out(tmp_path):
    with pytest.raises(KeyError, match="privileged"):
        run_arguments({"services": {"a": {"image": "x", "privileged": True}}}, "a", tmp_path)


@pytest.mark.parametrize(
    ("shares", "copies", "expected"),
    [
        ({"blue": 1.0, "green": 0.0}, {}, {"blue": 200, "green": 0}),
        ({"blue": 0.9, "green": 0.1}, {"blue": 1, "green": 1}, {"blue": 200, "green": 22}),
        ({"blue": 0.5, "green": 0.5}, {"blue": 4, "green": 1}, {"blue": 50, "green": 200}),
        ({"blue": 0.999, "green": 0.001}, {}, {"blue": 200, "green": 1}),
    ],
)
def test_weights(shares, copies, expected):
    assert weights(shares, copies) == expected


SHADOW = {"shadow": True, "share": 0.5, "by": None, "header": None}
SHARE = {"shadow": False, "share": 0.05, "by": None, "header": None}


def test_a_champion_sends_copies(target, engine, make_release):
    target.deploy("churn", make_release(challenger=SHADOW), [])
    [copy] = [call for call in calls(engine) if f"--name={STACK}-blue-1" in call]
    assert "--env=MLSPEC_MIRROR=http://challenger:3000" in copy
    assert "--env=MLSPEC_MIRROR_SHARE=0.5" in copy
    assert target.observe("churn").differs == ()


def test_a_champion_leaves_requests_to_its_challenger(target, engine, root, make_release):
    target.deploy("churn", make_release(1, challenger=SHARE), [])
    config = root / ".mlspec/compose/churn@edge/proxy/haproxy.cfg"
    assert "use-server challenger if { rand(1000000) lt 50000 }" in config.read_text()
    assert "server challenger unix@/sockets/challenger.sock weight 0" in config.read_text()
    target.deploy("churn", make_release(2, challenger={**SHARE, "share": 0.1}), [])
    assert "lt 100000" in config.read_text()
    proxies = [call for call in calls(engine) if f"--name={STACK}-proxy" in call]
    assert len(proxies) == 2, "HAProxy reads what it is told when it starts"
    target.deploy("churn", make_release(3), [])
    assert "challenger" not in config.read_text()
    assert target.observe("churn").differs == ()


def test_a_challenger_is_in_the_network_of_its_champion(engine, root, make_release):
    beside = make_target(root, "edge", kind="compose", port=0, place=PLACE)
    name, settings = "churn-challenger", {"challenges": "churn", "port": 0}
    running = beside.deploy(name, make_release(2, **settings), [])
    assert (running.status, running.differs) == ("serving", ())
    proxy = f"{STACK}-challenger-proxy"
    assert ["network", "connect", "--alias=challenger", STACK, proxy] in calls(engine)
    [made] = [call for call in calls(engine) if f"--name={proxy}" in call]
    assert not any(each.startswith("--publish") for each in made), "it has no port of the machine"
    document = yaml.safe_load((root / f".mlspec/compose/{name}@edge/compose.yaml").read_text())
    assert document["networks"]["champion"] == {"name": STACK, "external": True}
    assert f"--volume={STACK}_sockets:/champion" in made
    config = root / f".mlspec/compose/{name}@edge/proxy/haproxy.cfg"
    assert "bind unix@/champion/challenger.sock" in config.read_text()

    path = engine / "containers" / f"{proxy}.json"
    item = json.loads(path.read_text())
    del item["NetworkSettings"]["Networks"][STACK]
    path.write_text(json.dumps(item))
    assert beside.observe(name).differs == (("proxy.network", STACK, None),)
    assert beside.deploy(name, make_release(2, **settings), []).differs == ()
