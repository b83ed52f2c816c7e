"""An apply as a person follows it."""

from __future__ import annotations

import os
import pty
import sys
import time

import pytest

from mlspec.apply import Ended, Lingering, Printed, Started
from mlspec.plan import Action, Base, Consequence, Outcome, Plan, Report, Status, Step
from mlspec.render.console import Console
from mlspec.render.progress import Progress, render_report

STEP = Step("stage.m.train", Action.RUN, Consequence.RETRAIN, "never run")


def shown(capsys: pytest.CaptureFixture[str], *events: Started | Printed | Ended) -> str:
    with Progress(Console(), Plan(Base("", "", ""), (STEP,))) as progress:
        for event in events:
            progress(event)
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("outcome", "line"),
    [
        (
            Outcome(STEP, Status.DONE, "1 output", seconds=2.0),
            "     ok  stage.m.train: 1 output (2.0 s)",
        ),
        (
            Outcome(STEP, Status.UNCHANGED, "as it was before"),
            "   same  stage.m.train: as it was before",
        ),
        (
            Outcome(STEP, Status.DONE, "warning: brier 0.2 > 0.1"),
            "   warn  stage.m.train: brier 0.2 > 0.1",
        ),
        (
            Outcome(STEP, Status.FAILED, "stage.m.train failed: no", hint="look"),
            "{0}\n\nWhat failed:\n{0}\n         = help: look".format(" failed  stage.m.train: no"),
        ),
        (
            Outcome(STEP, Status.SKIPPED, "x did not succeed"),
            "skipped  stage.m.train: x did not succeed",
        ),
    ],
)
def test_each_step_ends_with_a_line(
    outcome: Outcome, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert shown(capsys, Started(STEP), Ended(outcome)) == f"{line}\n"


def test_what_a_command_prints_cannot_take_the_terminal_over(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert shown(capsys, Printed("stage.m.train", "\x1b[2Jgone")) == (
        "  stage.m.train | \\x1b[2Jgone\n"
    )


def test_the_report_counts() -> None:
    done, failed = Outcome(STEP, Status.DONE), Outcome(STEP, Status.FAILED, error_code=3)
    report = Report((done, done, failed))
    assert render_report(report) == "Apply: 2 done, 1 failed."
    assert report.exit_code == 3


def test_what_an_interrupted_apply_waits_for_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, Lingering(("stage.a.train", "stage.b.train"))) == (
        "recording what ended: stage.a.train, stage.b.train (a second signal ends at once)\n"
    )


def test_a_terminal_shows_what_runs_below_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    said = ""

    def read_until(words: str) -> None:
        nonlocal said
        deadline = time.monotonic() + 30
        while words not in said:
            assert time.monotonic() < deadline, said
            try:
                said += os.read(ours, 4096).decode()
            except BlockingIOError:
                time.sleep(0.01)

    other = Step("stage.m.evaluate", Action.RUN, Consequence.REEVALUATE, "")
    with os.fdopen(theirs, "w") as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Progress(Console(), Plan(Base("", "", ""), (STEP, other)), 2) as progress:
            progress(Started(STEP))
            read_until("1 running, 0 done, 1 waiting")
            progress(Printed("stage.m.train", "epoch 1"))
            progress(Ended(Outcome(STEP, Status.DONE, "1 output")))
            progress(Started(other))
            read_until("1 running, 1 done")
            progress(Ended(Outcome(other, Status.DONE)))
        read_until("0 running, 2 done")
    os.close(ours)
    assert "stage.m.train | epoch 1" in said
    assert said.index("epoch 1") < said.index("1 output")
