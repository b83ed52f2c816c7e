"""What a share can be, seen from a sample; right at every look, however often one looks.

A rollout is looked at again and again and ends when the numbers are clear. An interval made for one
look, as Wilson's or Clopper and Pearson's, would then miss far more often than it says. These are
confidence sequences: with a probability of at least 1 - `ALPHA` they hold the truth at all looks
together.

- Shares: the mixture of likelihood ratios of H. Robbins, "Statistical Methods Related to the Law of
  the Iterated Logarithm", Ann. Math. Statist. 41 (1970), with the prior Beta(1/2, 1/2). Against any
  share it is a martingale that begins at 1, so by Ville's inequality it ever reaches 1/alpha with
  a probability of at most alpha. Exact: nothing is taken as normal.
- Means: the stitched boundary of S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, "Time-uniform,
  nonparametric, nonasymptotic confidence sequences", Ann. Statist. 49 (2021), equation 2.
- The population stability index: its bias and spread where nothing changed are those that
  B. Yurdakul found, "Statistical Properties of Population Stability Index" (2018): about
  (1/n + 1/m) times a chi-squared of one less than the number of cells. Elsewhere the spread is that
  of the delta method. Asymptotic, so cells of few are smoothed and small samples do not count.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

ALPHA = 0.05
"""How likely it is at most that the truth is ever left out."""
_HALVINGS = 60
_SMOOTHED = 0.5
"""Added to each cell, as of a Jeffreys prior: what was never seen may still be possible."""


class Interval(NamedTuple):
    """From `low` to `high`, both possible."""

    low: float
    high: float


def share_interval(count: int, total: int, alpha: float = ALPHA) -> Interval:
    """What share of all there can be, when `count` of `total` were of the kind."""
    if not 0 <= count <= total:
        raise ValueError(f"{count} of {total}")
    if total == 0:
        return Interval(0.0, 1.0)
    seen, enough = count / total, -math.log(alpha)
    low, high = 0.0, 1.0
    if count > 0:
        low = _border(seen, 0.0, count, total, enough)
    if count < total:
        high = _border(seen, 1.0, count, total, enough)
    return Interval(low, high)


def _border(possible: float, impossible: float, count: int, total: int, enough: float) -> float:
    """Between a share that may be and one that can not, the last that may be."""
    for _ in range(_HALVINGS):
        middle = (possible + impossible) / 2
        if _evidence_against(middle, count, total) >= enough:
            impossible = middle
        else:
            possible = middle
    return possible


def _evidence_against(share: float, count: int, total: int) -> float:
    """The logarithm of the mixture of likelihood ratios against `share`, which is in (0, 1)."""
    if not 0.0 < share < 1.0:
        return math.inf
    mixed = _log_beta(count + 0.5, total - count + 0.5) - _log_beta(0.5, 0.5)
    return mixed - count * math.log(share) - (total - count) * math.log1p(-share)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def spread(total: float, alpha: float = ALPHA) -> float:
    """By how many standard errors a mean of `total` may ever be off."""
    size = max(total, 2.0)
    return 1.7 * math.sqrt(math.log(math.log(2 * size)) + 0.72 * math.log(10.4 / alpha))


class Stability(NamedTuple):
    """The index as measured, and what it can be in truth."""

    value: float
    low: float
    high: float


def stability_interval(
    before: Mapping[str, int], after: Mapping[str, int], alpha: float = ALPHA
) -> Stability:
    """The population stability index between two counts of the same cells.

    It is 0 for equal shares; by custom less than 0.1 is little and more than 0.25 is much. Both
    counts must have something in them.
    """
    cells = sorted({*before, *after})
    n, m = sum(before.values()), sum(after.values())
    if n <= 0 or m <= 0:
        raise ValueError("nothing was counted")
    p, q = _shares(before, cells), _shares(after, cells)
    value = sum((x - y) * math.log(x / y) for x, y in zip(p, q, strict=True))
    noise, freedom = 1 / n + 1 / m, max(1, len(cells) - 1)
    by_p = [math.log(x / y) - y / x for x, y in zip(p, q, strict=True)]
    by_q = [math.log(y / x) - x / y for x, y in zip(p, q, strict=True)]
    variance = _variance(by_p, p) / n + _variance(by_q, q) / m + 2 * freedom * noise**2
    middle = value - freedom * noise
    off = spread(1 / noise, alpha) * math.sqrt(variance)
    return Stability(max(0.0, value), max(0.0, middle - off), max(0.0, middle + off))


def _shares(counts: Mapping[str, int], cells: list[str]) -> list[float]:
    total = sum(counts.values()) + _SMOOTHED * len(cells)
    return [(counts.get(cell, 0) + _SMOOTHED) / total for cell in cells]


def _variance(values: list[float], shares: list[float]) -> float:
    mean = sum(v * s for v, s in zip(values, shares, strict=True))
    return max(0.0, sum(s * (v - mean) ** 2 for v, s in zip(values, shares, strict=True)))
