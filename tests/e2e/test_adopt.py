"""Repositories that were run with DVC alone are taken over, and nothing of them runs again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
SOURCE = Path(__file__).parent / "adopt"


@pytest.fixture
def dvc_repository(tmp_path: Path, checkout: Callable[[Path], Any]) -> Callable[[str], Any]:
    """One of the repositories in `adopt/`, not run yet."""

    def make(name: str) -> Any:
        old = checkout(tmp_path / name)
        shutil.copytree(SOURCE / name, old.root)
        for script in SOURCE.glob("*.py"):
            shutil.copy(script, old.root)
        old.git("init", "--quiet", "--initial-branch", "main")
        old.run("dvc", "init", "--quiet")
        old.run("dvc", "config", "core.autostage", "true")
        old.run("dvc", "remote", "add", "--quiet", "--default", "team", str(tmp_path / "storage"))
        return old

    return make


def run_it(old: Any) -> None:
    """Everything is run by DVC, pushed and committed, as a team would have it."""
    old.run("dvc", "repro", "--quiet", "--all-pipelines")
    old.run("dvc", "push", "--quiet")
    old.commit("Run with DVC")
    assert "up to date" in old.run("dvc", "status").stdout
    old.journal.unlink(missing_ok=True)


def adopt(old: Any) -> dict[str, Any]:
    """What the command says; the old pipelines are gone then, as it says that they may."""
    said: dict[str, Any] = old.json("adopt")
    assert said["edits"] == []
    for command in said["commands"]:
        old.run("sh", "-c", command)
    return said


def check_adopted(old: Any) -> None:
    """mlspec runs nothing, DVC finds nothing to do, and the data come from where they were."""
    steps = old.plan()
    assert {step["action"] for step in steps.values()} <= {"register"}, steps
    assert old.apply() == []
    old.commit("Record what was applied")
    old.mlspec("plan", "--detailed-exitcode")
    assert "up to date" in old.run("dvc", "status").stdout
    shutil.rmtree(old.root / ".dvc/cache")
    old.run("dvc", "pull", "--quiet", "--force")
    assert "up to date" in old.run("dvc", "status").stdout
    assert old.ran() == []


def told(said: dict[str, Any]) -> dict[str, str]:
    """What could not be taken over, by file and line."""
    return {f"{note['file']}:{note['line']}": note["message"] for note in said["notes"]}


def test_foreach_with_params_plots_and_an_artifact(dvc_repository: Callable[[str], Any]) -> None:
    old = dvc_repository("foreach")
    (old.root / "data").mkdir()
    old.write("data/raw.csv", "a,b\n1,2\n")
    old.run("dvc", "add", "--quiet", "data/raw.csv")
    run_it(old)
    said = adopt(old)
    assert said["carried"] == [
        *("stage.foreach.prepare", "stage.foreach.train-eu"),
        *("stage.foreach.train-us", "stage.foreach.evaluate"),
    ]
    assert said["datasets"] == ["dataset.raw"]
    assert "none that mlspec serves" in told(said)["dvc.yaml:26"]
    check_adopted(old)
    old.edit("depth: 3", "depth: 4", "params.yaml")
    assert old.apply() == ["train", "train", "evaluate"], "train.py reads the file, step.py not"


def test_a_matrix_with_folders_and_several_commands(dvc_repository: Callable[[str], Any]) -> None:
    old = dvc_repository("matrix")
    run_it(old)
    said = adopt(old)
    fits = [f"stage.matrix.fit-{kind}-{seed}" for kind in ("linear", "tree") for seed in (1, 2)]
    assert said["carried"] == ["stage.matrix.features", *fits, "stage.matrix.compare"]
    assert said["notes"] == []
    check_adopted(old)


@pytest.mark.thorough
def test_vars_and_several_params_files(dvc_repository: Callable[[str], Any]) -> None:
    old = dvc_repository("vars")
    run_it(old)
    said = adopt(old)
    assert said["carried"] == [
        f"stage.vars.{name}" for name in ("download", "train-model", "report")
    ]
    assert "persists" in told(said)["dvc.yaml:6"]
    spec = old.json("show", "model.vars") and old.read()
    assert 'command: "python train.py data/raw.txt models/churn-v1.bin"' in spec
    assert 'name: "adam"' in spec, "no code reads config/train.json: its values are params"
    check_adopted(old)


def test_several_pipelines_in_folders_of_their_own(dvc_repository: Callable[[str], Any]) -> None:
    old = dvc_repository("folders")
    run_it(old)
    said = adopt(old)
    assert said["carried"] == [
        *("stage.ingest.fetch", "stage.ingest.clean"),
        *("stage.training.fit", "stage.training.score"),
    ]
    assert 'command: "cd training && (python ../train.py' in old.read()
    check_adopted(old)
    old.edit("0.5", "0.6", "training/params.yaml")
    assert old.apply() == ["train", "score"]


def test_imports_and_frozen_stages(dvc_repository: Callable[[str], Any], tmp_path: Path) -> None:
    other = dvc_repository("vars")
    other.write("words.txt", "some words\n")
    other.run("dvc", "add", "--quiet", "words.txt")
    run_it(other)
    old = dvc_repository("frozen")
    (old.root / "vendor").mkdir()
    (tmp_path / "rates.csv").write_text("1,2\n")
    old.run("dvc", "import", "--quiet", str(other.root), "words.txt", "-o", "vendor/words.txt")
    old.run("dvc", "import-url", "--quiet", str(tmp_path / "rates.csv"), "vendor/rates.csv")
    old.run("dvc", "unfreeze", "label", "scrape")
    old.run("dvc", "repro", "--quiet")
    old.run("dvc", "freeze", "label", "scrape")
    old.write("sites.txt", "more sites\n")
    # in a spec a repository is on another machine
    url = "https://example.invalid/other.git"
    old.edit(str(other.root), url, "vendor/words.txt.dvc")
    old.commit("Run with DVC")
    old.journal.unlink()
    said = adopt(old)
    assert said["carried"] == ["stage.frozen.label", "stage.frozen.fit"]
    assert said["datasets"] == ["dataset.rates", "dataset.words", "dataset.pages"]
    messages = "\n".join(told(said).values())
    assert "stage scrape is frozen and sites.txt has changed since it ran" in messages
    assert "where vendor/rates.csv comes from is not taken over" in messages
    assert f'git: "{url}"' in old.read()
    steps = old.plan()
    assert {step["action"] for step in steps.values()} <= {"register"}, steps
    assert old.apply() == []
    assert "up to date" in old.run("dvc", "status", "pipelines/frozen/dvc.yaml").stdout


@pytest.mark.thorough
def test_what_was_stale_is_told_and_runs(dvc_repository: Callable[[str], Any]) -> None:
    old = dvc_repository("matrix")
    run_it(old)
    old.edit("compare out/linear_1.bin", "compares out/linear_1.bin", "dvc.yaml")
    old.commit("Compare otherwise")
    said = adopt(old)
    assert said["stale"] == {"stage.matrix.compare": "its command has changed since it ran"}
    assert old.apply() == ["compares"]


def test_what_cannot_be_adopted_is_refused_and_nothing_is_lost(
    dvc_repository: Callable[[str], Any], checkout: Callable[[Path], Any], tmp_path: Path
) -> None:
    plain = checkout(tmp_path / "plain")
    plain.root.mkdir()
    plain.git("init", "--quiet")
    assert "without a DVC repository" in plain.mlspec("adopt", code=1).stderr

    old = dvc_repository("matrix")
    assert "not in Git as it is" in old.mlspec("adopt", code=1).stderr
    old.commit("Start")
    good = old.read("dvc.yaml")
    old.write("dvc.yaml", good.replace("${item.kind}", "${item.sort}"))
    refused = old.mlspec("adopt", code=1).stderr
    assert "dvc.yaml" in refused and "item.sort" in refused
    old.write("dvc.yaml", good + "  again:\n    cmd: echo\n    outs: [features]\n")
    assert "features" in old.mlspec("adopt", code=1).stderr
    more = "  gen:\n    cmd: python step.py gen -- gen/run.py\n    outs: [gen]\n"
    more += "  use:\n    cmd: python use.py\n    deps: [gen]\n    outs: [used]\n"
    old.write("dvc.yaml", good + more)
    old.write("use.py", "import gen.run\n")
    old.run("dvc", "repro", "--quiet", "gen")
    old.commit("Write code")
    refused = old.mlspec("adopt", code=1).stderr
    assert "nothing was changed" in refused and "dvc.yaml:25: gen/run.py is code" in refused
    assert old.git("status", "--porcelain") == ""
    old.write("mlspec.yaml", "mlspec: 1\nproject: mine\n")
    assert "there is an mlspec.yaml already" in old.mlspec("adopt", code=1).stderr
    assert old.read() == "mlspec: 1\nproject: mine\n"
    (old.root / "mlspec.yaml").unlink()
    assert old.git("status", "--porcelain") == ""


@pytest.mark.thorough
def test_stages_that_a_spec_cannot_say_stay_where_they_are(
    dvc_repository: Callable[[str], Any], tmp_path: Path
) -> None:
    old = dvc_repository("matrix")
    (tmp_path / "elsewhere.txt").write_text("x")
    more = f"""\
  outside:
    cmd: cp {tmp_path}/elsewhere.txt copied.txt
    deps: [{tmp_path}/elsewhere.txt]
    outs: [copied.txt]
  Compare:
    cmd: python step.py Compare copied.txt -- compared.txt
    deps: [copied.txt]
    outs: [compared.txt]
"""
    old.write("dvc.yaml", old.read("dvc.yaml") + more)
    run_it(old)
    said = json.loads(old.mlspec("adopt", "--json").stdout)
    assert "stage.matrix.compare-2" in said["carried"]
    assert "lies outside of the repository" in told(said)["dvc.yaml:22"]
    assert said["edits"] == ["in dvc.yaml, delete the stages features, fit, compare, Compare"]
    assert set(old.plan()) == {"model.matrix"}
