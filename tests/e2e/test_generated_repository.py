"""A repository that the benchmarks make is what a real apply of the same spec leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

HERE = Path(__file__).parents[2]
LEDGER = "refs/mlspec/ledger"


@pytest.fixture
def generate(run: Run, tmp_path: Path) -> Any:
    def generate(name: str, *options: str) -> Path:
        root = tmp_path / name
        command = (sys.executable, "-m", "benchmarks.generate", str(root), "--models", "3")
        run(*command, *options, cwd=HERE)
        return root

    return generate


@pytest.mark.parametrize("spec", ["files", "matrix", "shards"])
def test_nothing_is_to_do(generate: Any, run: Run, spec: str) -> None:
    root = generate("made", "--spec", spec)
    run("mlspec", "plan", "--detailed-exitcode", cwd=root)
    assert "up to date" in run("dvc", "status", cwd=root).stdout
    assert run("git", "status", "--porcelain", cwd=root).stdout == ""


def test_it_is_what_an_apply_leaves(generate: Any, run: Run) -> None:
    made, applied = generate("made"), generate("applied", "--unapplied")
    run("mlspec", "apply", "--yes", cwd=applied)
    run("git", "add", "--all", cwd=applied)
    listed = [run("git", "ls-files", cwd=root).stdout.split() for root in (made, applied)]
    assert listed[0] == listed[1]
    for path in [*listed[0], *kept(made)]:
        ours, theirs = ((root / path).read_bytes() for root in (made, applied))
        if path.endswith(".gitignore"):  # whose lines come in the order of the commits
            ours, theirs = (b"".join(sorted(text.splitlines())) for text in (ours, theirs))
        assert ours == theirs, path
    assert kept(made) == kept(applied)
    assert records(made, run) == records(applied, run)


def kept(root: Path) -> list[str]:
    """The objects of DVC's cache and of storage."""
    places = (".dvc/cache/files", ".mlspec/storage/files")
    found = (path for place in places for path in (root / place).rglob("*") if path.is_file())
    return sorted(path.relative_to(root).as_posix() for path in found)


def records(root: Path, run: Run) -> dict[str, Any]:
    """What the ledger has, without what differs from apply to apply."""
    paths = run("git", "ls-tree", "-r", "--name-only", LEDGER, cwd=root).stdout.split()
    found = {}
    for path in paths:
        record = json.loads(run("git", "show", f"{LEDGER}:{path}", cwd=root).stdout)
        for key in ("commit", "dirty", "durations", "seconds", "serial"):
            record.pop(key, None)
        found[path] = record
    return found
