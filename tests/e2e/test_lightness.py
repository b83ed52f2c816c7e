"""What a command imports and starts: nothing heavy before it is needed."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

HEAVY = {
    "bentoml",
    "copier",
    "dvc",
    "fsspec",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "requests",
    "rich",
    "ruamel",
    "sklearn",
    "starlette",
    "uvicorn",
}
NOT_FOR_HELP = HEAVY | {"jinja2", "pydantic", "yaml", "mlspec.reconcile", "mlspec.spec"}
LISTING = """
import atexit, json, sys
import mlspec.__main__
*arguments, listing = sys.argv[1:]
sys.argv = ["mlspec", *arguments]
atexit.register(lambda: open(listing, "w").write(json.dumps(sorted(sys.modules))))
mlspec.__main__.main()
"""
SPEC = """\
mlspec: 1
project: p
datasets:
  rows: {path: rows.csv}
models:
  m:
    stages:
      count: {command: python count.py, inputs: [rows], metrics: m.json}
"""


@pytest.fixture
def project(tmp_path: Path, run: Callable[..., Any]) -> Path:
    (tmp_path / "mlspec.yaml").write_text(SPEC)
    (tmp_path / "rows.csv").write_text("a\n1\n")
    (tmp_path / "count.py").write_text("open('m.json', 'w').write('{\"rows\": 1}')\n")
    run("git", "init", "-q", "-b", "main", ".")
    return tmp_path


def imported(run: Callable[..., Any], listing: Path, *command: str) -> set[str]:
    run(sys.executable, "-c", LISTING, *command, str(listing), code=None)
    names = json.loads(listing.read_text())
    return set(names) | {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_and_version_import_next_to_nothing(
    option: str, tmp_path: Path, run: Callable[..., Any]
) -> None:
    assert not NOT_FOR_HELP & imported(run, tmp_path / "modules.json", option)


@pytest.mark.parametrize(
    "command", [("plan",), ("validate",), ("status",), ("log",), ("compile", "--check")]
)
def test_planning_imports_nothing_that_trains_serves_or_draws(
    command: tuple[str, ...], project: Path, run: Callable[..., Any]
) -> None:
    assert not HEAVY & imported(run, project / "modules.json", *command)


def test_an_apply_that_stores_in_a_folder_starts_no_dvc(
    project: Path, run: Callable[..., Any]
) -> None:
    run("mlspec", "apply", "--yes")
    assert list(project.glob("pipelines/*/dvc.lock")) != []
    assert not (project / ".mlspec/logs/dvc.log").exists()
