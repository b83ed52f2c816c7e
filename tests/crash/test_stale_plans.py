"""A saved plan is applied to the world that it was made from, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, text
    path.write_text(text.replace(old, new))


def change_the_spec(sandbox: Any) -> None:
    edit(sandbox.repo / "mlspec.yaml", "min: 0.5", "min: 0.6")


def commit(sandbox: Any) -> None:
    sandbox.check("git", "commit", "--quiet", "--allow-empty", "--message", "Nothing")


def move_the_ledger(sandbox: Any) -> None:
    sandbox.check("mlspec", "apply", "--yes", "--select", "two")


def change_data(sandbox: Any) -> None:
    (sandbox.repo / "data/rows.csv").write_text("a,b\n3,4\n")


def edit_a_generated_file(sandbox: Any) -> None:
    edit(sandbox.repo / "pipelines/one/params.json", '"rate": 1', '"rate": 3')


def change_a_lock(sandbox: Any) -> None:
    edit(sandbox.repo / "pipelines/one/dvc.lock", "md5: e5", "md5: e6")


def lose_an_output(sandbox: Any) -> None:
    (sandbox.repo / "models/one.bin").write_text("other")


CHANGES = (
    change_the_spec,
    commit,
    move_the_ledger,
    change_data,
    edit_a_generated_file,
    change_a_lock,
    lose_an_output,
)


@pytest.mark.crash
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_it_is_refused(sandbox: Any, change: Callable[[Any], None]) -> None:
    sandbox.check("mlspec", "plan", "--out", "../plan.json")
    change(sandbox)
    before = sandbox.check("git", "for-each-ref", "refs/mlspec")
    effects = sandbox.effects()
    done = sandbox.run(["mlspec", "apply", "../plan.json"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "is stale" in done.stderr
    assert sandbox.check("git", "for-each-ref", "refs/mlspec") == before
    assert sandbox.effects() == effects


def test_it_is_applied_while_nothing_changes(sandbox: Any) -> None:
    sandbox.check("mlspec", "plan", "--out", "../plan.json")
    sandbox.check("mlspec", "apply", "../plan.json")
    assert sandbox.effects() == ["train-two"]
