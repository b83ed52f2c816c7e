"""Names for content: equal fingerprint, equal work.

The fingerprint of a stage covers what dvc.lock holds for it, so that mlspec and DVC agree on what
is stale: command, md5 of each dependency, params and the paths it writes. A model's fingerprint
covers those of its stages; a release's covers the service, the artifact and the version number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

from mlspec.plan import canonical_json

FETCH = "fetch"
"""What the stage is called that brings an artifact that others made."""
DECLARE = "declare"
"""What the stage is called that writes down what answers elsewhere."""
CONVERT = "convert"
"""What the stage is called that writes an artifact as ONNX, to be served so."""


def digest_of(value: Any) -> str:
    """Hex sha256 of the canonical JSON of `value`."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def stage_fingerprint(
    command: str,
    dependencies: Mapping[str, str],
    params: Mapping[str, Mapping[str, Any]],
    outputs: Iterable[str],
) -> str:
    """Fingerprint of a stage; `dependencies` maps paths to md5."""
    return digest_of(
        {"cmd": command, "deps": dependencies, "params": params, "outs": sorted(outputs)}
    )


def entry_fingerprint(entry: Mapping[str, Any]) -> str:
    """Fingerprint of the run that an entry of dvc.lock describes."""
    return stage_fingerprint(
        entry["cmd"],
        entry_dependencies(entry),
        entry.get("params") or {},
        (out["path"] for out in entry.get("outs", ())),
    )


def entry_dependencies(entry: Mapping[str, Any]) -> dict[str, str]:
    """Path to md5 of what a run read."""
    return {dep["path"]: dep.get("md5", "") for dep in entry.get("deps", ())}


def entry_outputs(entry: Mapping[str, Any]) -> dict[str, str]:
    """Path to md5 of what a run wrote."""
    return {out["path"]: out.get("md5", "") for out in entry.get("outs", ())}


def model_fingerprint(stages: Mapping[str, str], taken: str | None = None) -> str:
    """Fingerprint of a model, from stage name to fingerprint.

    `taken` names an artifact that others made: how it was fetched does not count then.
    """
    if taken is None:
        return digest_of(stages)
    own = {name: each for name, each in stages.items() if name != FETCH}
    return digest_of({"stages": own, "taken": taken})


def taken_as(digest: str, path: str | None) -> str:
    """What names an artifact of others: the digest of what was fetched, and which file of it."""
    return f"{digest}#{path}" if path else digest


def release_digest(
    service: Mapping[str, str], settings: Mapping[str, Any], artifact_md5: str, version: int
) -> str:
    """Digest of a release: the service's files by name, what its processes get, what they serve.

    The version is part of it because every answer names it, even if a later version has the same
    artifact.
    """
    return digest_of(
        {
            "service": dict(service),
            "settings": dict(settings),
            "artifact": artifact_md5,
            "version": version,
        }
    )


def trial_digest(
    release: str,
    smoke: Iterable[Mapping[str, Any]],
    rollout: Mapping[str, Any] | None = None,
) -> str:
    """Digest of a trial of a release: what is tried, and the rows that it is asked to answer.

    So are the terms of its rollout, if it has one: what was refused on some may be tried on others.
    """
    trial = {"release": release, "smoke": list(map(dict, smoke))}
    return digest_of(trial if rollout is None else {**trial, "rollout": dict(rollout)})
