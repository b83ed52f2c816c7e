"""The plan as a person reads it."""

from __future__ import annotations

import pytest

from mlspec.plan import Action, Base, Consequence, Estimate, FieldChange, Held, Plan, Step
from mlspec.render.plan_text import render_plan, symbol
from mlspec.render.style import Style, escape

PLAIN = Style(color=False)


def plan(*steps: Step, held: tuple[Held, ...] = ()) -> Plan:
    return Plan(Base("", "", "sha256:0"), steps, held=held, unchanged=3)


def test_an_empty_plan_says_so_in_one_line() -> None:
    assert render_plan(plan(), PLAIN) == "No changes. 3 resources are as the spec says.\n"


def test_what_is_left_alone_is_said_with_its_reason() -> None:
    text = render_plan(plan(held=(Held("model.m", "candidate rejected: auc 0.5 < 0.8"),)), PLAIN)
    assert "! model.m: candidate rejected: auc 0.5 < 0.8" in text
    assert "1 left as it is" in text


def test_steps_are_grouped_with_reason_consequence_and_change() -> None:
    step = Step(
        "stage.m.train",
        Action.RUN,
        Consequence.RETRAIN,
        "params.depth changed",
        changes=(FieldChange("params.depth", 3, 4),),
        estimate=Estimate(2.0, 1),
    )
    later = Step("stage.m.evaluate", Action.RUN, Consequence.REEVALUATE, "may", certain=False)
    assert render_plan(plan(step, later), PLAIN) == (
        "model.m\n"
        "  > stage train     params.depth changed [run, retrain, about 2 s (1 run)]\n"
        "      params.depth: 3 -> 4\n"
        "  > stage evaluate  may [may run, reevaluate]\n"
        "\n"
        "Cost: retrain 1 stage, about 2 s; reevaluate 1 stage without a recorded run.\n"
        "Plan: 2 to run; 3 unchanged.\n"
    )


def test_costs_are_summed_by_consequence_and_currency_and_unknown_ones_counted() -> None:
    estimates = (
        Estimate(60.0, 10, 0.02, "EUR"),
        Estimate(20.0, 3, 0.01, "EUR"),
        Estimate(3600.0, 1, 1.5, "USD"),
        None,
    )
    trains = [
        Step(f"stage.m{n}.train", Action.RUN, Consequence.RETRAIN, "changed", estimate=estimate)
        for n, estimate in enumerate(estimates)
    ]
    judge = Step(
        "stage.m.judge",
        Action.RUN,
        Consequence.REEVALUATE,
        "may change",
        certain=False,
        estimate=Estimate(1.0, 2),
    )
    made = plan(*trains, judge)
    text = render_plan(made, PLAIN, explain=True)
    assert "[run, retrain, about 1 min (10 runs), 0.02 EUR]" in text
    assert (
        "\nCost: retrain 4 stages, about 1 h 1 min, 0.03 EUR, 1.50 USD, 1 without a recorded run; "
        "reevaluate 1 stage, up to about 1 s.\n"
    ) in text
    assert made.as_dict()["totals"] == {
        "retrain": {
            "stages": 4,
            "uncertain": 0,
            "unknown": 1,
            "seconds": 3680.0,
            "cost": {"EUR": 0.03, "USD": 1.5},
        },
        "reevaluate": {"stages": 1, "uncertain": 1, "unknown": 0, "seconds": 1.0, "cost": {}},
    }


def members(count: int, *, name: str = "shop", reason: str = "never run") -> list[Step]:
    """A stage and a version for each of so many models."""
    return [
        step
        for n in range(100, 100 + count)
        for step in (
            Step(
                f"stage.{name}-{n}.train",
                Action.RUN,
                Consequence.RETRAIN,
                reason.format(n),
                estimate=Estimate(30.0, 2, 0.5, "EUR"),
            ),
            Step(f"model.{name}-{n}", Action.REGISTER, Consequence.RETRAIN, "a new version"),
        )
    ]


def test_many_like_models_are_told_once() -> None:
    text = render_plan(plan(*members(6)), PLAIN)
    assert text.startswith(
        "model.shop-100, model.shop-101, model.shop-102 and 3 more\n"
        "  > stage train  never run [run, retrain, 6 stages, about 3 min, 3.00 EUR]\n"
        "  + version      a new version [register, retrain]\n\n"
        "Cost: retrain 6 stages, about 3 min, 3.00 EUR.\n"
    )


