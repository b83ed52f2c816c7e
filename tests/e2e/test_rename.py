"""A renamed model, deployment and dataset: one history, nothing trained, and DVC agrees."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.slow
MOVED = """
moved:
- {from: model.loans, to: model.credit}
- {from: deployment.loans, to: deployment.lending}
"""


@pytest.fixture
def project(served: Any) -> Iterator[Any]:
    yield served
    served.mlspec("stop", "deployment.lending@local", code=None)
    served.mlspec("stop", "deployment.loans@local", code=None)


def rename(project: Any) -> None:
    """Another name for the model and its deployment, also where its code has that of the folder."""
    text = project.read()
    text = text.replace("\n  loans:\n    description", "\n  credit:\n    description")
    text = text.replace("\n  loans:\n    model: loans\n", "\n  lending:\n    model: credit\n")
    project.write("mlspec.yaml", text + MOVED)
    project.edit("pipelines/loans/params.json", "pipelines/credit/params.json", "src/train.py")


def test_a_rename_trains_nothing(project: Any) -> None:
    before = project.json("show", "model.loans")
    rename(project)
    steps = project.plan()
    assert {a: s["action"] for a, s in steps.items() if not a.startswith("file.")} == {
        "model.loans": "move",
        "deployment.loans@local": "move",
        "deployment.lending@local": "deploy",
    }
    assert steps["model.loans"]["reason"] == "moved to model.credit"

    assert project.apply() == []

    project.check_settled()
    after = project.json("show", "credit")
    assert [v["address"] for v in after["versions"]] == ["model.credit@1"]
    for kept in ("version", "artifact", "metrics", "verdicts", "commit", "signature"):
        assert after["versions"][0][kept] == before["versions"][0][kept]
    assert not after["retired"]
    [moved] = project.json("log", "model.loans", "-n", "1")
    assert (moved["action"], moved["detail"]) == (
        "move",
        "it is model.credit now, with its history",
    )
    state = json.loads(project.read(".mlspec/run/lending@local/state.json"))
    assert (state["status"], state["model"], state["version"]) == ("serving", "credit", 1)
    assert not (project.root / ".mlspec/run/loans@local").exists()
    assert not (project.root / "pipelines/loans").exists()

    project.commit("Rename")
    project.edit("threshold: 45", "threshold: 46")
    assert project.apply() == ["train", "evaluate"], "as if it had always had that name"
    versions = project.json("show", "credit")["versions"]
    assert [version["version"] for version in versions] == [1, 2]


def test_a_renamed_model_goes_on_serving_and_no_request_fails(project: Any) -> None:
    text = project.read().replace("\n  loans:\n    description", "\n  credit:\n    description")
    text = text.replace("\n    model: loans\n", "\n    model: credit\n")
    project.write("mlspec.yaml", f"{text}\nmoved: [{{from: model.loans, to: model.credit}}]\n")
    project.edit("pipelines/loans/params.json", "pipelines/credit/params.json", "src/train.py")
    assert "deployment.loans@local" not in project.plan(), "its release is the same"
    before = project.serving()
    answers: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            try:
                answers.append(project.ask(70))
            except Exception as error:
                answers.append(error)

    asking = [threading.Thread(target=ask) for _ in range(3)]
    for each in asking:
        each.start()
    try:
        assert project.apply() == []
        enough = len(answers) + 50
        while len(answers) < enough:
            time.sleep(0.01)
    finally:
        done.set()
        for each in asking:
            each.join()
    assert set(answers) == {(1, 25.0)}
    assert project.serving()["ready"] == before["ready"], "the very same processes"
    project.check_settled()


@pytest.mark.thorough
def test_a_rename_that_was_compiled_and_committed_first(project: Any) -> None:
    rename(project)
    project.mlspec("compile")
    project.commit("Rename")
    project.check_dvc()
    assert project.apply() == []
    project.check_settled()


def test_what_is_only_forgotten_goes_on(project: Any) -> None:
    text = project.read()
    project.write("mlspec.yaml", text[: text.index("targets:")] + "removed: [deployment.loans]\n")
    assert project.plan()["deployment.loans@local"]["action"] == "forget"
    assert project.apply() == []
    project.check_settled()
    assert project.serving()["status"] == "serving"
    assert project.ask(60)[0] == 1


def test_nothing_is_recorded_under_a_new_name_before_the_rename(project: Any) -> None:
    rename(project)
    (project.root / "models/loans.onnx").unlink()
    project.mlspec("compile")
    assert "its model was renamed" in project.mlspec("pull").stderr
    assert project.plan()["model.loans"]["action"] == "move"
    project.mlspec("destroy", "--yes")
    assert not (project.root / ".mlspec/run/loans@local").exists()
    assert project.plan()["deployment.lending@local"]["reason"] == "version 1 is not deployed yet"
