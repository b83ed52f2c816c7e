"""Runs every `tests/golden/<case>/story.txt` and compares what its commands print."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

CASES = sorted(path.parent for path in Path(__file__).parent.glob("*/story.txt"))
STORY = "story.txt"
NORMAL = [
    (re.compile(r"sha256:[0-9a-f]{64}"), "sha256:<digest>"),
    (re.compile(r"\b[0-9a-f]{40}\b"), "<commit>"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "<md5>"),
    (re.compile(r"\b[0-9a-f]{9,16}\b(?=[,\]; \n])"), "<short>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ?"), "<time>"),
    (re.compile(r"\(\d+\.\d s\)"), "(<seconds>)"),
    (re.compile(r"logs/\d{8}T\d{6}-\d+/"), "logs/<run>/"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_story(
    case: Path, tmp_path: Path, environment: Mapping[str, str], request: pytest.FixtureRequest
) -> None:
    root = tmp_path / "repository"
    shutil.copytree(case, root, ignore=shutil.ignore_patterns(STORY))
    story = (case / STORY).read_text(encoding="utf-8")
    told = "".join(_tell(command, root, environment) for command in _commands(story))
    if request.config.getoption("--bless"):
        (case / STORY).write_text(told, encoding="utf-8")
        return
    assert told == story


def _commands(story: str) -> list[str]:
    return [line[2:] for line in story.splitlines() if line.startswith("$ ")]


def _tell(command: str, root: Path, environment: Mapping[str, str]) -> str:
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=root,
        env={**environment, "PYTHONDONTWRITEBYTECODE": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    printed = done.stdout.replace(str(root), "<root>")
    for pattern, shown in NORMAL:
        printed = pattern.sub(shown, printed)
    if printed and not printed.endswith("\n"):
        printed += "\n"
    code = f"[exit {done.returncode}]\n" if done.returncode else ""
    return f"$ {command}\n{printed}{code}\n"
