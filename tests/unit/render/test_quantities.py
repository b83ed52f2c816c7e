"""Seconds and money as a person reads them."""

from __future__ import annotations

import pytest

from mlspec.render.quantities import render_money, render_seconds


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.001, "0 s"),
        (0.4, "0.4 s"),
        (2.0, "2 s"),
        (9.94, "9.9 s"),
        (9.99, "10 s"),
        (59.7, "1 min"),
        (80, "1 min 20 s"),
        (3599.8, "1 h"),
        (7500, "2 h 5 min"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_seconds_have_two_units_at_most(seconds: float, shown: str) -> None:
    assert render_seconds(seconds) == shown


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(0.0, "0.00 EUR"), (0.0004, "below 0.01 EUR"), (0.025, "0.03 EUR"), (1234.5, "1234.50 EUR")],
)
def test_money_is_told_to_the_cent(amount: float, shown: str) -> None:
    assert render_money(amount, "EUR") == shown
