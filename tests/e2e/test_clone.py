"""One project, many checkouts: what one has run no other runs again, with mlspec or with DVC."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
EVERY = ["prepare", "train", "evaluate"]
MODEL = "models/loans.onnx"


@pytest.fixture(scope="module")
def published(start_project: Callable[[], Any]) -> Any:
    """A project that is applied and pushed; storage and the bare remote are beside it."""
    project = start_project()
    home = project.root.parent
    project.git("init", "--quiet", "--bare", "--initial-branch", "main", str(home / "origin.git"))
    project.git("remote", "add", "origin", str(home / "origin.git"))
    project.write("mlspec.yaml", project.read() + f"\nstorage: {{url: {home / 'storage'}}}\n")
    project.commit("Start")
    assert project.apply() == EVERY
    project.commit("Record what was applied")
    project.git("push", "--quiet", "--set-upstream", "origin", "main")
    return project


@pytest.fixture
def first(published: Any, tmp_path: Path) -> Any:
    """The checkout that applied first, with a remote of the test's own."""
    shutil.copytree(published.root.parent / "origin.git", tmp_path / "origin.git")
    shutil.copytree(published.root, tmp_path / "first", symlinks=True)
    first = replace(published, root=tmp_path / "first", journal=tmp_path / "first-journal")
    first.git("remote", "set-url", "origin", str(tmp_path / "origin.git"))
    return first


@pytest.fixture
def clone(tmp_path: Path) -> Callable[[Any], Any]:
    """Clones the remote of a checkout."""

    def clone(of: Any) -> Any:
        of.git("clone", "--quiet", str(tmp_path / "origin.git"), str(tmp_path / "second"))
        return replace(of, root=tmp_path / "second", journal=tmp_path / "second-journal")

    return clone


def test_a_fresh_clone_has_nothing_to_do_and_pulls_the_same_bytes(first: Any, clone: Any) -> None:
    second = clone(first)
    second.mlspec("plan", "--detailed-exitcode")
    assert not (second.root / MODEL).exists(), "planning needs no data"
    second.run("dvc", "pull", "--quiet")
    assert (second.root / MODEL).read_bytes() == (first.root / MODEL).read_bytes()
    second.check_settled()
    assert second.apply() == []
    assert second.git("status", "--porcelain") == ""
    assert second.json("show", "model.loans@1") == first.json("show", "model.loans@1")


def test_what_one_applies_the_others_have(first: Any, clone: Any) -> None:
    second = clone(first)
    second.edit("threshold: 45", "threshold: 46")
    second.commit("Take less risk")
    assert second.apply() == ["train", "evaluate"], "what was prepared comes from storage"
    second.commit("Record what was applied")
    second.git("push", "--quiet")

    first.git("pull", "--quiet")
    plan = first.plan()
    assert {step["action"] for step in plan.values()} <= {"restore"}, plan
    assert first.apply() == []
    first.check_settled()
    assert first.json("show", "model.loans@2") == second.json("show", "model.loans@2")


def test_two_that_edit_at_once_keep_each_others_versions(first: Any, clone: Any) -> None:
    second = clone(first)
    first.edit("threshold: 45", "threshold: 46")
    second.edit("threshold: 45", "threshold: 47")
    assert first.apply() == second.apply() == ["train", "evaluate"]
    versions = second.json("show", "model.loans")["versions"]
    assert [v["metrics"]["accuracy"] for v in versions] == [0.95, 0.96, 0.97]
    second.edit("threshold: 47", "threshold: 46")
    assert second.apply() == [], "the first one has run it"


def test_without_lock_files_the_ledger_knows_the_runs(first: Any, clone: Any) -> None:
    first.git("rm", "--quiet", "pipelines/loans/dvc.lock")
    first.git("commit", "--quiet", "--message", "Lose the lock file")
    first.git("push", "--quiet")
    second = clone(first)
    second.mlspec("plan", "--detailed-exitcode")
    second.mlspec("pull")
    assert second.ran() == []
    assert (second.root / MODEL).read_bytes() == (first.root / MODEL).read_bytes()
    second.check_settled()


