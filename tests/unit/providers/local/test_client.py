"""Observing a local target: cheap, and right about what is dead, stopped or was never there."""

from __future__ import annotations

import fcntl
import subprocess
import sys

import pytest

from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.rundir import LOCK, write_state

STATE = {
    "status": "serving",
    "release": "r" * 64,
    "model": "risk",
    "version": 4,
    "port": 3000,
    "since": "2026-01-01T00:00:00+00:00",
    "workers": 2,
    "ready": [11, 12],
    "restarts": 1,
}


@pytest.fixture
def target(tmp_path):
    return LocalTarget(tmp_path, "staging", 3000)


@pytest.fixture
def write(target):
    def write_run(state, **changes):
        run_dir = target.run_dir("risk")
        run_dir.mkdir(parents=True, exist_ok=True)
        (run_dir / LOCK).touch()
        write_state(run_dir, {**state, **changes})
        return run_dir

    return write_run


def test_what_was_never_deployed(target):
    assert target.observe("risk") is None
    assert target.logs("risk") == ()
    target.stop("risk")
    target.destroy("risk")


def test_what_serves(target, write):
    with (write(STATE) / LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        running = target.observe("risk")
    assert (running.status, running.version, running.ready) == ("serving", 4, 2)
    assert running.url == "http://127.0.0.1:3000"


def test_a_dead_supervisor_is_down(target, write):
    write(STATE)
    running = target.observe("risk")
    assert (running.status, running.ready, running.release) == ("down", 0, "r" * 64)


def test_no_worker_that_answers_is_down(target, write):
    with (write(STATE, ready=[]) / LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert target.observe("risk").status == "down"


def test_stopped_is_not_down(target, write):
    write(STATE, status="stopped")
    assert target.observe("risk").status == "stopped"


def test_a_supervisor_that_starts_runs_nothing_yet(target, write):
    write({"status": "starting", "port": 3000})
    assert target.observe("risk") is None


def test_destroy_forgets_what_is_dead(target, write):
    run_dir = write(STATE)
    target.destroy("risk")
    assert not run_dir.exists()


def test_observing_imports_nothing_heavy():
    code = (
        "import sys, mlspec.providers.local.client\n"
        "heavy = {'bentoml', 'numpy', 'onnx', 'jinja2', 'pydantic', 'asyncio', 'uvicorn',"
        " 'http.client'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_supervisor_imports_nothing_heavy():
    code = (
        "import sys\nbefore = set(sys.modules)\nimport mlspec.providers.local.daemon\n"
        "new = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(new - set(sys.stdlib_module_names) - {'mlspec'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
