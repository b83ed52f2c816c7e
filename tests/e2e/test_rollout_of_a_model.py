"""A rollout as a user has it: a generated service, `apply`, and `mlspec rollout` beside it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import threading
import time
import urllib.request

import pytest

from mlspec.rollouts.board import Board

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="HAProxy"
    ),
]
PATIENCE = 90.0
ROLLOUT = """\
    rollout:
      strategy: canary
      steps: [20%, 50%]
      bake: 1s
      min_requests: 30
      abort_if: {error_rate: 10%, prediction_drift: 0.25}
"""
BODY = json.dumps({"rows": [{"income": income, "age": 30} for income in (45.5, 245)]}).encode()
"""The first score is just above zero for a threshold of 45, and just below for one of 46."""


class Clients:
    """Requests, one after another, from a few threads."""

    def __init__(self, port):
        self.answers, self.failed = [], []
        self._port = port
        self._done = threading.Event()
        self._threads = [threading.Thread(target=self._send) for _ in range(3)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _send(self):
        url, headers = (
            f"http://127.0.0.1:{self._port}/predict",
            {"content-type": "application/json"},
        )
        while not self._done.is_set():
            try:
                request = urllib.request.Request(url, BODY, headers)
                with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                    self.answers.append(json.load(answer)["version"])
            except (OSError, ValueError) as error:
                self.failed.append(repr(error))
            time.sleep(0.01)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


@pytest.mark.thorough
def test_a_rollout_of_a_model(make_project):
    project = make_project(serve=True)
    project.write("mlspec.yaml", project.read() + ROLLOUT)
    project.commit("Roll out in steps")
    assert project.plan() == {}, "how a release takes over is no change of what serves"
    assert "there was no rollout" in project.mlspec("rollout", "status", "loans").stdout
    refused = project.mlspec("rollout", "pause", "loans", code=1)
    assert "no rollout of deployment.loans@local is under way here" in refused.stderr

    with Clients(project.serving()["port"]) as clients:
        project.edit("threshold: 45", "threshold: 45.1")
        project.commit("A little better")
        step = project.plan()["deployment.loans@local"]
        assert step["reason"].endswith("canary: 20% → 50% → 100%, bake 1s")
        project.apply()
        assert project.serving()["version"] == 2
        shown = project.json("rollout", "status", "loans")
        assert (shown["active"], shown["rollout"]["phase"]) == (False, "promoted")
        entry = project.json("log", "deployment.loans@local")[0]
        assert "after canary: 20% → 50% → 100%, bake 1s: " in entry["detail"]

        project.edit("threshold: 45.1", "threshold: 46")
        project.commit("Worse, in a way that no gate asks for")
        failed = project.mlspec("apply", "--yes", code=6)
        assert "went back: prediction_drift is" in failed.stderr
        assert project.serving()["version"] == 2
        held = project.held()["deployment.loans@local"]
        assert held.startswith(
            "this release was refused: version 3 of loans went back: prediction_d"
        )
        assert project.apply() == []
        told = project.mlspec("rollout", "status", "loans").stdout
        assert "version 3 of loans went back at 20% of requests: prediction_drift" in told

        project.edit("threshold: 46", "threshold: 45.2")
        project.edit("bake: 1s", "bake: 1h")
        project.commit("Mend it, and take time")
        applying = start_apply(project)
        told = project.mlspec("rollout", "pause", "loans").stdout
        assert "version 4 of loans has 20% of requests, step 1 of 2, paused." in told
        assert "version 4 has 20% of requests" in project.mlspec("status").stdout
        applying.send_signal(signal.SIGKILL)
        applying.wait()
        assert not project.json("rollout", "status", "loans")["active"]
        wait_for(lambda: set(clients.answers[-30:]) == {2})
        assert project.serving()["version"] == 2

        applying = start_apply(project)
        told = project.mlspec("rollout", "abort", "loans").stdout
        assert "went back at 20% of requests: it was aborted by hand" in told
        assert applying.wait(timeout=PATIENCE) == 6
        assert project.serving()["version"] == 2
        assert "aborted by hand" in project.held()["deployment.loans@local"]
    assert clients.failed == []


def start_apply(project):
    """An apply that goes on beside, once its rollout is under way."""
    applying = subprocess.Popen(
        ["mlspec", "apply", "--yes"],
        cwd=project.root,
        env={**project.environment, "STAGE_JOURNAL": str(project.journal)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )

    board = Board(project.root, "loans@local")

    def under_way():
        assert applying.poll() is None, "the apply has ended"
        return board.alive() and (board.load() or {}).get("phase") == "baking"

    wait_for(under_way)
    return applying
