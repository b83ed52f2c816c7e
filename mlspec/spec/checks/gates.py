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
_LIMITS = ("min", "max", "max_drop", "min_gain")


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
    compared = gate.max_drop is not None or gate.min_gain is not None
    if gate.against is None and compared:
        given = "max_drop" if gate.max_drop is not None else "min_gain"
        hint = "add `against: champion`"
        yield Problem("MLS052", (*path, given), f"`{given}` compares, but with what?", hint)
    elif gate.against is not None and not compared:
        hint = "add `max_drop` or `min_gain`"
        message = "`against` compares, but nothing says how much worse or better"
        yield Problem("MLS052", (*path, "against"), message, hint)
    elif gate.min is None and gate.max is None and not compared:
        message = "the gate asks nothing: any value would pass"
        yield Problem("MLS050", path, message, "add `min`, `max` or `against`", on_key=True)


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
