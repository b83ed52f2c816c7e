"""Gates: a metric, a limit, a verdict in words."""

from __future__ import annotations

import pytest

from mlspec.gates import Champion, Evidence, check_gate
from mlspec.spec.models import Gate


def evidence(*, champion: float | None = None, same: bool = False, **metrics: float) -> Evidence:
    against = None
    if champion is not None:
        against = Champion(3, "candidate" if same else "other", {"auc": champion})
    return Evidence("candidate", metrics, against)


@pytest.mark.parametrize(
    ("gate", "value", "result", "detail"),
    [
        ({"min": 0.8}, 0.8, "pass", "auc 0.8 >= 0.8"),
        ({"min": 0.8}, 0.79, "fail", "auc 0.79 < 0.8"),
        ({"max": 0.8}, 0.8, "pass", "auc 0.8 <= 0.8"),
        ({"max": 0.8}, 0.81, "fail", "auc 0.81 > 0.8"),
        ({"min": 0.5, "max": 0.8}, 0.6, "pass", "auc 0.6 >= 0.5"),
        ({"min": 0.5, "max": 0.8}, 0.9, "fail", "auc 0.9 > 0.8"),
    ],
)
def test_bounds(gate: dict[str, float], value: float, result: str, detail: str) -> None:
    verdict = check_gate("g", Gate(metric="auc", **gate), evidence(auc=value))
    assert (verdict.result, verdict.detail, verdict.value) == (result, detail, value)


@pytest.mark.parametrize(
    ("gate", "value", "result", "limit"),
    [
        ({"max_drop": 0.01}, 0.89, "pass", 0.89),
        ({"max_drop": 0.01}, 0.88, "fail", 0.89),
        ({"min_gain": 0.02}, 0.92, "pass", 0.92),
        ({"min_gain": 0.02}, 0.91, "fail", 0.92),
        ({"max_drop": 0.5, "min_gain": 0.02}, 0.91, "fail", 0.92),
        ({"max_drop": 0.0}, 0.9, "pass", 0.9),
        ({"max_rise": 0.01}, 0.91, "pass", 0.91),
        ({"max_rise": 0.01}, 0.92, "fail", 0.91),
        ({"max_rise": 0.01}, 0.1, "pass", 0.91),
        ({"min_fall": 0.02}, 0.88, "pass", 0.88),
        ({"min_fall": 0.02}, 0.89, "fail", 0.88),
        ({"max_rise": 0.5, "min_fall": 0.02}, 0.89, "fail", 0.88),
        ({"max_rise": 0.0}, 0.9, "pass", 0.9),
        ({"max_rise": 0.1, "max_drop": 0.1}, 0.79, "fail", 0.8),
        ({"max_rise": 0.1, "max_drop": 0.1}, 1.01, "fail", 1.0),
        ({"max_rise": 0.1, "max_drop": 0.1}, 0.95, "pass", 0.8),
    ],
)
def test_comparison(gate: dict[str, float], value: float, result: str, limit: float) -> None:
    asked = Gate(metric="auc", against="champion", **gate)
    verdict = check_gate("g", asked, evidence(auc=value, champion=0.9))
    assert (verdict.result, verdict.champion, verdict.champion_value) == (result, 3, 0.9)
    assert verdict.limit == pytest.approx(limit)


@pytest.mark.parametrize("answer", ["pass", "fail"])
def test_without_a_champion_the_spec_says_what_holds(answer: str) -> None:
    gate = Gate(metric="auc", against="champion", max_drop=0.1, without_champion=answer)
    verdict = check_gate("g", gate, evidence(auc=0.5))
    assert (verdict.result, verdict.champion) == (answer, None)


def test_the_champion_is_not_compared_with_itself() -> None:
    gate = Gate(metric="auc", against="champion", min_gain=0.1)
    assert check_gate("g", gate, evidence(auc=0.9, champion=0.9, same=True)).result == "pass"


def test_a_champion_that_did_not_measure_the_metric_leaves_it_open() -> None:
    gate = Gate(metric="f1", against="champion", max_drop=0.1)
    verdict = check_gate("g", gate, evidence(f1=0.9, champion=0.9))
    assert (verdict.result, verdict.champion) == ("inconclusive", 3)


def test_a_metric_that_was_not_measured_fails_and_says_what_was() -> None:
    verdict = check_gate("g", Gate(metric="auc", min=0.5), evidence(accuracy=0.9))
    assert (verdict.result, verdict.value) == ("fail", None)
    assert "accuracy" in verdict.detail


def test_the_worst_answer_counts() -> None:
    gate = Gate(metric="auc", min=0.5, against="champion", max_drop=0.01)
    assert check_gate("g", gate, evidence(auc=0.6, champion=0.9)).result == "fail"
    assert check_gate("g", gate, evidence(auc=0.4)).result == "fail"


def test_a_comparison_says_what_was_not_measured_alike() -> None:
    gate = Gate(metric="auc", against="champion", max_drop=0.01)
    champion = Champion(3, "other", {"auc": 0.9}, {"test.csv": "a", "evaluate.py": "e"})
    same = Evidence("candidate", {"auc": 0.9}, champion, {"test.csv": "a", "evaluate.py": "e"})
    other = Evidence("candidate", {"auc": 0.9}, champion, {"test.csv": "b", "evaluate.py": "e"})
    assert check_gate("g", gate, same).unlike == ()
    assert check_gate("g", gate, other).unlike == ("test.csv",)
    assert "measured with another test.csv" in check_gate("g", gate, other).detail
