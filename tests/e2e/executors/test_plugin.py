"""An executor that another package brings: nothing of mlspec but its worker runs over there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLUGIN = Path(__file__).parent / "batch_executor"


@pytest.fixture
def project(start_project: Callable[[], Any], tmp_path: Path) -> Any:
    """The project with its training on a batch system, shared by a bare repository."""
    project = start_project()
    extra = {
        "PYTHONPATH": str(PLUGIN),
        "MLSPEC_WORK": str(tmp_path / "work"),
        "STAGE_JOURNAL": str(project.journal),
    }
    project.environment = {**project.environment, **extra}
    project.edit(
        "project: loans\n",
        f"project: loans\nstorage: {{url: {tmp_path / 'storage'}}}\n"
        f"executors: {{queue: {{kind: batch, options: {{queue: {tmp_path / 'queue'}}}}}}}\n",
    )
    project.edit("    description: Whether", "    executor: queue\n    description: Whether")
    project.git("init", "--quiet", "--bare", str(tmp_path / "origin.git"))
    project.git("remote", "add", "origin", str(tmp_path / "origin.git"))
    project.commit("Start")
    return project


def test_all_stages_run_there_and_nothing_else_differs(project: Any, tmp_path: Path) -> None:
    assert "push it: git push" in project.mlspec("apply", "--yes", code=1).stderr
    assert project.ran() == []

    project.git("push", "--quiet", "origin", "main")
    assert project.apply() == ["prepare", "train", "evaluate"]
    assert project.plan() == {}
    assert len(list((tmp_path / "queue").glob("*/answer.json"))) == 3
    assert (tmp_path / "queue/closed").exists()
    assert project.json("show", "model.loans@1")["metrics"] == {"accuracy": 0.95}

    project.commit("Record what was applied")
    project.mlspec("pull")
    project.check_settled()
    assert project.apply() == []


def test_uncommitted_code_is_not_run(project: Any) -> None:
    project.git("push", "--quiet", "origin", "main")
    (project.root / "src/train.py").open("a").write("# later\n")

    done = project.mlspec("apply", "--yes", code=1)

    assert "src/train.py" in done.stderr
    assert "commit and push" in done.stderr
    assert project.ran() == ["prepare"]


def test_doctor_asks_it_too(project: Any) -> None:
    found = json.loads(project.mlspec("doctor", "--json").stdout)

    assert found["ok"]
    here, there = found["machines"]
    assert here["worker"] == "this machine"
    assert there["worker"].startswith("queue, ")
    names = [check["name"] for check in there["checks"]]
    assert names == ["python", "mlspec", "git", "dvc", "disk", "repository", "storage", "resources"]


def test_without_the_package_the_spec_says_so(project: Any) -> None:
    done = project.mlspec("plan", code=1, PYTHONPATH="")

    assert "MLS049" in done.stderr
    assert 'no executor of the kind "batch" is installed' in done.stderr