def test_what_dvc_ran_by_itself_is_adopted(first: Any) -> None:
    first.edit("threshold: 45", "threshold: 46")
    first.mlspec("compile")
    first.run("dvc", "repro", "--quiet", "--all-pipelines")
    assert first.ran() == ["train", "evaluate"]
    train = first.plan()["stage.loans.train"]
    assert train["action"] == "run"
    assert "dvc.lock has a run that the ledger does not know (--adopt takes it)" in train["reason"]
    plan = first.json("plan", "--adopt")
    assert {step["address"]: step["action"] for step in plan["steps"]} == {
        "stage.loans.train": "adopt",
        "stage.loans.evaluate": "adopt",
        "gate.loans.accuracy": "evaluate",
        "gate.loans.no-worse": "evaluate",
        "model.loans": "register",
    }
    assert first.apply("--adopt") == []
    assert first.json("show", "stage.loans.train")["adopted"] is True
    assert first.json("show", "model.loans@2")["metrics"] == {"accuracy": 0.96}
    first.check_settled()


def test_history_may_be_rewritten(first: Any) -> None:
    first.git("checkout", "--quiet", "-b", "topic")
    first.write("NOTES.md", "about this project")
    first.commit("Take notes")
    first.git("checkout", "--quiet", "main")
    first.write("README.md", "Loans")
    first.commit("Describe the project")
    first.git("checkout", "--quiet", "topic")
    first.git("rebase", "--quiet", "main")
    first.git("branch", "--move", "renamed")
    first.git("commit", "--quiet", "--amend", "--reset-author", "--message", "Take better notes")
    first.check_settled()


def test_a_detached_head_and_a_dirty_tree_are_recorded_as_they_are(first: Any) -> None:
    first.git("checkout", "--quiet", "--detach")
    first.edit("threshold: 45", "threshold: 46")
    head = first.git("rev-parse", "HEAD")
    assert first.apply() == ["train", "evaluate"]
    version = first.json("show", "model.loans@2")
    assert (version["commit"], version["dirty"]) == (head, True)
    assert first.json("log", "model.loans")[0]["dirty"] is True
    assert "(dirty)" in first.mlspec("log").stdout


def test_a_project_without_commits_is_applied_and_served(
    start_project: Callable[[], Any], request: pytest.FixtureRequest
) -> None:
    project = start_project()
    project.declare_deployment()
    request.addfinalizer(project.end)
    assert project.apply() == EVERY
    assert project.ask(70) == (1, 25.0)
    version = project.json("show", "model.loans@1")
    assert (version["commit"], version["dirty"]) == ("", True)
    assert "no commit" in project.mlspec("log").stdout
    project.check_settled()


def test_what_serves_elsewhere_is_left_alone(
    first: Any, clone: Any, request: pytest.FixtureRequest
) -> None:
    request.addfinalizer(first.end)
    first.deploy()
    first.git("push", "--quiet")
    second = clone(first)
    second.mlspec("plan", "--detailed-exitcode")
    assert "elsewhere" in second.mlspec("status").stdout
    assert "another checkout" in second.mlspec("stop", "loans", code=1).stderr

    request.addfinalizer(second.end)
    second.edit("threshold: 45", "threshold: 46")
    refused = second.mlspec("apply", "--yes", code=1)
    assert "in use" in refused.stderr
    assert second.ran() == ["train", "evaluate"]
    assert first.ask(70) == (1, 25.0)


def test_a_remote_that_does_not_answer_ends_an_apply_before_anything_ran(first: Any) -> None:
    first.edit("threshold: 45", "threshold: 46")
    first.git("remote", "set-url", "origin", str(first.root.parent / "nowhere.git"))
    said = first.mlspec("apply", "--yes", code=5).stderr
    assert "'origin' cannot be reached" in said
    assert first.ran() == []
    planned = first.mlspec("plan", "--detailed-exitcode", code=2)
    assert "'origin' cannot be reached" in planned.stderr
    first.git("config", "mlspec.remote", "")
    assert first.apply() == ["train", "evaluate"]
    first.check_settled()


def test_a_clone_that_never_reached_the_remote_cannot_plan(first: Any, clone: Any) -> None:
    second = clone(first)
    second.git("remote", "set-url", "origin", str(first.root.parent / "nowhere.git"))
    assert "'origin' cannot be reached" in second.mlspec("plan", code=5).stderr


def test_a_storage_that_does_not_answer_loses_no_run(first: Any) -> None:
    blocked = first.root.parent / "blocked"
    blocked.write_text("not a folder")
    storage = next(line for line in first.read().splitlines() if line.startswith("storage:"))
    first.edit(storage, f"storage: {{url: {blocked / 'storage'}}}")
    first.edit("threshold: 45", "threshold: 46")
    assert "`mlspec apply --adopt`" in first.mlspec("apply", "--yes", code=5).stderr
    assert first.ran() == ["train"]
    first.edit(f"storage: {{url: {blocked / 'storage'}}}", storage)
    assert first.apply("--adopt") == ["evaluate"]
    first.check_settled()
