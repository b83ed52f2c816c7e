"""Partial applies: two at once, one after the other, and what they leave for the next."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SPEC = """\
mlspec: 1
project: shops
models:
  north:
    tags: [first]
    stages:
      make: {command: "python make.py north", outputs: [work/north.txt]}
  south:
    tags: [second]
    stages:
      make: {command: "python make.py south", outputs: [work/south.txt]}
"""
MAKE = """\
import os, sys
from pathlib import Path
Path("work").mkdir(exist_ok=True)
Path(f"work/{sys.argv[1]}.txt").write_text(sys.argv[1])
with open(os.environ["STAGE_JOURNAL"], "a") as journal:
    journal.write(f"{sys.argv[1]}\\n")
"""


@pytest.fixture
def shops(checkout: Callable[[Path], Any], tmp_path: Path) -> Any:
    root = tmp_path / "shops"
    root.mkdir()
    project = checkout(root)
    project.write("mlspec.yaml", SPEC)
    project.write("make.py", MAKE)
    project.git("init", "--quiet", "--initial-branch=main")
    project.commit("Start")
    return project


def test_two_applies_at_once_of_parts_that_have_nothing_in_common(shops: Any) -> None:
    """One waits for the other, and plans after it: nothing is lost, and nothing runs twice."""
    both = [
        subprocess.Popen(
            ["mlspec", "apply", "--yes", "--lock-timeout=300", f"--select={tag}"],
            cwd=shops.root,
            env={**shops.environment, "STAGE_JOURNAL": str(shops.journal)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for tag in ("tag:first", "tag:second")
    ]
    told = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert sorted(shops.ran()) == ["north", "south"]

    entries = shops.json("log")
    assert {(entry["address"], entry["selection"]) for entry in entries} == {
        ("stage.north.make", "tag:first"),
        ("model.north", "tag:first"),
        ("stage.south.make", "tag:second"),
        ("model.south", "tag:second"),
    }
    partial = shops.json("status")["partial"]
    assert partial["selection"] in ("tag:first", "tag:second")
    assert partial["left"] == ["file..gitattributes"]
    assert shops.apply() == []
    assert shops.json("status")["partial"] is None
    shops.mlspec("plan", "--detailed-exitcode")


def test_a_saved_plan_of_a_part_is_applied_as_that_or_not_at_all(shops: Any) -> None:
    shops.mlspec("plan", "--select", "north", "--out", "north.json")
    shops.mlspec("plan", "--select", "south", "--out", "south.json")
    assert shops.apply("north.json") == ["north"]
    assert "stale: the ledger changed" in shops.mlspec("apply", "south.json", code=1).stderr

    shops.mlspec("plan", "--select", "south", "--out", "south.json")
    text = shops.read("south.json")
    shops.write("altered.json", text.replace('"selection": "south"', '"selection": ""'))
    assert "was altered" in shops.mlspec("apply", "altered.json", code=1).stderr
    shops.edit("south:", "west:")
    told = shops.mlspec("apply", "south.json", code=1).stderr
    assert "south.json is stale: what it selects changed" in told
    assert shops.ran() == ["north"]
