"""What a service has counted since it began, read from the text of its /metrics.

Comes in: the text format of Prometheus. Goes out: :class:`Counts`; two of them of one service,
subtracted, are what happened between. Other labels, such as one for each worker, are summed over.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

REQUESTS = "mlspec_requests_total"
SECONDS = "mlspec_request_seconds_bucket"
CLASSES = "mlspec_predictions_total"
VALUES = "mlspec_prediction_bucket"

_LINE = re.compile(r"([a-z_]+)(?:\{(.*)\})? ([0-9.eE+-]+)(?: [0-9]+)?")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_SERVER_ERROR = 500
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class Counts:
    """`requests` by status, `seconds` and `values` by the upper bound of their bucket, `classes`.

    Each bucket holds what is at most its bound and above the one below; `inf` holds the rest.
    """

    requests: Mapping[int, int] = field(default_factory=dict)
    seconds: Mapping[float, int] = field(default_factory=dict)
    classes: Mapping[str, int] = field(default_factory=dict)
    values: Mapping[float, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All requests."""
        return sum(self.requests.values())

    @property
    def errors(self) -> int:
        """Requests that the service itself failed to answer; what it refused is not among them."""
        return sum(count for status, count in self.requests.items() if status >= _SERVER_ERROR)

    @property
    def predictions(self) -> Mapping[str, int]:
        """How often each class, or each range of values, was predicted."""
        return self.classes or {f"<= {bound:g}": count for bound, count in self.values.items()}

    def latency(self, quantile: float) -> float | None:
        """The bound, in seconds, within which that share was answered; none of no requests."""
        left = quantile * sum(self.seconds.values())
        if left <= 0:
            return None
        for bound in sorted(self.seconds):
            left -= self.seconds[bound]
            if left <= 1e-9:
                return bound
        return math.inf

    def since(self, before: Counts) -> Counts:
        """What came after `before`. A count that fell was begun anew: all of it came after."""
        return Counts(
            _less(self.requests, before.requests),
            _less(self.seconds, before.seconds),
            _less(self.classes, before.classes),
            _less(self.values, before.values),
        )


def parse_counts(text: str) -> Counts:
    """The counts that mlspec's services give; a line that is none of them is passed over."""
    requests, seconds = Counter[int](), Counter[float]()
    classes, values = Counter[str](), Counter[float]()
    for line in text.split("\n"):  # other ends of lines may stand in the name of a class
        if not line.startswith("mlspec_") or (match := _LINE.fullmatch(line.strip())) is None:
            continue
        name, labels = match[1], dict(_LABEL.findall(match[2] or ""))
        count = _whole(match[3])
        if count is None:
            continue
        if name == REQUESTS and labels.get("status", "").isdecimal():
            requests[int(labels["status"])] += count
        elif name == CLASSES and "class" in labels:
            classes[labels["class"]] += count
        elif name in (SECONDS, VALUES) and (bound := _bound(labels.get("le", ""))) is not None:
            (seconds if name == SECONDS else values)[bound] += count
    return Counts(dict(requests), _by_bucket(seconds), dict(classes), _by_bucket(values))


def _by_bucket(cumulative: Mapping[float, int]) -> dict[float, int]:
    """A bucket of Prometheus counts those below it, too."""
    below, found = 0, {}
    for bound in sorted(cumulative):
        found[bound] = max(0, cumulative[bound] - below)
        below = max(below, cumulative[bound])
    return found


def _whole(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if math.isfinite(value) and value >= 0 else None


def _bound(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return None if math.isnan(value) else value


def _less(now: Mapping[Key, int], before: Mapping[Key, int]) -> dict[Key, int]:
    began_anew = any(count < before.get(key, 0) for key, count in now.items())
    return {key: count - (0 if began_anew else before.get(key, 0)) for key, count in now.items()}
