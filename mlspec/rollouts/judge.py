"""Judges a candidate by what it and the champion counted: pure, and in three states.

A limit is kept (`pass`) or broken (`fail`) only when the sample leaves no doubt, at every look
(:mod:`mlspec.rollouts.intervals`); until then it is `inconclusive`, and the finding says what is
missing. A quantile of latency is asked as a share: the 99th is at most 100 ms when at most 1% of
requests took longer, which needs no assumption on how latencies are spread (W. Conover, "Practical
Nonparametric Statistics", on quantiles). A histogram knows only its bounds: a limit between two of
them is kept if that is certain at the lower one, and broken if it is so at the upper one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from mlspec.rollouts.counts import Counts
from mlspec.rollouts.intervals import Interval, share_interval, stability_interval

FEWEST = 20
"""Requests before which no limit counts as broken: a service that has just begun may be slow."""
LEAST_PREDICTIONS = 100
"""Predictions of either side, below which their distributions are not compared."""


class Answer(StrEnum):
    """What is known of a limit, or of all of them."""

    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Query:
    """A number that others measure: `expression`, asked of the Prometheus server at `url`."""

    url: str
    expression: str
    limit: float


@dataclass(frozen=True, slots=True)
class Limits:
    """What a candidate must keep.

    `error_rate`: the share of answers with a status of 500 or more. `latencies`: seconds by
    quantile. `prediction_drift`: the stability index of its predictions against the champion's.
    `least` requests are wanted whatever the limits are.
    """

    error_rate: float | None = None
    latencies: Mapping[float, float] = field(default_factory=dict)
    prediction_drift: float | None = None
    query: Query | None = None
    least: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One limit: the measured `value` and the champion's, what it can be, of a sample of `size`.

    It is `shared` when the champion breaks it, too: then the release may not be what is wrong.
    """

    name: str
    result: Answer
    detail: str
    size: int
    value: float | None = None
    limit: float | None = None
    champion: float | None = None
    low: float | None = None
    high: float | None = None
    shared: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """All findings, and the worst of their results: a limit that is broken, then one in doubt."""

    result: Answer
    findings: tuple[Finding, ...] = ()

    @property
    def detail(self) -> str:
        """The findings that matter, in words."""
        told = [f for f in self.findings if f.result is self.result] or list(self.findings)
        return "; ".join(finding.detail for finding in told)

    @property
    def blames(self) -> bool:
        """Whether the candidate alone breaks a limit."""
        return any(f.result is Answer.FAIL and not f.shared for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """The verdict for machines; JSON has no number for a latency beyond all buckets."""
        findings = [
            {key: None if value == math.inf else value for key, value in asdict(each).items()}
            for each in self.findings
        ]
        return {"result": self.result.value, "findings": findings}


def judge(
    limits: Limits, champion: Counts, candidate: Counts, *, queried: float | None = None
) -> Verdict:
    """Hold what was counted in the same time against `limits`; `queried` is the query's answer."""
    findings = tuple(_findings(limits, champion, candidate, queried))
    results = {finding.result for finding in findings}
    for result in (Answer.FAIL, Answer.INCONCLUSIVE):
        if result in results:
            return Verdict(result, findings)
    return Verdict(Answer.PASS, findings)


def _findings(
    limits: Limits, champion: Counts, candidate: Counts, queried: float | None
) -> Iterator[Finding]:
    yield _requests(limits.least, candidate.total)
    if limits.error_rate is not None:
        yield _error_rate(limits.error_rate, champion, candidate)
    for quantile, limit in sorted(limits.latencies.items()):
        yield _latency(quantile, limit, champion, candidate)
    if limits.prediction_drift is not None:
        yield _drift(limits.prediction_drift, champion, candidate)
    if limits.query is not None:
        yield _query(limits.query, queried)


def _requests(least: int, total: int) -> Finding:
    if total < least:
        detail = f"{_counted(total, 'request')} of at least {least}"
        return Finding("requests", Answer.INCONCLUSIVE, detail, total, total, least)
    return Finding("requests", Answer.PASS, _counted(total, "request"), total, total, least)


def _error_rate(limit: float, champion: Counts, candidate: Counts) -> Finding:
    errors, total = candidate.errors, candidate.total
    interval = share_interval(errors, total)
    result = _held(interval, limit, total)
    others = share_interval(champion.errors, champion.total)
    detail = f"{errors} of {_counted(total, 'request')} failed"
    if total:
        detail += f" ({_percent(errors / total)})"
    detail += _against(f"limit {_percent(limit)}", result, interval, _percent)
    return Finding(
        "error_rate",
        result,
        detail,
        total,
        errors / total if total else None,
        limit,
        champion.errors / champion.total if champion.total else None,
        *interval,
        shared=_held(others, limit, champion.total) is Answer.FAIL,
    )


def _latency(quantile: float, limit: float, champion: Counts, candidate: Counts) -> Finding:
    total, allowed = sum(candidate.seconds.values()), 1 - quantile
    surely, perhaps = _slower(candidate.seconds, limit)
    value = candidate.latency(quantile)
    interval = Interval(share_interval(surely, total).low, share_interval(perhaps, total).high)
    result = _held(interval, allowed, total)
    others = share_interval(_slower(champion.seconds, limit)[0], sum(champion.seconds.values()))
    name = f"latency_p{quantile * 100:g}"
    if value is None:
        detail = f"{name}: no request was measured yet, limit {_milliseconds(limit)}"
    else:
        bound = f"at most {_milliseconds(value)}" if math.isfinite(value) else "beyond all bounds"
        detail = f"{name} is {bound} in {_counted(total, 'request')}"
        detail += f", limit {_milliseconds(limit)}"
        if result is Answer.INCONCLUSIVE:
            detail += f": not certain yet, {_percent(interval.low)} to {_percent(interval.high)} "
            detail += f"can be slower, {_percent(allowed)} may"
        if result is Answer.INCONCLUSIVE and surely != perhaps:
            detail += f"; the histogram has no bound at {_milliseconds(limit)}"
    return Finding(
        name,
        result,
        detail,
        total,
        value,
        limit,
        champion.latency(quantile),
        shared=others.low > allowed,
    )


def _slower(buckets: Mapping[float, int], limit: float) -> tuple[int, int]:
    """How many took longer than `limit`: surely, and perhaps."""
    above = min((bound for bound in buckets if bound >= limit), default=math.inf)
    below = max((bound for bound in buckets if bound <= limit), default=-math.inf)
    surely = sum(count for upper, count in buckets.items() if upper > above)
    perhaps = sum(count for upper, count in buckets.items() if upper > below)
    return surely, perhaps


def _drift(limit: float, champion: Counts, candidate: Counts) -> Finding:
    before, after = champion.predictions, candidate.predictions
    n, m = sum(before.values()), sum(after.values())
    name, size = "prediction_drift", min(n, m)
    if size < LEAST_PREDICTIONS:
        seen = f"{_counted(m, 'prediction')}, {n} of the champion"
        detail = f"{name}: {seen}; {LEAST_PREDICTIONS} of each are needed"
        return Finding(name, Answer.INCONCLUSIVE, detail, size, limit=limit)
    ranges = {cell for cell in before if before[cell]} | {cell for cell in after if after[cell]}
    if not candidate.classes and len(ranges) == 1:
        detail = f"{name}: all predictions are in one bucket, {ranges.pop()}: they can not be "
        detail += "compared; give the deployment `metrics: {buckets: [...]}`"
        return Finding(name, Answer.INCONCLUSIVE, detail, size, limit=limit)
    found = stability_interval(before, after)
    interval = Interval(found.low, found.high)
    result = _held(interval, limit, size)
    detail = f"{name} is {found.value:.3f} in {_counted(m, 'prediction')}"
    detail += f" against {n} of the champion"
    detail += _against(f"limit {limit:g}", result, interval, lambda value: f"{value:.3f}")
    return Finding(name, result, detail, size, found.value, limit, None, *interval)


def _query(query: Query, queried: float | None) -> Finding:
    if queried is None or math.isnan(queried):
        return Finding(
            "query", Answer.INCONCLUSIVE, "query: it gives no number yet", 0, limit=query.limit
        )
    result = Answer.FAIL if queried > query.limit else Answer.PASS
    detail = f"query: {queried:g}, limit {query.limit:g}"
    return Finding("query", result, detail, 1, queried, query.limit)


def _held(interval: Interval, limit: float, size: int) -> Answer:
    """Whether a limit is broken by the least that there can be, or kept by the most."""
    if interval.low > limit and size >= FEWEST:
        return Answer.FAIL
    return Answer.PASS if interval.high <= limit else Answer.INCONCLUSIVE


def _against(limit: str, result: Answer, interval: Interval, write: Callable[[float], str]) -> str:
    if result is not Answer.INCONCLUSIVE:
        return f", {limit}"
    possible = f"{write(interval.low)} to {write(interval.high)}"
    return f", {limit}: not certain yet, {possible} is possible"


def _percent(share: float) -> str:
    return f"{share * 100:.3g}%"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1000:g} ms"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
