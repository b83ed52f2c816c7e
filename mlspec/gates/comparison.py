"""`against: champion`: is the candidate as good as the version that serves?"""

from __future__ import annotations

from mlspec.gates.evidence import Evidence
from mlspec.ledger.records import Verdict
from mlspec.spec.models import Gate


def check_against_champion(name: str, gate: Gate, evidence: Evidence) -> Verdict:
    """Pass when the candidate is neither too far below nor too far above the champion.

    `max_drop` and `min_gain` say how low it may be, `max_rise` and `min_fall` how high. Without a
    champion the answer is `without_champion`. A candidate that is the champion itself (same
    fingerprint) passes: there is nothing to compare. The metrics are those of each one's own
    evaluation; the verdict says when the two were not measured on the same.
    """
    champion, value = evidence.champion, evidence.metrics[gate.metric]
    verdict = Verdict(
        gate=name, metric=gate.metric, level=gate.level, result="pass", value=value, detail=""
    )
    if champion is None:
        detail = f"{gate.metric} {value:.6g}, no champion to compare with"
        return verdict.model_copy(update={"result": gate.without_champion, "detail": detail})
    unlike = tuple(
        sorted(
            path
            for path in champion.read.keys() | evidence.read.keys()
            if champion.read.get(path) != evidence.read.get(path)
        )
    )
    against = {
        "champion": champion.version,
        "champion_value": champion.metrics.get(gate.metric),
        "unlike": unlike,
    }
    if champion.fingerprint == evidence.fingerprint:
        detail = f"{gate.metric} {value:.6g}, it is the champion (version {champion.version})"
        return verdict.model_copy(update={**against, "detail": detail})
    before = champion.metrics.get(gate.metric)
    if before is None:
        detail = f"version {champion.version}, the champion, did not measure {gate.metric}"
        return verdict.model_copy(update={**against, "result": "inconclusive", "detail": detail})
    limit, sign = _compare(gate, value, before)
    return verdict.model_copy(
        update={
            **against,
            "limit": limit,
            "result": "pass" if "=" in sign else "fail",
            "detail": f"{gate.metric} {value:.6g} {sign} {limit:.6g} "
            f"(version {champion.version} has {before:.6g}{_said(unlike)})",
        }
    )


def _compare(gate: Gate, value: float, before: float) -> tuple[float, str]:
    """The limit that the value breaks, or else the first that it keeps, and how they compare."""
    below = None if gate.max_drop is None else before - gate.max_drop
    gained = None if gate.min_gain is None else before + gate.min_gain
    above = None if gate.max_rise is None else before + gate.max_rise
    fallen = None if gate.min_fall is None else before - gate.min_fall
    floor = max((limit for limit in (below, gained) if limit is not None), default=None)
    ceiling = min((limit for limit in (above, fallen) if limit is not None), default=None)
    if ceiling is not None and (value > ceiling or floor is None):
        return ceiling, "<=" if value <= ceiling else ">"
    assert floor is not None
    return floor, ">=" if value >= floor else "<"


def _said(unlike: tuple[str, ...]) -> str:
    if not unlike:
        return ""
    more = f" and {len(unlike) - 1} more" if len(unlike) > 1 else ""
    return f", measured with another {unlike[0]}{more}"
