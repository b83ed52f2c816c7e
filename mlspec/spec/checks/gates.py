"""Gates: each asks something, and something that can be answered."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Mapping

from mlspec.spec.models import Gate, Model
from mlspec.spec.tree import Node, Path, Problem, find

_RATIO = re.compile(
    r"(?:.*[_-])?(?:accuracy|auc|roc_auc|precision|recall|f1|specificity)(?:[_-].*)?"
)
_LOWER_IS_BETTER = re.compile(
    r"(?:.*[_-])?(?:loss|logloss|error|errors|rmse|mse|mae|mape|brier|perplexity|latency|wer|cer|fpr|"
    r"fnr)(?:[_-].*)?"
)
_COMPARED = ("max_drop", "min_gain", "max_rise", "min_fall")
_LIMITS = ("min", "max", *_COMPARED)


def check_model(name: str, model: Model, written: Node | None) -> Iterator[Problem]:
    """Gates without a bound, against each other, on no metric, or with limits out of range."""
    path = ("models", name, "gates")
    for gate_name, gate in model.gates.items():
        yield from _bounds(gate, (*path, gate_name))
        yield from _limits(gate, (*path, gate_name), written)
    yield from _contradictions(model.gates, path)
    if model.gates and not any(stage.metrics for stage in model.stages.values()):
        message = "no stage of this model has `metrics`, so no gate can be answered"
        hint = "add `metrics: metrics/....json` to the stage that evaluates"
        yield Problem("MLS053", path, message, hint, on_key=True)


def _bounds(gate: Gate, path: Path) -> Iterator[Problem]:
    compared = [key for key in _COMPARED if getattr(gate, key) is not None]
    if gate.against is None and compared:
        hint = "add `against: champion`"
        message = f"`{compared[0]}` compares, but with what?"
        yield Problem("MLS052", (*path, compared[0]), message, hint)
    elif gate.against is not None and not compared:
        hint = "add `max_drop` or `min_gain`; where less is better, `max_rise` or `min_fall`"
        if _LOWER_IS_BETTER.fullmatch(gate.metric.lower()):
            hint = "add `max_rise` (it may be higher by that) or `min_fall`, if less is better"
        message = "`against` compares, but nothing says how much worse or better"
        yield Problem("MLS052", (*path, "against"), message, hint)
    elif gate.min is None and gate.max is None and not compared:
        message = "the gate asks nothing: any value would pass"
        yield Problem("MLS050", path, message, "add `min`, `max` or `against`", on_key=True)
    yield from _apart(gate, path)


def _apart(gate: Gate, path: Path) -> Iterator[Problem]:
    """A gate that no candidate passes which is not the champion itself."""
    floors = {"min_gain": gate.min_gain, "max_drop": gate.max_drop and -gate.max_drop}
    ceilings = {"min_fall": gate.min_fall and -gate.min_fall, "max_rise": gate.max_rise}
    low = {key: limit for key, limit in floors.items() if limit is not None}
    high = {key: limit for key, limit in ceilings.items() if limit is not None}
    if low and high and max(low.values()) > min(high.values()):
        one, other = max(low, key=low.__getitem__), min(high, key=high.__getitem__)
        message = f"no value keeps both `{other}` and `{one}`"
        yield Problem("MLS051", (*path, other), message, "remove one of them")


def _limits(gate: Gate, path: Path, written: Node | None) -> Iterator[Problem]:
    for key in _LIMITS:
        limit = getattr(gate, key)
        if limit is None:
            continue
        text = find(written, (*path, key)).text if written else str(limit)
        if limit == 0 and text.startswith("-"):
            yield Problem("MLS054", (*path, key), f"`{text}` is zero", "write 0")
        elif 0 < abs(limit) < sys.float_info.min:
            hint = "write 0, or a number that a computer holds exactly enough"
            yield Problem("MLS054", (*path, key), f"`{text}` is too close to zero", hint)
        elif _RATIO.fullmatch(gate.metric) and abs(limit) > 1:
            hint = f"write a fraction, for example {limit / 100:g}" if abs(limit) <= 100 else ""
            message = f"`{gate.metric}` lies between 0 and 1, the limit is {text}"
            yield Problem("MLS054", (*path, key), message, hint or "write a fraction")


def _contradictions(gates: Mapping[str, Gate], path: Path) -> Iterator[Problem]:
    """Two gates that no candidate passes together; those of level `warn` stop nothing."""
    lowest: dict[str, tuple[float, str]] = {}
    highest: dict[str, tuple[float, str]] = {}
    for name, gate in gates.items():
        if gate.level == "fail":
            if gate.min is not None and gate.min > lowest.get(gate.metric, (-math.inf, ""))[0]:
                lowest[gate.metric] = (gate.min, name)
            if gate.max is not None and gate.max < highest.get(gate.metric, (math.inf, ""))[0]:
                highest[gate.metric] = (gate.max, name)
    for metric, (low, low_name) in lowest.items():
        high, high_name = highest.get(metric, (math.inf, ""))
        if low > high:
            other = "this gate" if low_name == high_name else f"gate `{low_name}`"
            message = f"nothing is at most {high:g} here and at least {low:g} in {other}"
            at = (*path, high_name, "max")
            yield Problem("MLS051", at, message, "swap them, or remove one")
