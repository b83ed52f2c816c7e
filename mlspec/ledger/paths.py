"""Where each record is kept in the ledger's tree.

Folders of two hex digits keep every folder small, so that a record of one of 10,000 models rewrites
kilobytes and not the list of all models.
"""

from __future__ import annotations

import hashlib
import re

from mlspec.errors import MlspecError

MODELS = "models"
APPROVALS = "approvals"
POLICY = "policy.json"
HEAD = "ledger.json"
"""The schema and the serial of the ledger."""

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,99}")
_SEGMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@-]{0,254}")
_FINGERPRINT = re.compile(r"[0-9a-f]{32,}")


def model_path(model: str) -> str:
    """The folder of everything that is known of a model."""
    return f"{MODELS}/{shard_of(model)}/{_name(model)}"


def state_path(model: str) -> str:
    return f"{model_path(model)}/state.json"


def runs_path(model: str, stage: str) -> str:
    """The folder of a stage's runs."""
    return f"{model_path(model)}/runs/{_name(stage)}"


def run_path(model: str, stage: str, fingerprint: str) -> str:
    return f"{runs_path(model, stage)}/{_short(fingerprint)}.json"


def candidate_path(model: str, fingerprint: str) -> str:
    return f"{model_path(model)}/candidates/{_short(fingerprint)}.json"


def versions_path(model: str) -> str:
    """The folder of a model's versions."""
    return f"{model_path(model)}/versions"


def version_path(model: str, number: int) -> str:
    return f"{versions_path(model)}/{number:d}.json"


def deployment_path(deployment: str, target: str) -> str:
    return f"deployments/{shard_of(deployment)}/{_name(deployment)}@{_name(target)}.json"


def approvals_path(deployment: str, target: str, release: str) -> str:
    """The folder of who approved a release."""
    place = f"{shard_of(deployment)}/{_name(deployment)}@{_name(target)}"
    return f"{APPROVALS}/{place}/{_short(release)}"


def approval_path(deployment: str, target: str, release: str, by: str) -> str:
    """Two people write two files; an address is the same in capital letters."""
    who = hashlib.sha256(by.lower().encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return f"{approvals_path(deployment, target, release)}/{who}.json"


def dataset_path(dataset: str) -> str:
    return f"datasets/{shard_of(dataset)}/{_name(dataset)}.json"


def deployment_address(deployment: str, target: str) -> str:
    """The address under which a plan knows what a target serves."""
    return f"deployment.{deployment}@{target}"


def check_path(path: str) -> str:
    """`path`, if a ledger may hold it; one that leads elsewhere raises."""
    if path == HEAD or not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
        raise MlspecError(f"{path!r} cannot be the path of a record")
    return path


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise MlspecError(f"{name!r} cannot be the name of something in the ledger")
    return name


def shard_of(name: str) -> str:
    """The folder of two hex digits that everything called `name` is kept in."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:2]


def _short(fingerprint: str) -> str:
    if not _FINGERPRINT.fullmatch(fingerprint):
        raise MlspecError(f"{fingerprint!r} is not a fingerprint")
    return fingerprint[:32]
