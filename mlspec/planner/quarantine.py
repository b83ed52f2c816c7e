"""Which versions the spec quarantines: those that it names, and others that are the same."""

from __future__ import annotations

from collections.abc import Iterable

from mlspec.ledger.records import Version
from mlspec.planner.facts import Recorded
from mlspec.spec.models import Quarantine


def why_quarantined(
    recorded: Recorded, model: str, version: Version, quarantine: Iterable[Quarantine]
) -> str | None:
    """Why a version of `model` may not be deployed, in words; none if it may.

    `quarantine` is what the spec says of the model. The same artifact under another number gives
    the same answers, so it is held back as well.
    """
    for entry in quarantine:
        if entry.version == version.number:
            return f"version {version.number} is quarantined: {entry.reason}"
        bad = recorded.version(model, entry.version)
        if bad is not None and _is_same(bad, version):
            return (
                f"version {version.number} is the same as version {bad.number}, "
                f"which is quarantined: {entry.reason}"
            )
    return None


def _is_same(one: Version, other: Version) -> bool:
    if one.fingerprint == other.fingerprint:
        return True
    if one.artifact is None or other.artifact is None:
        return False
    return one.artifact.md5 == other.artifact.md5
