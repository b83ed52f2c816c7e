"""Counts are read from a service's metrics as they are, whatever else stands there."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mlspec.rollouts.counts import Counts, parse_counts

TEXT = """\
# HELP mlspec_requests_total Requests that were answered, by status
# TYPE mlspec_requests_total counter
mlspec_requests_total{status="200",model_version="2"} 97.0
mlspec_requests_total{status="500",worker="a b"} 2.0
mlspec_requests_total{worker="c",status="500"} 1
mlspec_requests_total{status="none"} 5
mlspec_request_seconds_bucket{le="0.01"} 40.0
mlspec_request_seconds_bucket{le="0.1"} 90.0
mlspec_request_seconds_bucket{le="+Inf"} 100.0
mlspec_request_seconds_sum 2.5
mlspec_predictions_total{class="sp\\"am, or {not}"} 30.0
mlspec_predictions_total{class="1"} NaN
python_info{version="3"} 1.0
mlspec_requests_total{status="200"
"""


def test_a_service_is_read() -> None:
    found = parse_counts(TEXT)
    assert found.requests == {200: 97, 500: 3}
    assert (found.total, found.errors) == (100, 3)
    assert found.seconds == {0.01: 40, 0.1: 50, math.inf: 10}
    assert list(found.classes.values()) == [30]
    assert found.predictions == found.classes


def test_numbers_are_predicted_in_ranges() -> None:
    text = 'mlspec_prediction_bucket{le="1.0"} 3\nmlspec_prediction_bucket{le="+Inf"} 5\n'
    assert parse_counts(text).predictions == {"<= 1": 3, "<= inf": 2}


def test_any_text_may_be_a_class() -> None:
    text = 'mlspec_predictions_total{class="one\u2028\x85line"} 3.0\n'
    assert parse_counts(text).classes == {"one\u2028\x85line": 3}


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    found = parse_counts(text + "\nmlspec_requests_total" + text + "\n" + TEXT)
    assert found.total >= 0


def test_what_came_between() -> None:
    earlier, later = Counts({200: 5, 500: 1}), Counts({200: 9, 500: 1, 422: 2})
    assert later.since(earlier).requests == {200: 4, 500: 0, 422: 2}


def test_a_service_that_began_anew_has_counted_all_since() -> None:
    assert Counts({200: 4, 500: 7}).since(Counts({200: 90, 500: 1})).requests == {200: 4, 500: 7}
