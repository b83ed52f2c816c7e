"""The registry of targets, and what is found on this machine whoever knows of it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from mlspec.errors import MlspecError
from mlspec.observe import observe
from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.rundir import run_folder, write_state
from mlspec.providers.targets import found_here, make_target
from mlspec.resources import Desired, ObservedDeployment
from mlspec.spec.models import Spec
from mlspec.worktree import Worktree

STATE = {
    "status": "stopped",
    "release": "r" * 64,
    "model": "risk",
    "version": 4,
    "port": 3000,
    "since": "2026-01-01T00:00:00+00:00",
    "workers": 1,
    "ready": [],
    "restarts": 0,
}


@pytest.fixture
def leave(tmp_path):
    """A service that something started here."""

    def leave(deployment, target, state=STATE):
        folder = run_folder(tmp_path, deployment, target)
        folder.mkdir(parents=True)
        if state:
            write_state(folder, state)

    return leave


def test_a_local_target(tmp_path):
    assert make_target(tmp_path, "here", kind="local", port=3000) == LocalTarget(
        tmp_path, "here", 3000
    )


def test_a_kind_that_a_package_adds(tmp_path, monkeypatch):
    added = EntryPoint("elsewhere", "collections:deque", "mlspec.targets")
    monkeypatch.setattr(
        "mlspec.providers.targets.entry_points",
        lambda **wanted: EntryPoints([added]).select(**wanted),
    )
    with pytest.raises(TypeError, match="deque"):
        make_target(tmp_path, "there", kind="elsewhere")
    with pytest.raises(MlspecError, match="no kind of target named moon") as caught:
        make_target(tmp_path, "there", kind="moon")
    known = "batch, compose, elsewhere, image, kserve, kubernetes, local, sagemaker, ssh"
    assert caught.value.hint == f"there are: {known}"


def test_what_runs_here_is_found_whoever_knows_of_it(tmp_path, leave):
    assert found_here(tmp_path) == ()
    leave("risk", "staging")
    leave("loans", "here")
    leave("never-served", "here", state=None)
    assert found_here(tmp_path) == (("loans", "here"), ("risk", "staging"))


def test_what_the_spec_does_not_name_is_observed(tmp_path, leave):
    leave("risk", "gone")
    desired = Desired(Spec(mlspec=1, project="p"), "", {})
    assert observe(desired, Worktree(tmp_path)).deployments == {
        "deployment.risk@gone": ObservedDeployment(running=False, release="r" * 64)
    }


def test_the_registry_imports_no_kind():
    code = (
        "import sys, mlspec.providers.targets\n"
        "heavy = {'mlspec.providers.local.client', 'mlspec.providers.local.release',"
        " 'http.client', 'asyncio'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
