"""`mlspec drift --adopt` of what a service has of its own."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspec.commands.compile import compile_files
from mlspec.commands.drift import drift
from mlspec.fingerprint import release_digest
from mlspec.git import Git
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import candidate_path, deployment_path, state_path, version_path
from mlspec.ledger.records import Candidate, Deployed, File, ModelState, Record, Version
from mlspec.planner.intake import Edit, Intake, Kind, take_file
from mlspec.providers.local.rundir import LOCK, run_folder
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.resources import DeploymentResource
from mlspec.spec.models import Dataset, Model

SPEC = """\
mlspec: 1
project: loans
models:
  risk:
    stages:
      train: {command: "true", outputs: [m.onnx]}
    artifact: {path: m.onnx, format: onnx}
targets:
  here: {kind: local}  # the port by default
deployments:
  risk:
    model: risk
    targets: [here]  # one
    resources: {cpus: 1, memory: 1GiB}
    pin: {here: 2}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mlspec.yaml").write_text(SPEC)
    git = Git(tmp_path)
    git.run("init", "-q", "-b", "main")
    compile_files(tmp_path, Console(), select=(), check=False, as_json=False)
    git.run("add", ".")
    git.run("commit", "-qm", "start")
    return tmp_path


def _version(number: int) -> Version:
    file = File(path="m.onnx", format="onnx", md5=str(number) * 32, size=1)
    return Version(
        model="risk",
        number=number,
        artifact=file,
        signature=None,
        metrics={},
        verdicts=(),
        fingerprint=str(number) * 64,
        stages={"train": str(number) * 64},
        commit="",
    )


def _record(root: Path) -> DeploymentResource:
    """Version 2 is deployed here, as far as the ledger knows."""
    with open_project(root) as project:
        resource = project.desired.get(DeploymentResource, "deployment.risk@here")
        release = release_digest(resource.service, resource.settings, "2" * 32, 2)
        records: dict[str, Record | None] = {state_path("risk"): ModelState(version=2)}
        for number in (1, 2):
            made = _version(number)
            records[version_path("risk", number)] = made
            records[candidate_path("risk", made.fingerprint)] = Candidate(
                fingerprint=made.fingerprint,
                stages=made.stages,
                commit="",
                status="accepted",
                version=number,
            )
        records[deployment_path("risk", "here")] = Deployed(
            deployment="risk",
            target="here",
            model="risk",
            version=2,
            release=release,
            status="serving",
            place=project.place,
        )
        project.ledger.record(records, make_entry(project.git, "apply"))
        return resource


