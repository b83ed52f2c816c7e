"""A saved plan is applied to the world that it was made from, or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlspec.commands.saved import render_saved
from mlspec.plan import digest_of_body


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


CHANGES: dict[Callable[[Any], None], tuple[str, ...]] = {
    change_the_spec: (
        "the spec changed",
        "spec: mlspec.yaml changed",
        "gate.one.good: min changed",
    ),
    commit: ("the commit changed", "commit: "),
    move_the_ledger: ("the ledger changed", "ledger: apply model.two: register done"),
    change_data: (
        "files of the repository, or the plan itself",
        "stage.one.train: data/rows.csv changed",
    ),
    edit_a_generated_file: (
        "files of the repository, or the plan itself",
        "pipelines/one/params.json: ",
    ),
    change_a_lock: (
        "files of the repository, or the plan itself",
        "stage.one.train: drift: dvc.lock",
    ),
    lose_an_output: ("files of the repository, or the plan itself", "models/one.bin differs"),
}
"""And what the refusal says of it."""


@pytest.mark.crash
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_it_is_refused_and_says_what_moved(sandbox: Any, change: Callable[[Any], None]) -> None:
    sandbox.check("mlspec", "plan", "--out", "../plan.json")
    change(sandbox)
    before = sandbox.check("git", "for-each-ref", "refs/mlspec")
    effects = sandbox.effects()
    done = sandbox.run(["mlspec", "apply", "../plan.json"])
    assert done.returncode == 1, done.stdout + done.stderr
    assert "../plan.json is stale" in done.stderr
    for said in CHANGES[change]:
        assert said in done.stderr
    assert sandbox.check("git", "for-each-ref", "refs/mlspec") == before
    assert sandbox.effects() == effects


def one_step_less(body: dict[str, Any]) -> None:
    del body["steps"][0]


def another_address(body: dict[str, Any]) -> None:
    body["steps"][0]["address"] = "stage.one.train"


def steps_of_no_shape(body: dict[str, Any]) -> None:
    body["steps"] = [1, {"address": []}]


def another_commit(body: dict[str, Any]) -> None:
    body["base"]["commit"] = 7


def another_ledger(body: dict[str, Any]) -> None:
    body["base"]["ledger"] = "c" * 40


FORGERIES = (one_step_less, another_address, steps_of_no_shape, another_commit, another_ledger)


@pytest.mark.crash
def test_one_with_a_digest_made_anew_is_not_what_is_planned(sandbox: Any) -> None:
    sandbox.check("mlspec", "plan", "--out", "../plan.json")
    saved = sandbox.place / "plan.json"
    original = saved.read_text()
    before = sandbox.check("git", "for-each-ref", "refs/mlspec")
    for forge in FORGERIES:
        body = json.loads(original)
        forge(body)
        del body["digest"]
        saved.write_text(render_saved({**body, "digest": digest_of_body(body)}))
        done = sandbox.run(["mlspec", "apply", "../plan.json"])
        assert done.returncode == 1, (forge.__name__, done.stdout, done.stderr)
        assert "../plan.json is stale" in done.stderr, forge.__name__
        assert "Traceback" not in done.stderr, forge.__name__
    assert sandbox.check("git", "for-each-ref", "refs/mlspec") == before
    assert sandbox.effects() == []


@pytest.mark.crash
def test_it_is_applied_while_nothing_changes(sandbox: Any) -> None:
    sandbox.check("mlspec", "plan", "--out", "../plan.json")
    sandbox.check("mlspec", "apply", "../plan.json")
    assert sandbox.effects() == ["train-two"]
