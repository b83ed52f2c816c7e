"""Rollouts on a local target while requests come: promoted or returned, and no request is lost."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.rundir import load_state
from mlspec.providers.target import Release
from mlspec.rollouts.driver import Clock, drive
from mlspec.rollouts.engine import Order, Phase, Terms
from mlspec.rollouts.judge import Limits

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="HAProxy"
    ),
]
NAME = "loans"
PATIENCE = 180.0
LIMITS = Limits(error_rate=0.05, latencies={0.95: 0.1}, prediction_drift=0.25, least=60)
CANARY = Terms("canary", (0.2, 0.5), bake=1.0, limits=LIMITS)
GOOD = {"errors": 0.0, "sleep": 0.0, "yes": 0.3, "dies": 0, "power": 0}


@pytest.fixture
def target(tmp_path, free_port):
    target = LocalTarget(tmp_path, "here", free_port(), drain_seconds=5)
    yield target
    target.destroy(NAME)


def make(root, version, workers=1, capture=None, **behaviour):
    """A release of the stand-in that behaves so."""
    folder = root / "releases" / f"v{version}"
    source = folder / "src"
    source.mkdir(parents=True)
    shutil.copy(Path(__file__).with_name("standin_service.py"), source / "service.py")
    (source / "behaviour.json").write_text(json.dumps({**GOOD, **behaviour, "version": version}))
    digest = f"{version:064d}"
    return Release(digest, folder, folder, "t:1", "m", version, workers, None, capture)


class Load:
    """Clients that send one request after another, half of them on new connections each time."""

    def __init__(self, port, clients=6):
        self.versions = Counter()
        self.statuses = Counter()
        self.lost = []
        self._port = port
        self._done = threading.Event()
        self._threads = [
            threading.Thread(target=self._send, args=(number % 2 == 0,))
            for number in range(clients)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _send(self, keeps):
        connection = self._connect()
        while not self._done.is_set():
            try:
                if not keeps:
                    connection.close()
                    connection = self._connect()
                connection.request("POST", "/predict", b"{}")
                response = connection.getresponse()
                answer = json.loads(response.read())
                self.statuses[response.status] += 1
                self.versions[answer["version"]] += 1
            except (OSError, ValueError, http.client.HTTPException) as error:
                self.lost.append(repr(error))
                connection = self._connect()
            time.sleep(0.002)
        connection.close()

    def _connect(self):
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)


@contextmanager
def rolling(target, release, terms=CANARY):
    """A function that drives the rollout of `release`, while requests come."""
    with (
        Load(target.port) as load,
        target.try_out(NAME, release, (), splits=terms.strategy == "canary") as trial,
    ):
        shown = []

        def go(orders=()):
            left = iter(orders)
            state = drive(terms, trial, Clock(), show=shown.append, order=lambda: next(left, None))
            return state, shown, load

        yield go


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def settled(target, load, version):
    """Only this version answers now."""
    wait_for(lambda: load_state(target.run_dir(NAME))["version"] == version)
    wait_for(lambda: not proxies(target))
    time.sleep(0.1)
    before = Counter(load.versions)
    wait_for(lambda: load.versions[version] > before[version] + 50)
    other = {key: load.versions[key] - before[key] for key in load.versions if key != version}
    assert set(other.values()) <= {0}


def proxies(target):
    """The processes of HAProxy of the supervisor."""
    supervisor = load_state(target.run_dir(NAME))["pid"]
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")
            state, parent = fields[2].split()[:2]
            if fields[0].endswith("(haproxy") and int(parent) == supervisor and state != "Z":
                found.append(int(process.name))
    return found


def name_of(process):
    try:
        return Path(f"/proc/{process}/cmdline").read_text()
    except OSError:
        return ""


def test_a_good_canary_is_promoted(target, tmp_path):
    target.deploy(NAME, make(tmp_path, 1, workers=2), ())
    with rolling(target, make(tmp_path, 2, workers=2)) as go:
        state, shown, load = go()
        assert (state.phase, state.reason) == (Phase.PROMOTED, "")
        assert {each.step for each in shown} == {0, 1}
        settled(target, load, 2)
    assert load.lost == []
    assert set(load.statuses) == {200}
    assert target.observe(NAME).version == 2


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        ({"errors": 0.4}, "requests failed"),
        ({"sleep": 0.3}, "latency_p95"),
        ({"yes": 0.9}, "prediction_drift"),
        ({"dies": 30}, "of its processes ended by themselves"),
    ],
    ids=["errors", "latency", "drift", "dead"],
)
def test_a_bad_canary_goes_back(target, tmp_path, behaviour, said):
    target.deploy(NAME, make(tmp_path, 1), ())
    with rolling(target, make(tmp_path, 2, **behaviour)) as go:
        state, _, load = go()
        assert (state.phase, state.refused) == (Phase.ABORTED, True)
        assert said in state.reason
        settled(target, load, 1)
    # A process that dies may take with it what it was answering; a switch loses nothing.
    assert len(load.lost) <= 2 * ("dies" in behaviour)
    failed = load.statuses.total() - load.statuses[200]
    assert (failed > 0) == ("errors" in behaviour)
    assert set(load.statuses) <= {200, 500}
    assert target.observe(NAME).version == 1


def test_drift_of_numbers_is_found_in_captures(target, tmp_path):
    target.deploy(NAME, make(tmp_path, 1, capture=1.0, power=1), ())
    with rolling(target, make(tmp_path, 2, capture=1.0, power=6)) as go:
        state, _, load = go()
        assert (state.phase, state.refused) == (Phase.ABORTED, True)
        assert state.reason.startswith("prediction_drift is ")
        settled(target, load, 1)
    assert load.lost == []


def test_one_that_is_never_ready_gets_no_request(target, tmp_path):
    target.deploy(NAME, make(tmp_path, 1), ())
    broken = make(tmp_path, 2)
    (broken.bento / "src/service.py").write_text("raise SystemExit(3)")
    with Load(target.port) as load:
        with pytest.raises(RolledBack, match="ended with exit code 3 before it was ready"):
            target.try_out(NAME, broken, (), splits=True).__enter__()
        settled(target, load, 1)
    assert load.lost == []
    assert set(load.versions) == {1}


def test_blue_green_and_back(target, tmp_path):
    terms = Terms("blue-green", (1.0,), bake=1.0, limits=LIMITS)
    target.deploy(NAME, make(tmp_path, 1), ())
    with rolling(target, make(tmp_path, 2), terms) as go:
        state, _, load = go()
        assert state.phase is Phase.PROMOTED
        assert proxies(target) == []
        settled(target, load, 2)
    assert load.lost == []
    with rolling(target, make(tmp_path, 3, errors=0.5), terms) as go:
        state, _, load = go()
        assert (state.phase, state.refused) == (Phase.ABORTED, True)
        settled(target, load, 2)
    assert load.lost == []


def test_without_requests_it_waits_and_an_order_ends_it(target, tmp_path):
    target.deploy(NAME, make(tmp_path, 1), ())
    with target.try_out(NAME, make(tmp_path, 2), (), splits=True) as trial:
        shown, orders = [], iter([None, None, Order.PAUSE, None, Order.ABORT])
        state = drive(CANARY, trial, Clock(), show=shown.append, order=lambda: next(orders))
    assert (state.phase, state.step, state.reason) == (Phase.ABORTED, 0, "it was aborted by hand")
    assert shown[2].phase is Phase.BAKING
    assert "0 requests of at least 60" in shown[2].verdict.detail
    assert shown[4].phase is Phase.PAUSED
    assert target.observe(NAME).version == 1


def test_a_command_that_is_gone_leaves_what_served(target, tmp_path):
    target.deploy(NAME, make(tmp_path, 1), ())
    with Load(target.port) as load:
        with target.try_out(NAME, make(tmp_path, 2), (), splits=True) as trial:
            trial.weigh(0.5)
            wait_for(lambda: load.versions[2] > 20)
            assert len(proxies(target)) == 1
        settled(target, load, 1)
        # the way is free for the next
        with target.try_out(NAME, make(tmp_path, 3), (), splits=True) as trial:
            trial.weigh(0.5)
            wait_for(lambda: load.versions[3] > 20)
            trial.promote()
        settled(target, load, 3)
    assert load.lost == []


def test_a_proxy_that_ends_by_itself_gives_the_port_back(target, tmp_path):
    target.deploy(NAME, make(tmp_path, 1), ())
    with target.try_out(NAME, make(tmp_path, 2), (), splits=True) as trial:
        trial.weigh(0.5)
        (proxy,) = proxies(target)
        os.kill(proxy, signal.SIGKILL)
        with pytest.raises(MlspecError, match="HAProxy ended by itself"):
            wait_for(lambda: trial.read() is None)
    with Load(target.port) as load:
        settled(target, load, 1)
    assert load.lost == []


def test_a_supervisor_that_is_killed_takes_the_proxy_along(target, tmp_path):
    target.deploy(NAME, make(tmp_path, 1), ())
    with (
        pytest.raises(MlspecError),
        target.try_out(NAME, make(tmp_path, 2), (), splits=True) as trial,
    ):
        trial.weigh(0.5)
        (proxy,) = proxies(target)
        os.kill(load_state(target.run_dir(NAME))["pid"], signal.SIGKILL)
        wait_for(lambda: "haproxy" not in name_of(proxy))
        trial.read()
    release = make(tmp_path, 3)
    wait_for(lambda: _deploys(target, release))
    assert target.observe(NAME).version == 3


def _deploys(target, release):
    """The port is free when the last worker has drained."""
    try:
        return target.deploy(NAME, release, ())
    except MlspecError:
        return False


def test_without_haproxy_a_canary_is_refused(target, tmp_path, monkeypatch):
    monkeypatch.setattr("mlspec.providers.local.proxy.find_program", lambda: None)
    target.deploy(NAME, make(tmp_path, 1), ())
    with pytest.raises(MlspecError, match="needs HAProxy, which is not installed"):
        target.try_out(NAME, make(tmp_path, 2), (), splits=True).__enter__()
    with target.try_out(NAME, make(tmp_path, 3), (), splits=False) as trial:
        trial.weigh(1.0)
        trial.promote()
    assert target.observe(NAME).version == 3
