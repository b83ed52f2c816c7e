"""What champion and challenger answered, beside each other: pure.

Comes in: predictions as they were captured (:class:`Predicted`), and labels if there are any. Goes
out: :class:`Finding`, each with what it can be and of how many. Where both were asked the same,
they are compared request by request; else each by itself. Intervals hold however often one looks
(:mod:`mlspec.rollouts.intervals`), so that a comparison may be looked at until it is certain.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, quantiles, variance
from typing import Any

from mlspec.rollouts.counts import Counts
from mlspec.rollouts.intervals import ALPHA, Interval, share_interval, spread, stability_interval

LEAST = 30
"""Of either side, below which nothing is said of a mean or of a distribution."""
RANGES = 10
MOST_TOLD = 5
"""Pairs of classes that are told."""
Value = bool | int | float | str
Key = tuple[str, int]
"""The id of a request and the number of a row in it."""


@dataclass(frozen=True, slots=True)
class Predicted:
    """One prediction; `moment` is in ISO 8601."""

    key: Key
    value: Value
    moment: str


@dataclass(frozen=True, slots=True)
class Finding:
    """`difference` is the challenger's less the champion's; it can be anything `low` to `high`.

    `certain` tells whether that leaves out that there is none. `about` is more, by name.
    """

    name: str
    size: int
    champion: float | None = None
    challenger: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def certain(self) -> bool:
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high

    def as_dict(self) -> dict[str, Any]:
        """The finding for machines."""
        return {**asdict(self), "certain": self.certain}


def compare_errors(champion: Counts, challenger: Counts) -> Finding:
    """The shares of requests that failed (with a status of 500 or more)."""
    size = min(champion.total, challenger.total)
    if not size:
        return Finding("error_rate", size)
    rates = champion.errors / champion.total, challenger.errors / challenger.total
    before = share_interval(champion.errors, champion.total, ALPHA / 2)
    after = share_interval(challenger.errors, challenger.total, ALPHA / 2)
    low, high = after.low - before.high, after.high - before.low
    return Finding("error_rate", size, *rates, rates[1] - rates[0], low, high)


def compare_pairs(pairs: Sequence[tuple[Value, Value]]) -> Iterator[Finding]:
    """Predictions for the very same rows, the champion's first."""
    if not pairs:
        return
    numbers = _numbers(pairs)
    if numbers is None:
        yield _agreement(pairs)
        return
    champion, challenger = ([pair[side] for pair in numbers] for side in (0, 1))
    yield _paired("prediction", champion, challenger)
    gaps = [abs(after - before) for before, after in numbers]
    about = {}
    if len(gaps) >= LEAST:
        marks = quantiles(gaps, n=20, method="inclusive")
        about = {"median": marks[9], "p95": marks[18], "most": max(gaps)}
    yield Finding("gap", len(gaps), difference=fmean(gaps), about=about)


def compare_apart(champion: Sequence[Value], challenger: Sequence[Value]) -> Iterator[Finding]:
    """Predictions for rows of different requests."""
    both = champion, challenger
    size = min(map(len, both))
    if not size:
        return
    plain = [_plain_numbers(each) for each in both]
    if plain[0] is not None and plain[1] is not None:
        yield _unpaired("prediction", plain[0], plain[1])
        if size >= LEAST:
            yield _drift(*_in_ranges(plain[0], plain[1]), size)
    elif size >= LEAST:
        counts = [Counter(map(str, each)) for each in both]
        about = {
            "champion": dict(counts[0].most_common(MOST_TOLD)),
            "challenger": dict(counts[1].most_common(MOST_TOLD)),
        }
        yield _drift(counts[0], counts[1], size, about)


