"""Pure questions about a candidate: `check_gate(name, gate, evidence)` gives a verdict.

Each kind of question is a file; :func:`check_gate` asks those that a gate has and gives the worst
answer. Only a `pass` lets a candidate through a gate of level `fail`.
"""

from __future__ import annotations

from mlspec.gates.bounds import check_bounds
from mlspec.gates.comparison import check_against_champion
from mlspec.gates.evidence import Champion, Evidence
from mlspec.ledger.records import Verdict
from mlspec.spec.models import Gate

__all__ = ["Champion", "Evidence", "check_gate"]

_SEVERITY = {"pass": 0, "inconclusive": 1, "fail": 2}


def check_gate(name: str, gate: Gate, evidence: Evidence) -> Verdict:
    """The worst verdict of the gate's questions; fails when the metric was not measured."""
    if gate.metric not in evidence.metrics:
        measured = ", ".join(sorted(evidence.metrics)) or "nothing"
        return Verdict(
            gate=name,
            metric=gate.metric,
            level=gate.level,
            result="fail",
            value=None,
            detail=f"{gate.metric} was not measured; measured: {measured}",
        )
    verdicts = []
    if gate.min is not None or gate.max is not None:
        verdicts.append(check_bounds(name, gate, evidence))
    if gate.against is not None:
        verdicts.append(check_against_champion(name, gate, evidence))
    return max(verdicts, key=lambda verdict: _SEVERITY[verdict.result])
