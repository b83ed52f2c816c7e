"""A version scores a dataset: when it is stale, as a stage of DVC, and back again."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import pytest

from tests.e2e.conftest import Checkout, Project

ADDRESS = "deployment.nightly@scoring"
SPEC = """
  applicants: {path: data/applicants.csv}
"""
BATCH = """
targets:
  scoring: {kind: batch}

deployments:
  nightly:
    model: loans
    targets: [scoring]
    batch: {input: applicants, output: data/scores.csv, id: name, schedule: "0 3 * * *"}

ci: {github: {}}
"""
ROWS = "name,age,income\nann,30,60\nbob,40,20\n"


def scores(project: Project) -> list[dict[str, str]]:
    with (project.root / "data/scores.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def declare(project: Project, rows: str = ROWS) -> None:
    project.edit("  loans: {path: data/loans.csv}\n", "  loans: {path: data/loans.csv}" + SPEC)
    project.write("mlspec.yaml", project.read() + BATCH)
    project.write("data/applicants.csv", rows)
    project.commit("Score applicants each night")


def reason(project: Project) -> str:
    return str(project.plan()[ADDRESS]["reason"])


def test_scores_are_made_when_they_are_stale_and_only_then(project: Project) -> None:
    declare(project)
    assert reason(project) == "version 1 is not deployed yet"
    assert project.apply() == []
    md5 = hashlib.md5(ROWS.encode()).hexdigest()
    first = scores(project)
    assert [row["id"] for row in first] == ["ann", "bob"]
    assert [row["model_version"] for row in first] == ["1", "1"]
    assert [row["prediction_id"] for row in first] == [f"nightly-1-{md5[:12]}-{n}" for n in (1, 2)]
    project.commit("Scored")
    assert project.plan() == {}
    [entry] = [each for each in project.json("log", ADDRESS) if each["command"] == "apply"]
    assert entry["detail"] == (
        "version 1 scored 2 rows of data/applicants.csv into data/scores.csv"
    )
    [found] = project.json("trace", first[1]["prediction_id"])["found"]
    assert (found["row"], found["version"], found["read"]["md5"]) == (2, 1, md5)
    # DVC says the same, and can do it without an apply
    dvcfile = "services/nightly/dvc.yaml"
    assert "up to date" in project.run("dvc", "status", dvcfile).stdout
    project.write("data/applicants.csv", ROWS + "eve,50,90\n")
    assert "data/applicants.csv" in project.run("dvc", "status", dvcfile).stdout
    assert reason(project) == "data/applicants.csv changed"
    # a row of a wrong type: nothing is written
    project.write("data/applicants.csv", ROWS + "eve,old,90\n")
    said = project.mlspec("apply", "--yes", code=1)
    assert "row 3, column age" in said.stdout + said.stderr
    assert scores(project) == first
    project.write("data/applicants.csv", "name,age\nann,30\n")
    said = project.mlspec("apply", "--yes", code=1)
    assert "lacks what the model takes: income" in said.stdout + said.stderr
    assert scores(project) == first
    # what was deleted comes back without a run
    project.write("data/applicants.csv", ROWS)
    (project.root / "data/scores.csv").unlink()
    assert reason(project) == "drift: it is not as it was deployed"
    project.apply()
    assert scores(project) == first


@pytest.mark.thorough
def test_another_version_scores_and_a_rollback_goes_back(project: Project) -> None:
    declare(project)
    project.apply()
    first = scores(project)
    project.edit("threshold: 45", "threshold: 46")
    project.commit("Be kinder")
    assert "prepare" not in project.apply()
    assert {row["model_version"] for row in scores(project)} == {"2"}
    project.commit("Scored")
    project.mlspec("rollback", ADDRESS)
    assert project.plan()[ADDRESS]["action"] == "rollback"
    assert project.apply() == []
    assert scores(project) == first
    # and plain DVC gives the same
    (project.root / "data/scores.csv").unlink()
    project.run("dvc", "repro", "--force", "services/nightly/dvc.yaml")
    assert scores(project) == first


@pytest.mark.thorough
def test_another_clone_leaves_it_alone_and_destroy_keeps_the_scores(
    project: Project, checkout: Checkout, tmp_path: Path
) -> None:
    declare(project)
    project.apply()
    first = scores(project)
    project.commit("Scored")
    clone = checkout(tmp_path / "clone")
    project.run("git", "clone", "--quiet", ".", str(clone.root))
    assert ADDRESS not in clone.plan()
    assert f"{ADDRESS}: version 1 of loans, elsewhere" in clone.mlspec("status", "--all").stdout
    said = project.mlspec("destroy", "--yes").stderr
    assert "forgotten; data/scores.csv stays" in said
    assert scores(project) == first
    assert reason(project) == "version 1 is not deployed yet"


@pytest.mark.thorough
def test_scores_wait_for_an_approval(project: Project) -> None:
    declare(project)
    project.edit("scoring: {kind: batch}", "scoring: {kind: batch, approvals: 1}")
    project.commit("Have somebody look first")
    project.apply()
    assert not (project.root / "data/scores.csv").exists()
    assert "waits for 1 approval of release" in project.held()[ADDRESS]
    project.mlspec("approve", ADDRESS)
    assert "by somebody else than who made it" in project.held()[ADDRESS]
    bob = {"GIT_AUTHOR_NAME": "Bob", "GIT_AUTHOR_EMAIL": "bob@example.org"}
    project.mlspec("approve", ADDRESS, **bob)
    project.apply()
    assert len(scores(project)) == 2
    [entry] = [each for each in project.json("log", ADDRESS) if each["command"] == "apply"]
    assert entry["detail"].endswith("; approved by ada@example.org, bob@example.org")
    # other data are another release
    project.write("data/applicants.csv", ROWS + "eve,50,90\n")
    assert "waits for 1 approval of release" in project.held()[ADDRESS]
