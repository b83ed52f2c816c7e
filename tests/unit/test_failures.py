"""What failed here last time is known to the next plan."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlspec.commands.failures import keep_failures, load_failures
from mlspec.plan import Action, Base, Consequence, Outcome, Plan, Report, Status, Step

STEP = Step("stage.m.train", Action.RUN, Consequence.RETRAIN, "never run")
OTHER = replace(STEP, address="stage.n.train")
FAILED = Outcome(STEP, Status.FAILED, "stage.m.train failed: exit code 1\nTraceback")
KEPT = Path(".mlspec", "failures.json")


def known(root: Path, *steps: Step) -> dict[str, str]:
    return load_failures(root, Plan(Base("", "", ""), steps))


def test_a_failure_is_known_until_the_step_is_done(tmp_path: Path) -> None:
    assert known(tmp_path, STEP) == {}
    keep_failures(tmp_path, Report((FAILED,)))
    assert known(tmp_path, STEP, OTHER) == {STEP.address: "exit code 1"}
    keep_failures(tmp_path, Report((Outcome(OTHER, Status.DONE), Outcome(STEP, Status.SKIPPED))))
    assert known(tmp_path, STEP) == {STEP.address: "exit code 1"}
    keep_failures(tmp_path, Report((Outcome(STEP, Status.DONE),)))
    assert known(tmp_path, STEP) == {}


def test_a_step_for_another_reason_is_not_said_to_have_failed(tmp_path: Path) -> None:
    keep_failures(tmp_path, Report((FAILED,)))
    assert known(tmp_path, replace(STEP, reason="src/train.py changed")) == {}


@pytest.mark.parametrize("damage", ["", "[]", '{"a": 1}', '{"a": ["b"]}', "\udcff"])
def test_a_damaged_file_is_as_none(tmp_path: Path, damage: str) -> None:
    keep_failures(tmp_path, Report((FAILED,)))
    (tmp_path / KEPT).write_text(damage, errors="surrogateescape")
    assert known(tmp_path, STEP) == {}


def test_an_apply_without_failures_leaves_no_file(tmp_path: Path) -> None:
    keep_failures(tmp_path, Report((Outcome(STEP, Status.DONE),)))
    assert not (tmp_path / KEPT).exists()
