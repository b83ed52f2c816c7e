"""How far an apply is, and how long the rest may take."""

from __future__ import annotations

import pytest

from mlspec.plan import Action, Base, Consequence, Estimate, Outcome, Plan, Status, Step
from mlspec.render.progress import render_tally
from mlspec.render.tally import Tally


def step(name: str, seconds: float | None = None, action: Action = Action.RUN) -> Step:
    estimate = None if seconds is None else Estimate(seconds, 3)
    return Step(name, action, Consequence.NONE, "", estimate=estimate)


def tally(*steps: Step, jobs: int = 2) -> Tally:
    return Tally(Plan(Base("", "", ""), steps), jobs)


def test_steps_are_counted() -> None:
    steps = [step(name, 10.0) for name in "abcdef"]
    counts = tally(*steps)
    assert render_tally(counts, 0.0) == "0 running, 0 done, 6 waiting, about 30 s left"
    for each in steps[:3]:
        counts.start(each, 0.0)
    counts.end(Outcome(steps[0], Status.DONE, seconds=10.0))
    counts.end(Outcome(steps[1], Status.FAILED))
    counts.end(Outcome(steps[5], Status.SKIPPED))
    said = "1 running, 1 done, 2 waiting, 1 failed, 1 skipped, about 15 s left"
    assert render_tally(counts, 0.0) == said


def test_what_runs_takes_the_rest_of_its_time_and_no_less_than_none() -> None:
    steps = [step("a", 10.0), step("b", 100.0)]
    counts = tally(*steps)
    counts.start(steps[0], 0.0)
    counts.start(steps[1], 0.0)
    assert counts.remaining(5.0) == 95.0  # the longer one, whatever the jobs
    assert counts.remaining(50.0) == 50.0
    assert counts.remaining(500.0) == 0.0


def test_commands_share_the_jobs() -> None:
    steps = [step(f"s{number}", 6.0) for number in range(10)]
    assert tally(*steps, jobs=1).remaining(0.0) == 60.0
    assert tally(*steps, jobs=4).remaining(0.0) == 15.0


def test_stages_that_never_ran_take_what_the_others_took() -> None:
    steps = [step(name) for name in "abc"]
    counts = tally(*steps, jobs=1)
    assert counts.remaining(0.0) is None
    counts.start(steps[0], 0.0)
    assert counts.remaining(1.0) is None
    counts.end(Outcome(steps[0], Status.DONE, seconds=8.0))
    assert counts.remaining(8.0) == 16.0


@pytest.mark.parametrize("action", [Action.CREATE, Action.REGISTER, Action.EVALUATE])
def test_steps_without_a_command_take_no_time(action: Action) -> None:
    steps = [step("a", action=action), step("b", 3.0)]
    counts = tally(*steps, jobs=1)
    counts.start(steps[0], 0.0)
    assert counts.remaining(100.0) == 3.0
