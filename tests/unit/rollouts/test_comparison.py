"""What is said of champion and challenger, and how certain it is."""

from __future__ import annotations

import random

import pytest

from mlspec.rollouts.comparison import (
    Finding,
    compare_apart,
    compare_errors,
    compare_labelled,
    compare_pairs,
)
from mlspec.rollouts.counts import Counts


def by_name(findings):
    return {each.name: each for each in findings}


def test_pairs_of_numbers_tell_small_differences():
    dice = random.Random(7)
    rows = [dice.gauss(100, 50) for _ in range(500)]
    pairs = [(row, row + 0.5 + dice.gauss(0, 1)) for row in rows]
    found = by_name(compare_pairs(pairs))
    prediction = found["prediction"]
    assert prediction.certain
    assert prediction.low < 0.5 < prediction.high
    assert prediction.difference == pytest.approx(0.5, abs=0.2)
    # apart, the spread of the rows hides it
    apart = by_name(compare_apart([a for a, _ in pairs[::2]], [b for _, b in pairs[1::2]]))
    assert not apart["prediction"].certain
    assert (
        0.0 < found["gap"].about["median"] < found["gap"].about["p95"] < found["gap"].about["most"]
    )


def test_what_may_be_chance_is_not_certain():
    """Looked at again and again, a difference that is none is hardly ever found."""
    wrong = 0
    for seed in range(60):
        dice = random.Random(seed)
        pairs = [(0.0, dice.gauss(0, 1)) for _ in range(600)]
        looks = (by_name(compare_pairs(pairs[:size]))["prediction"] for size in range(30, 600, 30))
        wrong += any(look.certain for look in looks)
    assert wrong <= 6, "5% of 60 are 3"


def test_few_pairs_say_nothing():
    [prediction, gap] = compare_pairs([(1.0, 5.5)] * 10)
    assert (prediction.difference, prediction.low, prediction.certain) == (4.5, None, False)
    assert gap.about == {}
    assert list(compare_pairs([])) == []


def test_classes_agree_or_not():
    pairs = [("yes", "yes")] * 80 + [("yes", "no")] * 15 + [("no", "yes")] * 5
    [found] = compare_pairs(pairs)
    assert found.about["share"] == 0.8
    assert found.about["low"] < 0.8 < found.about["high"]
    assert [each["count"] for each in found.about["apart"]] == [15, 5]
    [whole] = compare_pairs([(1, 1), (0, 1)])
    assert whole.name == "agreement", "whole numbers are classes"


def test_apart_the_distributions_are_compared():
    same = by_name(compare_apart(["a", "b"] * 100, ["b", "a"] * 100))["prediction_drift"]
    other = by_name(compare_apart(["a", "b"] * 500, ["a"] * 900 + ["b"] * 100))["prediction_drift"]
    assert same.about["value"] < 0.01
    assert other.about["low"] > 0.1
    assert list(compare_apart([], ["a"])) == []
    assert list(compare_apart(["a"], ["a"])) == [], "of few nothing is said"


def test_errors():
    found = compare_errors(Counts({200: 2000}), Counts({200: 1800, 500: 200}))
    assert (found.champion, found.challenger, found.certain) == (0.0, 0.1, True)
    assert not compare_errors(Counts({200: 20}), Counts({200: 19, 500: 1})).certain
    assert compare_errors(Counts(), Counts({200: 1})) == Finding("error_rate", 0)


def test_labels_of_the_same_rows_are_compared_in_pairs():
    keys = [(str(number), 0) for number in range(400)]
    labels = dict.fromkeys(keys, "yes")
    champion = {key: "yes" if int(key[0]) % 2 else "no" for key in keys}
    challenger = {key: "yes" if int(key[0]) % 4 else "no" for key in keys}
    found = compare_labelled("accuracy", champion, challenger, labels)
    assert (found.champion, found.challenger, found.size) == (0.5, 0.75, 400)
    assert found.certain
    assert found.about == {"paired": True}


def test_labels_of_other_rows():
    first = {(f"a{number}", 0): 1.0 for number in range(100)}
    second = {(f"b{number}", 0): 3.0 for number in range(100)}
    labels = dict.fromkeys([*first, *second], 2.5)
    found = compare_labelled("absolute_error", first, second, labels)
    assert (found.champion, found.challenger) == (1.5, 0.5)
    assert found.about == {"paired": False}
    assert compare_labelled("squared_error", first, second, {}).size == 0


@pytest.mark.parametrize("value", [True, 1, 1.5, "yes"])
def test_findings_are_plain_data(value):
    for finding in (
        *compare_pairs([(value, value)] * 50),
        *compare_apart([value] * 50, [value] * 50),
    ):
        assert finding.as_dict()["certain"] is False
