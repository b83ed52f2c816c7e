"""What is told to Prometheus, and when the agent counts as alive."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request

import pytest

from mlspec.errors import MlspecError
from mlspec.following.telemetry import Board, Telemetry, check_health, render_metrics, serve


def values(text: str) -> dict[str, str]:
    rows = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name.removeprefix("mlspec_reconcile_"): value for name, value in rows}


def test_metrics_say_what_is_known() -> None:
    now = Telemetry(commit="abc", ended={"applied": 2, "rolled back": 1}, drift=3, succeeded=100.0)
    said = values(render_metrics(now, 160.5))
    assert said['last_applied_info{commit="abc"}'] == "1"
    assert said['attempts_total{outcome="applied"}'] == "2"
    assert said['attempts_total{outcome="rolled_back"}'] == "1"
    assert said['attempts_total{outcome="invalid"}'] == "0"
    assert float(said["drift_steps"]) == 3
    assert float(said["seconds_since_success"]) == 60.5


def test_what_is_not_known_is_not_told() -> None:
    said = values(render_metrics(Telemetry(), 0.0))
    assert not {"drift_steps", "seconds_since_success"} & said.keys()


def test_every_metric_says_what_it_is() -> None:
    text = render_metrics(Telemetry(commit="abc", drift=0, succeeded=1.0), 2.0)
    names = {name.partition("{")[0] for name in values(text)}
    for kind in ("HELP", "TYPE"):
        heads = [line.split()[2] for line in text.splitlines() if line.startswith(f"# {kind}")]
        assert {head.removeprefix("mlspec_reconcile_") for head in heads} == names
        assert len(heads) == len(set(heads))


def test_it_is_alive_while_it_works_and_as_long_as_it_comes_round() -> None:
    assert check_health(Telemetry(turned=100, patience=60), 160)[0] == 200
    assert check_health(Telemetry(turned=100, patience=60), 161)[0] == 503
    assert check_health(Telemetry(turned=100, patience=60, working=True), 9999)[0] == 200


def test_it_is_served_as_it_is_now() -> None:
    board = Board()
    with serve("127.0.0.1:0", board) as port:
        board.now = Telemetry(commit="abc", drift=2, turned=time.monotonic())
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            assert 'commit="abc"' in answer.read().decode()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60) as answer:
            assert json.load(answer)["drift"] == 2
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=60)
        with pytest.raises(MlspecError, match="cannot listen"), serve(f"127.0.0.1:{port}", board):
            pass


@pytest.mark.parametrize("address", ["", "9090", "0.0.0.0:9090", "127.0.0.1:", "127.0.0.1:70000"])
def test_only_addresses_of_this_machine_are_taken(address: str) -> None:
    with (
        pytest.raises(MlspecError, match="not an address of this machine"),
        serve(address, Board()),
    ):
        pass
