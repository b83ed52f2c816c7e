"""What an apply tells at once and what at its end."""

from __future__ import annotations

import pytest

from mlspec.apply import Ended
from mlspec.errors import Interrupted
from mlspec.plan import Action, Base, Consequence, Outcome, Plan, Status, Step
from mlspec.render.alike import fold, listed, nameless
from mlspec.render.console import Console
from mlspec.render.progress import Progress

FAST = "not started: --fail-fast after stage.m100.train failed"

BESIDE = "; those of the others are beside it"


def plan(models: int) -> Plan:
    """A file, a stage, a gate and a version for each model: four steps."""
    steps = []
    for n in range(100, 100 + models):
        stage, gate = f"stage.m{n}.train", f"gate.m{n}.error"
        steps += [
            Step(f"file.cards/m{n}.md", Action.CREATE, Consequence.DOCS, "not there yet"),
            Step(stage, Action.RUN, Consequence.RETRAIN, "never run"),
            Step(gate, Action.EVALUATE, Consequence.REEVALUATE, "", after=(stage,)),
            Step(f"model.m{n}", Action.REGISTER, Consequence.RETRAIN, "", after=(gate,)),
        ]
    return Plan(Base("", "", ""), tuple(steps))


def carried_out(made: Plan, failures: dict[str, str]) -> list[Outcome]:
    """All done but what failed, with what it said, and what comes after that."""
    outcomes: list[Outcome] = []
    lost: set[str] = set()
    for step in made.steps:
        if step.address in failures:
            said = f"{step.address} failed: {failures[step.address]}"
            log = f"the whole log is logs/{step.address}.log"
            outcomes.append(Outcome(step, Status.FAILED, said, hint=log))
        elif lost.intersection(step.after):
            outcomes.append(Outcome(step, Status.SKIPPED, f"{step.after[0]} did not succeed"))
        else:
            outcomes.append(Outcome(step, Status.DONE, "well"))
            continue
        lost.add(step.address)
    return outcomes


def shown(capsys: pytest.CaptureFixture[str], made: Plan, outcomes: list[Outcome]) -> str:
    with Progress(Console(), made) as progress:
        for outcome in outcomes:
            progress(Ended(outcome))
    return capsys.readouterr().err


def test_a_short_apply_has_a_line_for_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(2)
    said = shown(capsys, made, carried_out(made, {}))
    assert said.splitlines() == [f"     ok  {step.address}: well" for step in made.steps]


def test_a_long_apply_has_a_line_for_each_command_and_counts_the_rest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = plan(20)
    *lines, last = shown(capsys, made, carried_out(made, {})).splitlines()
    assert lines == [f"     ok  stage.m{n}.train: well" for n in range(100, 120)]
    assert last == "     ok  also 20 generated files, 20 gates, 20 versions"


def test_a_long_apply_tells_a_warning_and_counts_what_was_as_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = plan(20)
    outcomes = [
        Outcome(step, Status.DONE, "warning: error 3 > 2")
        if step.action is Action.EVALUATE
        else Outcome(step, Status.UNCHANGED, "as it was before")
        for step in made.steps
    ]
    *lines, last = shown(capsys, made, outcomes).splitlines()
    assert lines == [f"   warn  gate.m{n}.error: error 3 > 2" for n in range(100, 120)]
    assert last == "   same  60 steps: nothing was to do"


def test_what_failed_is_repeated_with_all_it_said_and_what_waited_for_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = plan(2)
    said = shown(capsys, made, carried_out(made, {"stage.m100.train": "exit code 1\nno data"}))
    before, _, after = said.partition("\nWhat failed:\n")
    assert " failed  stage.m100.train: exit code 1\n" in before
    assert "skipped  model.m100: gate.m100.error did not succeed\n" in before
    assert "no data" not in before
    assert after == (
        " failed  stage.m100.train: exit code 1\n"
        "         | no data\n"
        "         = help: the whole log is logs/stage.m100.train.log\n"
        "         = not tried because of it: 2 steps\n"
    )