def compare_labelled(
    metric: str,
    champion: Mapping[Key, Value],
    challenger: Mapping[Key, Value],
    labels: Mapping[Key, Value],
) -> Finding:
    """How right both are; of the same rows, where both were asked for them."""
    measure = METRICS[metric]
    shared = [key for key in labels if key in champion and key in challenger]
    if shared:
        scores = [
            [measure(each[key], labels[key]) for key in shared] for each in (champion, challenger)
        ]
        return _paired(metric, scores[0], scores[1])
    scores = [
        [measure(value, labels[key]) for key, value in each.items() if key in labels]
        for each in (champion, challenger)
    ]
    return _unpaired(metric, scores[0], scores[1])


def _is_right(value: Value, label: Value) -> float:
    return float(value == label)


def _gap(value: Value, label: Value) -> float:
    return abs(float(value) - float(label))


METRICS: Mapping[str, Callable[[Value, Value], float]] = {
    "accuracy": _is_right,
    "absolute_error": _gap,
    "squared_error": lambda value, label: _gap(value, label) ** 2,
}
"""By the name of a metric, what one prediction contributes to its mean."""


def _paired(name: str, champion: Sequence[float], challenger: Sequence[float]) -> Finding:
    gaps = [after - before for before, after in zip(champion, challenger, strict=True)]
    size, means, about = len(gaps), (fmean(champion), fmean(challenger)), {"paired": True}
    if size < LEAST:
        return Finding(name, size, *means, fmean(gaps), about=about)
    low, high = _around(fmean(gaps), variance(gaps) / size, size)
    return Finding(name, size, *means, fmean(gaps), low, high, about)


def _unpaired(name: str, champion: Sequence[float], challenger: Sequence[float]) -> Finding:
    size, about = min(len(champion), len(challenger)), {"paired": False}
    if not size:
        return Finding(name, size, about=about)
    means = fmean(champion), fmean(challenger)
    difference = means[1] - means[0]
    if size < LEAST:
        return Finding(name, size, *means, difference, about=about)
    error = variance(champion) / len(champion) + variance(challenger) / len(challenger)
    low, high = _around(difference, error, size)
    return Finding(name, size, *means, difference, low, high, about)


def _around(middle: float, squared_error: float, size: int) -> Interval:
    off = spread(size) * math.sqrt(squared_error)
    return Interval(middle - off, middle + off)


def _agreement(pairs: Sequence[tuple[Value, Value]]) -> Finding:
    alike = sum(before == after for before, after in pairs)
    low, high = share_interval(alike, len(pairs))
    apart = Counter(pair for pair in pairs if pair[0] != pair[1])
    told = [
        {"champion": before, "challenger": after, "count": count}
        for (before, after), count in sorted(
            apart.items(), key=lambda each: (-each[1], str(each[0]))
        )[:MOST_TOLD]
    ]
    about = {"share": alike / len(pairs), "low": low, "high": high, "apart": told}
    return Finding("agreement", len(pairs), about=about)


def _drift(
    champion: Mapping[str, int],
    challenger: Mapping[str, int],
    size: int,
    more: Mapping[str, Any] | None = None,
) -> Finding:
    found = stability_interval(champion, challenger)
    about = {"value": found.value, "low": found.low, "high": found.high, **(more or {})}
    return Finding("prediction_drift", size, about=about)


def _in_ranges(
    champion: Sequence[float], challenger: Sequence[float]
) -> tuple[Counter[str], Counter[str]]:
    bounds = sorted(set(quantiles(champion, n=RANGES)))
    first, second = (
        Counter(str(bisect_left(bounds, value)) for value in each)
        for each in (champion, challenger)
    )
    return first, second


def _numbers(pairs: Sequence[tuple[Value, Value]]) -> list[tuple[float, float]] | None:
    """The pairs, if they are of numbers and not of classes."""
    sides = [_plain_numbers([pair[side] for pair in pairs]) for side in (0, 1)]
    if sides[0] is None or sides[1] is None:
        return None
    return list(zip(sides[0], sides[1], strict=True))


def _plain_numbers(values: Sequence[Value]) -> list[float] | None:
    """The values, if some have a fraction and all are numbers: whole ones alone are classes."""
    kinds = set(map(type, values))
    if float not in kinds or not kinds <= {int, float}:
        return None
    return [float(value) for value in values]
