"""`min` and `max`: is the metric within its bounds?"""

from __future__ import annotations

from mlspec.gates.evidence import Evidence
from mlspec.ledger.records import Verdict
from mlspec.spec.models import Gate


def check_bounds(name: str, gate: Gate, evidence: Evidence) -> Verdict:
    """Pass when `min <= value <= max`; a bound that is not given does not bind."""
    value = evidence.metrics[gate.metric]
    below = gate.min is not None and value < gate.min
    above = gate.max is not None and value > gate.max
    limit = gate.max if above or gate.min is None else gate.min
    sign = {(True, False): "<", (False, True): ">"}.get((below, above))
    if sign is None:
        sign = ">=" if limit == gate.min else "<="
    return Verdict(
        gate=name,
        metric=gate.metric,
        level=gate.level,
        result="fail" if below or above else "pass",
        value=value,
        limit=limit,
        detail=f"{gate.metric} {value:.6g} {sign} {limit:.6g}",
    )