def test_equal_failures_are_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(20)
    failures = {f"stage.m{n}.train": f"no m{n}" for n in range(102, 110)}
    failures["stage.m111.train"] = "exit code 1"
    said = shown(capsys, made, carried_out(made, failures))
    before, _, after = said.partition("\nWhat failed:\n")
    assert [line for line in before.splitlines() if "ok" not in line] == [
        " failed  stage.m102.train: no m102",
        " failed  stage.m111.train: exit code 1",
    ]
    assert after.splitlines() == [
        " failed  stage.m102.train, stage.m103.train, stage.m104.train and 5 more: no m102",
        f"         = help: the whole log is logs/stage.m102.train.log{BESIDE}",
        "         = not tried because of it: 16 steps",
        " failed  stage.m111.train: exit code 1",
        "         = help: the whole log is logs/stage.m111.train.log",
        "         = not tried because of it: 2 steps",
    ]


def test_many_failures_that_differ_only_below_are_told_once(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = plan(20)
    failures = {f"stage.m{n}.train": f"exit code 1\n{n * 7} is odd" for n in range(100, 120)}
    after = shown(capsys, made, carried_out(made, failures)).partition("What failed:\n")[2]
    assert after.splitlines() == [
        " failed  stage.m100.train, stage.m101.train, stage.m102.train and 17 more: exit code 1",
        "         | 700 is odd",
        f"         = help: the whole log is logs/stage.m100.train.log{BESIDE}",
        "         = not tried because of it: 40 steps",
    ]


def test_what_fail_fast_left_out_is_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(20)
    outcomes = carried_out(made, {"stage.m100.train": "exit code 1"})
    outcomes = [
        Outcome(each.step, Status.SKIPPED, FAST) if each.status is Status.DONE else each
        for each in outcomes
    ]
    assert shown(capsys, made, outcomes).splitlines()[-2:] == [
        "         = not tried because of it: 2 steps",
        f"skipped  77 steps {FAST}",
    ]


def test_an_interrupted_apply_tells_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    made = plan(20)
    outcomes = carried_out(made, {"stage.m100.train": "exit code 1"})
    with pytest.raises(Interrupted), Progress(Console(), made) as progress:
        for outcome in outcomes[:8]:
            progress(Ended(outcome))
        raise Interrupted(2)
    said = capsys.readouterr().err
    assert "ok  also 2 generated files, 1 gate, 1 version\n" in said
    assert "What failed:\n failed  stage.m100.train: exit code 1\n" in said


def test_names_are_listed_and_none_is_left_out_alone() -> None:
    assert [listed(list("abcdefgh")[:count]) for count in (1, 2, 4, 5)] == [
        "a",
        "a and b",
        "a, b, c and d",
        "a, b, c and 2 more",
    ]


def test_likes_are_told_where_the_first_of_them_was() -> None:
    words = ["ax", "b", "ay", "c", "az"]
    assert list(fold(words, lambda word: word[0], most=2)) == [["ax", "ay", "az"], ["b"], ["c"]]
    assert list(fold(words, lambda word: word[0], most=3)) == [[word] for word in words]


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("data/shop-1.csv changed", "data/shop-2.csv changed", True),
        ("shop reads north/shop.csv", "depot reads south/depot.csv", False),
        ("version 2 is accepted", "version 1 is accepted", False),
        ("version 1 is accepted", "version 1 is accepted", True),
    ],
)
def test_texts_are_compared_without_names(one: str, other: str, alike: bool) -> None:
    assert (nameless(one, "shop-1") == nameless(other, "shop-2")) is alike


def test_refusals_of_one_gate_are_told_once_with_their_values(
    capsys: pytest.CaptureFixture[str],
) -> None:
    made = plan(6)
    refused = {f"gate.m{100 + n}.error": f"error 4.{n} > 3.5" for n in range(5)}
    _, _, after = shown(capsys, made, carried_out(made, refused)).partition("\nWhat failed:\n")
    told = after.splitlines()
    assert told[0] == (
        " failed  gate.m100.error, gate.m101.error, gate.m102.error and 2 more: "
        "error 4.0 > 3.5; error 4.1 > 3.5; error 4.2 > 3.5; ..."
    )
    assert told[-1] == "         = not tried because of it: 5 steps"
