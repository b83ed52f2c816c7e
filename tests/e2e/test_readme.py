"""The README tells the truth: its story is run, and the commands that it names exist.

Two lines of the story are run in another way. The port is a free one, for 3000 may be taken.
`pip install` gets `--dry-run`: it resolves what would be installed, and this environment stays.
"""

from __future__ import annotations

import json
import re
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
STORY = re.compile(r"<!-- story.*?-->\s*```console\n(.*?)```", re.DOTALL)
CODE = re.compile(r"```(?:console|text)\n(.*?)```|```\w+\n.*?```|`([^`]+)`", re.DOTALL)
TEMPLATES = ["image-classification", "regression", "tabular-classification"]


def commands() -> Iterator[tuple[str, frozenset[str]]]:
    """Each verb that the README names after `mlspec`, with the options beside it."""
    for block, span in CODE.findall(README):
        for line in block.splitlines() or [" ".join(span.split())]:
            for command in re.findall(r"\bmlspec ([a-z]+)\b([^&|#]*)", line):
                yield command[0], frozenset(re.findall(r"--[a-z-]+", command[1]))


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_story_can_be_followed_to_its_end(
    checkout: Callable[[Path], Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stories = STORY.findall(README)
    assert stories
    here, port = checkout(tmp_path), 3000
    said = ""
    for line in "".join(stories).splitlines():
        if line.startswith("cd "):
            here = checkout(here.root / line.removeprefix("cd "))
            request.addfinalizer(here.end)
            port = here.use_a_free_port()
            continue
        line = line.replace(":3000/", f":{port}/")
        line = re.sub(r"^pip install", "python -m pip install --dry-run", line)
        said += here.run("bash", "-euo", "pipefail", "-c", line).stdout
    assert '"predictions":[' in said
    assert "nothing to do" in said


def test_every_command_and_option_exists(checkout: Callable[[Path], Any], tmp_path: Path) -> None:
    named = set(commands())
    assert {"init", "plan", "apply", "destroy"} <= {verb for verb, _ in named}
    helps = {
        verb: checkout(tmp_path).mlspec(verb, "--help").stdout
        for verb in sorted({verb for verb, _ in named})
    }
    missing = [
        (verb, option)
        for verb, options in named
        for option in options
        if not re.search(rf"{option}\b(?!-)", helps[verb])
    ]
    assert not missing


def generated(root: Path) -> dict[str, bytes]:
    """What mlspec writes from the spec, by path."""
    patterns = ("pipelines/*/[!.]*[!k]", "services/*/*", "cards/*", ".dvc/config", ".github/*/*")
    return {
        str(path.relative_to(root)): path.read_bytes()
        for pattern in patterns
        for path in sorted(root.glob(pattern))
    }


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_each_template_goes_all_the_way(
    template: str,
    checkout: Callable[[Path], Any],
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    checkout(tmp_path).mlspec("init", "shop", "--template", template, "--yes")
    project = checkout(tmp_path / "shop")
    request.addfinalizer(project.end)
    port = project.use_a_free_port()
    project.commit("Start the project")
    project.mlspec("validate")
    project.mlspec("plan", "--detailed-exitcode", code=2)
    project.apply()

    body = (project.root / "request.json").read_bytes()
    ask = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", body, {"content-type": "application/json"}
    )
    with urllib.request.urlopen(ask, timeout=30) as answer:
        answered = json.load(answer)
    assert len(answered["predictions"]) == len(json.loads(body)["rows"])

    project.mlspec("plan", "--detailed-exitcode")
    assert "up to date" in project.run("dvc", "status").stdout
    assert "Running" not in project.run("dvc", "repro", "--dry", "--all-pipelines").stdout
    written = generated(project.root)
    assert len(written) >= 7
    assert "Every generated file is up to date" in project.mlspec("compile").stdout
    for path in written:
        (project.root / path).unlink()
    project.mlspec("compile")
    assert generated(project.root) == written
    project.mlspec("compile", "--check")
    project.commit("Record what was applied")
    project.mlspec("plan", "--detailed-exitcode")
    project.mlspec("destroy", "--yes")
    with pytest.raises(OSError):
        urllib.request.urlopen(ask, timeout=5)
