"""Intervals hold the truth however often one looks, and come to a point with enough of it."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec.rollouts.intervals import ALPHA, share_interval, stability_interval

counts = st.integers(0, 10**7).flatmap(
    lambda total: st.tuples(st.integers(0, total), st.just(total))
)
cells = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10**6), min_size=1).filter(
    lambda found: sum(found.values()) > 0
)


@given(counts)
def test_an_interval_holds_what_was_seen(sample: tuple[int, int]) -> None:
    count, total = sample
    low, high = share_interval(count, total)
    assert 0 <= low <= high <= 1
    if total:
        assert low - 1e-9 <= count / total <= high + 1e-9


@given(counts)
def test_the_other_kind_has_the_other_interval(sample: tuple[int, int]) -> None:
    count, total = sample
    low, high = share_interval(count, total)
    assert share_interval(total - count, total) == pytest.approx((1 - high, 1 - low), abs=1e-6)


@given(st.integers(0, 100), st.integers(1, 5))
def test_more_of_the_same_says_more(count: int, times: int) -> None:
    low, high = share_interval(count, 100)
    lower, higher = share_interval(count * 10 * times, 1000 * times)
    assert low <= lower + 1e-9
    assert higher <= high + 1e-9


def test_nothing_seen_says_nothing() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="3 of 2"):
        share_interval(3, 2)


@pytest.mark.parametrize("truth", [0.01, 0.2])
def test_it_is_seldom_wrong_though_one_looks_after_every_request(truth: float) -> None:
    """A 95% interval for one look would be wrong at some time in more than a third of these."""
    dice, trials, wrong = random.Random(7), 100, 0
    for _ in range(trials):
        count = 0
        for total in range(1, 401):
            count += dice.random() < truth
            low, high = share_interval(count, total) if total % 10 == 0 else (0.0, 1.0)
            if not low <= truth <= high:
                wrong += 1
                break
    assert wrong / trials <= ALPHA


@given(cells, cells)
def test_stability_is_never_less_than_nothing(
    before: dict[str, int], after: dict[str, int]
) -> None:
    found = stability_interval(before, after)
    assert all(math.isfinite(number) for number in found)
    assert 0 <= found.low <= found.high
    assert found.value >= 0


@given(cells)
def test_what_did_not_change_is_stable(found: dict[str, int]) -> None:
    assert stability_interval(found, found)[:2] == (0.0, 0.0)


def test_what_changed_much_is_not() -> None:
    found = stability_interval({"no": 900, "yes": 100}, {"no": 500, "yes": 500})
    assert found.low > 0.25


def test_small_samples_leave_it_open() -> None:
    found = stability_interval({"no": 15, "yes": 5}, {"no": 10, "yes": 10})
    assert found.low == 0
    assert found.high > 0.25


def test_nothing_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="nothing was counted"):
        stability_interval({"no": 0}, {"no": 3})
