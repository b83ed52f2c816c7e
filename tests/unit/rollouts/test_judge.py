"""Verdicts in three states, with what was measured, the limit, and the size of the sample."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec.rollouts.counts import Counts
from mlspec.rollouts.judge import Answer, Limits, Query, judge

numbers = st.integers(0, 10**6)
counted = st.builds(
    Counts,
    st.dictionaries(st.sampled_from([200, 422, 500, 503]), numbers),
    st.dictionaries(st.sampled_from([0.01, 0.1, 1.0, math.inf]), numbers),
    st.dictionaries(st.sampled_from(["no", "yes", "perhaps"]), numbers),
)
limits = st.builds(
    Limits,
    st.none() | st.floats(0, 1),
    st.dictionaries(st.sampled_from([0.5, 0.95, 0.99]), st.floats(0.001, 5)),
    st.none() | st.floats(0.01, 10),
    st.none(),
    st.integers(0, 10**5),
)
ERRORS = Limits(error_rate=0.01)
QUICK = Limits(latencies={0.99: 0.1})
ALIKE = Limits(prediction_drift=0.2)


def served(good: int, bad: int = 0) -> Counts:
    return Counts({200: good, 500: bad})


def took(quick: int, slow: int) -> Counts:
    return Counts({200: quick + slow}, {0.05: quick, 0.1: 0, 0.25: slow, math.inf: 0})


@given(limits, counted, counted)
def test_any_counts_can_be_judged(limits: Limits, champion: Counts, candidate: Counts) -> None:
    verdict = judge(limits, champion, candidate)
    results = [finding.result for finding in verdict.findings]
    assert verdict.result in results
    if verdict.result is Answer.PASS:
        assert set(results) == {Answer.PASS}
        assert candidate.total >= limits.least
    assert verdict.detail


@given(limits, counted)
def test_nothing_is_decided_before_there_was_a_request(limits: Limits, champion: Counts) -> None:
    assert judge(limits, champion, Counts()).result is not Answer.FAIL


@given(counted, st.floats(0.001, 0.5))
def test_the_champions_own_numbers_do_not_fail_for_drift(same: Counts, limit: float) -> None:
    verdict = judge(Limits(prediction_drift=limit), same, same)
    assert verdict.result is not Answer.FAIL


@pytest.mark.parametrize(
    ("limits", "champion", "candidate", "result", "said"),
    [
        (Limits(least=50), served(9), served(49), "inconclusive", "49 requests of at least 50"),
        (Limits(least=50), served(9), served(50), "pass", "50 requests"),
        (
            ERRORS,
            served(0),
            served(0),
            "inconclusive",
            "0 of 0 requests failed, limit 1%: not cert",
        ),
        (ERRORS, served(0), served(900), "pass", "0 of 900 requests failed (0%), limit 1%"),
        (ERRORS, served(0), served(90), "inconclusive", "0% to 6.26% is possible"),
        (ERRORS, served(0), served(90, 10), "fail", "10 of 100 requests failed (10%), limit 1%"),
        (ERRORS, served(0), served(9, 10), "inconclusive", "10 of 19 requests failed"),
        (QUICK, took(0, 0), took(0, 0), "inconclusive", "no request was measured yet"),
        (QUICK, took(9, 0), took(900, 0), "pass", "latency_p99 is at most 50 ms in 900 requests"),
        (QUICK, took(9, 0), took(80, 20), "fail", "latency_p99 is at most 250 ms in 100 requests"),
        (QUICK, took(9, 0), took(50, 0), "inconclusive", "can be slower, 1% may"),
    ],
)
def test_each_limit(
    limits: Limits, champion: Counts, candidate: Counts, result: str, said: str
) -> None:
    verdict = judge(limits, champion, candidate)
    assert verdict.result == result
    assert said in "; ".join(finding.detail for finding in verdict.findings)
    assert said in verdict.detail


def test_a_limit_between_two_bounds_is_told_by_neither() -> None:
    between = Limits(latencies={0.99: 0.2})
    verdict = judge(between, Counts(), took(900, 100))
    assert verdict.result is Answer.INCONCLUSIVE
    assert "the histogram has no bound at 200 ms" in verdict.detail
    assert judge(between, Counts(), took(1000, 0)).result is Answer.PASS


def test_drift_of_predictions() -> None:
    champion = Counts({200: 1}, classes={"no": 800, "yes": 200})
    assert judge(ALIKE, champion, Counts(classes={"no": 780, "yes": 220})).result is Answer.PASS
    drifted = judge(ALIKE, champion, Counts(classes={"no": 300, "yes": 700}))
    assert drifted.result is Answer.FAIL
    assert drifted.detail.startswith("prediction_drift is 1.1")
    few = judge(ALIKE, champion, Counts(classes={"no": 3, "yes": 7}))
    assert (
        few.detail
        == "prediction_drift: 10 predictions, 1000 of the champion; 100 of each are needed"
    )


def test_numbers_in_one_bucket_can_not_be_compared() -> None:
    champion, candidate = Counts(values={0.0: 0, 1.0: 500}), Counts(values={0.0: 0, 1.0: 400})
    verdict = judge(ALIKE, champion, candidate)
    assert verdict.result is Answer.INCONCLUSIVE
    assert "all predictions are in one bucket, <= 1" in verdict.detail
    moved = Counts(values={0.0: 300, 1.0: 100})
    assert judge(ALIKE, champion, moved).result is Answer.FAIL
    always = Counts(classes={"no": 500})
    assert judge(ALIKE, always, always).result is Answer.PASS


def test_a_champion_that_breaks_the_limit_too_takes_the_blame_away() -> None:
    bad = served(900, 100)
    assert judge(ERRORS, served(1000), bad).blames
    assert not judge(ERRORS, bad, bad).blames
    slow = took(900, 100)
    assert judge(QUICK, took(1000, 0), slow).blames
    assert not judge(QUICK, slow, slow).blames


@pytest.mark.parametrize(
    ("queried", "result"),
    [(None, "inconclusive"), (math.nan, "inconclusive"), (0.5, "pass"), (1.5, "fail")],
)
def test_a_number_that_others_measure(queried: float | None, result: str) -> None:
    limits = Limits(query=Query("http://127.0.0.1:9090", "up", 1.0))
    assert judge(limits, Counts(), Counts(), queried=queried).result == result


def test_a_verdict_is_json_even_beyond_all_buckets() -> None:
    verdict = judge(QUICK, took(100, 0), Counts(seconds={0.1: 0, math.inf: 100}))
    assert "beyond all bounds" in verdict.detail
    said = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert said["result"] == "fail"
    assert said["findings"][1]["value"] is None