def _serve(root: Path, version: int, digest: str, settings: dict[str, Any]) -> Iterator[None]:
    """What a supervisor leaves that serves a release."""
    folder = root / ".mlspec" / "releases" / digest[:12]
    (folder / "home").mkdir(parents=True)
    said: dict[str, Any] = {
        "digest": digest,
        "bento": "home",
        "tag": "risk:x",
        "model": "risk",
        "memory": None,
    }
    said |= {"version": version, "workers": 1, "capture": None, "settings": settings, "tree": {}}
    (folder / "release.json").write_text(json.dumps(said))
    run_dir = run_folder(root, "risk", "here")
    run_dir.mkdir(parents=True)
    state: dict[str, Any] = {
        "status": "serving",
        "ready": [1],
        "release": digest,
        "folder": str(folder),
    }
    state |= {"model": "risk", "version": version, "port": 3000, "since": "", "workers": 1}
    (run_dir / "state.json").write_text(json.dumps(state | {"restarts": 0}))
    lock = os.open(run_dir / LOCK, os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    yield
    os.close(lock)


def _adopt(root: Path) -> int:
    return drift(root, Console(), select=(), adopt=True, yes=True, as_json=False)


def test_a_running_release_is_taken_into_the_spec(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _record(root)
    wanted = (
        SPEC.replace("{kind: local}", "{kind: local, port: 3010}")
        .replace("{cpus: 1, memory: 1GiB}", "{cpus: 2, memory: 1536MiB}")
        .replace("    pin: {here: 2}\n", "    pin: {here: 1}\n    capture: {sample: 0.5}\n")
    )
    (root / "mlspec.yaml").write_text(wanted)
    with open_project(root) as project:
        resource = project.desired.get(DeploymentResource, "deployment.risk@here")
    (root / "mlspec.yaml").write_text(SPEC)
    digest = release_digest(resource.service, resource.settings, "1" * 32, 1)
    for _ in _serve(root, 1, digest, dict(resource.settings)):
        with open_project(root) as project:
            (found,) = (d for d in project.drifts(project.plan()) if "deployment" in d.address)
            assert found.reason == "it serves another release"
        assert _adopt(root) == 0, capsys.readouterr()
        assert (root / "mlspec.yaml").read_text() == wanted
        with open_project(root) as project:
            assert not [d for d in project.drifts(project.plan()) if "deployment" in d.address]
            (step,) = (s for s in project.plan().steps if s.address == resource.address)
            assert project.facts.fingerprints[step.address] == digest


def test_what_the_spec_keeps_away_or_cannot_say_is_not_taken(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resource = _record(root)
    other = release_digest({**resource.service, "service.py": "x"}, resource.settings, "2" * 32, 2)
    for _ in _serve(root, 2, other, dict(resource.settings)):
        assert _adopt(root) == 2
    assert "another text than the spec compiles to" in capsys.readouterr().out
    assert (root / "mlspec.yaml").read_text() == SPEC


def test_a_version_in_quarantine_and_a_dead_service_are_not_taken(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = SPEC.replace(
        "    artifact", "    quarantine: [{version: 1, reason: rude}]\n    artifact"
    )
    (root / "mlspec.yaml").write_text(held)
    resource = _record(root)
    digest = release_digest(resource.service, resource.settings, "1" * 32, 1)
    for _ in _serve(root, 1, digest, dict(resource.settings)):
        assert _adopt(root) == 2
        assert "rude" in capsys.readouterr().out
    assert _adopt(root) == 2
    assert "nothing serves there" in capsys.readouterr().out
    assert (root / "mlspec.yaml").read_text() == held


MODEL = Model.model_validate_json(
    json.dumps(
        {
            "stages": {
                "train": {"command": "python t.py", "inputs": ["d"], "outputs": ["a"]},
                "test": {"command": "python e.py", "metrics": "m.json", "predictions": "p.csv"},
            }
        }
    )
)
DATASETS = {"d": Dataset(path="data/d.csv"), "e": Dataset(path="data/e.csv")}
PIPELINE = """\
stages:
  train: {cmd: python t.py, wdir: ../.., deps: [data/d.csv, t.py], outs: [a]}
  test: {cmd: python e.py, wdir: ../.., deps: [e.py], outs: [p.csv], metrics: [m.json]}
"""
STAGES = ("models", "m", "stages")


def _taken(before: str, after: str) -> Intake:
    assert before in PIPELINE
    live = PIPELINE.replace(before, after)
    return take_file("pipelines/m/dvc.yaml", PIPELINE, live, {"m": MODEL}, DATASETS)


@pytest.mark.parametrize(
    ("before", "after", "edit"),
    [
        ("data/d.csv, ", "", Edit(Kind.REMOVE, (*STAGES, "train", "inputs"), "d")),
        ("d.csv,", "d.csv, data/e.csv,", Edit(Kind.ADD, (*STAGES, "train", "inputs"), "e")),
        ("d.csv,", "d.csv, x.txt,", Edit(Kind.ADD, (*STAGES, "train", "inputs"), "x.txt")),
        ("[a]", "[a, b]", Edit(Kind.ADD, (*STAGES, "train", "outputs"), "b")),
        ("[m.json]", "[n.json]", Edit(Kind.SET, (*STAGES, "test", "metrics"), "n.json")),
        (", metrics: [m.json]", "", Edit(Kind.DROP, (*STAGES, "test", "metrics"))),
        (" outs: [p.csv],", "", Edit(Kind.DROP, (*STAGES, "test", "predictions"))),
        (
            "python t.py",
            r"'echo \${x}'",
            Edit(Kind.SET, (*STAGES, "train", "command"), "echo ${x}"),
        ),
    ],
)
def test_what_a_pipeline_says_has_a_place(before: str, after: str, edit: Edit) -> None:
    assert _taken(before, after) == Intake([edit])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("../.., deps: [e.py]", "., deps: [e.py]"),
        (", t.py]", "]"),
        ("stages:", "vars: [x]\nstages:"),
        ("  test:", "  new: {cmd: ls}\n  test:"),
        ("[m.json]", "[m.json, n.json]"),
        ("[m.json]", "[{m.json: {cache: false}}]"),
        ("python t.py", "'echo ${x}'"),
        ("stages:", "stages: ]"),
        ("stages:", "- stages:"),
    ],
)
def test_what_has_no_place_is_told(before: str, after: str) -> None:
    found = _taken(before, after)
    assert not found.edits
    assert len(found.misfits) == 1
