"""Stages at the same time: nothing is lost, and DVC finds what it would have written itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

MODELS = [f"m{number:02}" for number in range(12)]
PATIENCE = 60.0
TRAIN = """\
set -eu
echo $1 >> "$STAGE_JOURNAL"
mkdir -p models/$1/parts
cat pipelines/$1/params.json data/rows.csv > models/$1/weights
cp models/$1/weights models/$1/parts/one
printf '{"score": 0.5}' > models/$1/metrics.json
"""
WAIT = 'for _ in $(seq 600); do test -e "$1" && exit; sleep 0.1; done; exit 1\n'


def train(model: str, number: int) -> dict[str, Any]:
    return {
        "command": f"sh src/train.sh {model}",
        "inputs": ["rows"],
        "code": ["src/train.sh"],
        "params": {"round": number, "name": model},
        "outputs": [f"models/{model}/weights", f"models/{model}/parts"],
        "metrics": f"models/{model}/metrics.json",
        "resources": {"cpus": 0.1},
    }


def spec(models: Mapping[str, Mapping[str, Any]]) -> str:
    """JSON is YAML."""
    stages = {name: {"stages": dict(stages)} for name, stages in models.items()}
    body = {"mlspec": 1, "project": "many", "datasets": {"rows": {"path": "data/rows.csv"}}}
    return json.dumps({**body, "models": stages}, indent=1)


@pytest.fixture
def project(tmp_path: Path, checkout: Callable[[Path], Any]) -> Any:
    """A repository whose stages are shell scripts; the spec is for the test to write."""
    project = checkout(tmp_path / "many")
    for folder in ("src", "data"):
        (project.root / folder).mkdir(parents=True)
    project.write("src/train.sh", TRAIN)
    project.write("src/wait.sh", WAIT)
    project.write("data/rows.csv", "1\n2\n")
    project.git("init", "--quiet", "--initial-branch", "main")
    project.commit("Start")
    return project


def outcomes(project: Any, *arguments: str, code: int = 0) -> dict[str, str]:
    """How the steps of an apply ended, by address."""
    report = project.json("apply", "--yes", *arguments, code=code)
    return {outcome["address"]: outcome["status"] for outcome in report["outcomes"]}


def locks(root: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in root.glob("pipelines/*/dvc.lock")}


@pytest.mark.slow
@pytest.mark.parametrize("rounds", [4, pytest.param(20, marks=pytest.mark.thorough)])
def test_twelve_stages_many_times(project: Any, tmp_path: Path, rounds: int) -> None:
    """Every run is in the ledger, and DVC agrees on each byte of each lock."""
    for number in range(rounds):
        project.journal.unlink(missing_ok=True)
        project.write(
            "mlspec.yaml", spec({name: {"train": train(name, number)} for name in MODELS})
        )
        ended = outcomes(project, "--jobs", "12")
        assert {ended[f"stage.{name}.train"] for name in MODELS} == {"done"}
        assert sorted(project.ran()) == MODELS
        for name in MODELS:
            assert f'"round": {number}' in project.read(f"models/{name}/weights")
    done = [
        entry["address"]
        for entry in project.json("log", "--limit", "1000")
        if (entry["action"], entry["outcome"]) == ("run", "done")
    ]
    assert sorted(done) == sorted(f"stage.{name}.train" for name in MODELS for _ in range(rounds))
    versions = {m["address"]: m["version"] for m in project.json("status")["models"]}
    assert versions == {f"model.{name}": rounds for name in MODELS}
    project.mlspec("plan", "--detailed-exitcode")
    assert "up to date" in project.run("dvc", "status").stdout
    written = locks(project.root)
    shutil.copytree(project.root, tmp_path / "again", symlinks=True)
    for path in (tmp_path / "again").glob("pipelines/*/dvc.lock"):
        path.unlink()
    project.root = tmp_path / "again"
    project.run("dvc", "repro", "--all-pipelines", "--force")
    assert locks(project.root) == written


def test_a_slow_and_a_failing_branch_hold_nobody_up(project: Any) -> None:
    """The slow stage waits for what the last of the good model leaves."""
    signal_file = project.root.parent / "the-others-are-done"
    bad = {**train("bad", 0), "command": "echo no >&2; exit 3"}
    slow = train("slow", 0)
    slow["command"] = f"sh src/wait.sh {signal_file} && {slow['command']}"
    last = {
        "command": f"cat models/good/weights > models/good/last && touch {signal_file}",
        "inputs": ["models/good/weights"],
        "outputs": ["models/good/last"],
        "resources": {"cpus": 0.1},
    }
    good = {"train": train("good", 0), "last": last}
    models = {"bad": {"train": bad}, "good": good, "slow": {"train": slow}}
    project.write("mlspec.yaml", spec(models))
    ended = outcomes(project, "--jobs", "2", code=1)
    stages_and_models = {a: s for a, s in ended.items() if not a.startswith("file.")}
    assert stages_and_models == {
        "model.bad": "skipped",
        "model.good": "done",
        "model.slow": "done",
        "stage.bad.train": "failed",
        "stage.good.last": "done",
        "stage.good.train": "done",
        "stage.slow.train": "done",
    }
    assert list(project.plan()) == ["stage.bad.train", "model.bad"]


def test_failing_fast(project: Any) -> None:
    models = {name: {"train": train(name, 0)} for name in MODELS[:4]}
    models["m00"]["train"]["command"] = "exit 3"
    project.write("mlspec.yaml", spec(models))
    project.mlspec("compile")
    done = project.mlspec("apply", "--yes", "--jobs", "1", "--fail-fast", code=1)
    left_out = "not started: --fail-fast after stage.m00.train failed"
    assert f"skipped  stage.m01.train: {left_out}" in done.stderr
    assert "skipped  model.m00: stage.m00.train did not succeed" in done.stderr
    assert project.ran() == []
    ended = outcomes(project, "--jobs", "1", "--keep-going", code=1)
    assert [ended[f"stage.{name}.train"] for name in models] == ["failed", "done", "done", "done"]


def test_an_interrupted_apply_keeps_the_runs_that_ended(
    project: Any, environment: Mapping[str, str]
) -> None:
    """Three run, one has ended and is recorded; Ctrl-C ends the others."""
    models = {name: {"train": train(name, 0)} for name in ("quick", "slow", "slower")}
    for name in ("slow", "slower"):
        stage = models[name]["train"]
        stage["command"] += f"; echo {name}-waits; sleep 600"
    project.write("mlspec.yaml", spec(models))
    project.mlspec("compile")
    with subprocess.Popen(
        ["mlspec", "apply", "--yes", "--jobs", "3"],
        cwd=project.root,
        env={**environment, "STAGE_JOURNAL": str(project.journal)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as running:
        assert running.stderr is not None
        awaited = {"model.quick: version 1", "slow-waits", "slower-waits"}
        said = ""
        deadline = time.monotonic() + PATIENCE
        while awaited:
            line = running.stderr.readline()
            assert line, f"it ended: {said}"
            assert time.monotonic() < deadline, said
            said += line
            awaited -= {words for words in awaited if words in line}
        os.killpg(running.pid, signal.SIGINT)
        said = running.stderr.read()
        assert running.wait(PATIENCE) == 130
    assert said.endswith("interrupted\n")
    entries = [(entry["address"], entry["outcome"]) for entry in project.json("log")]
    assert sorted(entries[:2]) == [
        ("stage.slow.train", "interrupted"),
        ("stage.slower.train", "interrupted"),
    ]
    assert ("stage.quick.train", "done") in entries
    assert [a for a in project.plan() if a.startswith("stage.")] == [
        "stage.slow.train",
        "stage.slower.train",
    ]
    project.write("mlspec.yaml", project.read().replace("; sleep 600", ""))
    assert sorted(project.apply("--jobs", "3")) == ["slow", "slower"]
    project.mlspec("plan", "--detailed-exitcode")
    assert "up to date" in project.run("dvc", "status").stdout
