"""The Python that a stage starts is the one that the spec names."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.executors import Job
from mlspec.executors.interpreter import Interpreters, started
from mlspec.executors.local import LocalExecutor
from mlspec.executors.retry import run_with_retries


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("python src/train.py", ["python"]),
        ("python3 -m train && python3.12 b.py", ["python3", "python3.12"]),
        (".venv/bin/python src/train.py | tee log", [".venv/bin/python"]),
        ("PYTHONPATH=src OMP=1 python a.py; echo python", ["python"]),
        ("export PYTHONPATH=src; exec python a.py", ["python"]),
        ("env A=1 python a.py", ["python"]),
        ("make train", []),
        ("uv run python a.py", []),
        ("pythonic a.py", []),
        (". .venv/bin/activate && python a.py", []),
        ("export PATH=/opt/bin:$PATH; python a.py", []),
        ("python a.py; source x; python b.py", ["python"]),
    ],
)
def test_what_a_command_starts(command: str, names: list[str]) -> None:
    assert list(started(command)) == names


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """A folder with a `python` that says it is 3.11.4 and counts how often it is asked."""
    program = tmp_path / "bin/python"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho asked >> {tmp_path}/asked\necho 3.11.4\n")
    program.chmod(0o755)
    return program.parent


def check(folder: Path, wanted: str, command: str = "python a.py") -> None:
    env = {"PATH": f"{folder}{os.pathsep}{os.defpath}"}
    Interpreters().check("stage.m.train", command, wanted, folder.parent, env)


@pytest.mark.parametrize("wanted", ["3.11", "3.11.4"])
def test_the_same_version_may_run(python: Path, wanted: str) -> None:
    check(python, wanted)
    check(python, wanted, "bin/python a.py")


@pytest.mark.parametrize(
    ("wanted", "like"), [("3.1", "3.11"), ("3.12", "3.11"), ("3.11.3", "3.11.4")]
)
def test_another_version_may_not(python: Path, wanted: str, like: str) -> None:
    with pytest.raises(MlspecError) as caught:
        check(python, wanted)
    assert caught.value.message == (
        f"stage.m.train was not run: `python` is Python 3.11.4 here, and python.version is {wanted}"
    )
    assert f"Python {wanted}" in caught.value.hint
    assert f'set python.version to "{like}"' in caught.value.hint


def test_a_command_without_python_may_run_anywhere(python: Path) -> None:
    check(python, "3.12", "make train")
    check(python, "3.12", "python9 a.py")


def test_one_that_does_not_answer_is_left_to_fail_by_itself(python: Path) -> None:
    (python / "python").write_text("#!/bin/sh\nexit 1\n")
    check(python, "3.12")
    (python / "python").write_text("no program")
    check(python, "3.12")


def test_each_is_asked_once(python: Path, tmp_path: Path) -> None:
    asked = Interpreters()
    for _ in range(3):
        asked.check("stage.m.a", "python a.py", "3.11", tmp_path, {"PATH": str(python)})
    assert (tmp_path / "asked").read_text() == "asked\n"


def job(root: Path, python: str, **more: object) -> Job:
    command = f"{sys.executable} --version"
    return Job("stage.m.s", command, root, root / "log", outputs=("out",), python=python, **more)  # type: ignore[arg-type]


def test_a_job_that_is_refused_removes_and_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("of an earlier run")
    with pytest.raises(MlspecError, match=r"python.* is Python .* and python\.version is 3\.0"):
        run_with_retries(LocalExecutor(), job(tmp_path, "3.0"))
    assert (tmp_path / "out").read_text() == "of an earlier run"
    assert not (tmp_path / "log").exists()


def test_a_job_with_its_python_runs(tmp_path: Path) -> None:
    outcome = run_with_retries(LocalExecutor(), job(tmp_path, platform.python_version()))
    assert outcome.tail == (f"Python {platform.python_version()}",)