def test_few_like_models_and_those_of_an_explained_plan_are_told_one_by_one() -> None:
    assert render_plan(plan(*members(3)), PLAIN).count("stage train") == 3
    assert render_plan(plan(*members(6)), PLAIN, explain=True).count("stage train") == 6


def test_models_are_alike_whatever_their_names_make_of_a_reason() -> None:
    steps = members(5, reason="shops/shop-{0}/data.csv and rates/{0}.csv changed")
    text = render_plan(plan(*steps), PLAIN)
    assert text.count("stage train") == 1
    assert "shops/shop-100/data.csv and rates/100.csv changed" in text


@pytest.mark.parametrize("name", ["shop", "other"])
def test_what_differs_in_one_model_is_told_of_it(name: str) -> None:
    steps = [*members(5), *members(1, name=f"{name}-x", reason="params.depth changed")]
    text = render_plan(plan(*steps), PLAIN)
    assert f"model.{name}-x-100\n  > stage train  params.depth changed" in text
    assert "model.shop-100, model.shop-101, model.shop-102 and 2 more\n" in text


def test_a_parameter_that_changed_otherwise_is_told_for_each() -> None:
    steps = [
        Step(
            f"stage.m{n}.train",
            Action.RUN,
            Consequence.RETRAIN,
            "params.depth changed",
            changes=(FieldChange("params.depth", 3, 10 + n), FieldChange("md5", n, n + 1)),
        )
        for n in range(6)
    ]
    text = render_plan(plan(*steps), PLAIN)
    assert all(f"params.depth: 3 -> {10 + n}" in text for n in range(6))


def test_what_is_left_alone_for_one_reason_is_told_once() -> None:
    held = tuple(Held(f"model.m{n}", "it comes after x") for n in range(9))
    text = render_plan(plan(held=held), PLAIN)
    assert "  ! model.m0, model.m1, model.m2 and 6 more: it comes after x\n" in text


def test_what_a_step_said_when_it_failed_is_part_of_its_reason() -> None:
    steps = members(6)
    failed = {step.address: "exit code 1" for step in steps[4:10] if step.action is Action.RUN}
    text = render_plan(plan(*steps), PLAIN, failed=failed)
    assert text.count("never run; failed last time: exit code 1 [run, retrain, ") == 3
    assert text.count("never run [") == 3


def test_a_plan_that_runs_nothing_costs_nothing() -> None:
    restore = Step("stage.m.train", Action.RESTORE, Consequence.NONE, "drift")
    assert "Cost" not in render_plan(plan(restore), PLAIN)
    assert plan(restore).as_dict()["totals"] == {}


def test_many_files_are_counted_unless_explained() -> None:
    steps = [
        Step(f"file.cards/{n}.md", Action.CREATE, Consequence.DOCS, "not there yet")
        for n in range(20)
    ]
    assert "cards/0.md and 19 more: create" in render_plan(plan(*steps), PLAIN)
    assert "cards/19.md" in render_plan(plan(*steps), PLAIN, explain=True)


def test_drift_shows_what_was_found() -> None:
    change = FieldChange("running", True, True, False)
    step = Step("deployment.d@t", Action.DEPLOY, Consequence.REDEPLOY, "drift", changes=(change,))
    assert "running: True, found False" in render_plan(plan(step), PLAIN)


def test_every_action_has_a_symbol() -> None:
    assert all(len(symbol(action)[0]) == 1 for action in Action)


def test_colour_only_when_asked_for() -> None:
    step = Step("stage.m.train", Action.RUN, Consequence.RETRAIN, "never run")
    assert "\x1b[" not in render_plan(plan(step), PLAIN)
    assert "\x1b[36m>\x1b[0m" in render_plan(plan(step), Style(color=True))


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\nb", "a\\nb"),
        ("\u202eevil", "\\u202eevil"),
        ("\u200bzero", "\\u200bzero"),
        ("plain ünïcode", "plain ünïcode"),
    ],
)
def test_text_cannot_take_the_terminal_over(hostile: str, shown: str) -> None:
    assert escape(hostile) == shown
    step = Step("stage.m.train", Action.RUN, Consequence.RETRAIN, hostile)
    assert shown in render_plan(plan(step), PLAIN)
