"""A spec that was found to be right, and whether that still stands.

Comes in: the root folder, and what is remembered of an earlier load. Goes out: :class:`Found`.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from mlspec.plan import canonical_json
from mlspec.spec.files import UnreadableError, resolve_pattern
from mlspec.spec.interfaces import Face
from mlspec.spec.memory import DIGEST, Memory, Snapshot
from mlspec.spec.models import Model, Spec
from mlspec.spec.stamps import Eye

ROOT = "mlspec.yaml"
MODELS, HEAD, TABLE, PACKAGES = b"mhtp"
"""Kinds of files: of models alone, each written out; of more; CSV; the requirements."""
ABSENT = bytes(16)
"""The hash of a file that is not there, or cannot be read."""


@dataclass(slots=True)
class Found:
    """A spec that is right. `contents` and `faces` are of the models that are new."""

    snapshot: Snapshot
    head: Spec
    contents: dict[str, bytes]
    faces: dict[str, Face]


def find_again(root: Path, memory: Memory) -> Found | None:
    """The spec as it is remembered, while no file of it has another content; else none."""
    old = memory.snapshot
    if old is None:
        return None
    eye = Eye(root)
    try:
        if _is_untouched(old, root, eye, memory):
            return Found(old, Spec.model_validate_json(old.head.text), {}, {})
    except (UnreadableError, ValueError):
        pass
    finally:
        eye.close()
    return None


def _is_untouched(old: Snapshot, root: Path, eye: Eye, memory: Memory) -> bool:
    """Whether every file is as it was, by its stamp or its content, and no other has come."""
    known = {path for path, kind in zip(old.paths, old.kinds, strict=True) if kind in b"mh"}
    if known != {ROOT, *list_included(root, old.head.include)}:
        return False
    if not all(map(eye.is_plain_folder, {path.rpartition("/")[0] for path in old.paths})):
        return False
    stamps = eye.stamps(old.paths)
    for index in old.differing(stamps):
        path, hashed = old.paths[index], old.hash(index)
        if old.kinds[index] == PACKAGES and not os.path.lexists(root / path):
            if hashed != ABSENT:
                return False
            continue
        seen = eye.read(path)
        if seen.hash != hashed:
            return False
        stamps[index * 4 : index * 4 + 4] = array("q", seen.stamp)
    if stamps != old.stamps:
        old.stamps = stamps
        memory.remember(old, (), ())
    return True


def list_included(root: Path, include: Iterable[str]) -> list[str]:
    """The files that the root file includes."""
    found = {path for pattern in include for path in resolve_pattern(root, pattern)}
    return sorted(found - {ROOT})


def digest_of_head(head: Spec) -> str:
    """What a spec says beside its models; where files are found and how many may be is no part."""
    said = head.model_dump(mode="json", exclude={"include", "limits", "models"})
    return DIGEST + sha256(canonical_json(said).encode()).hexdigest()


def digest_of_model(model: Model) -> str:
    """What a model says."""
    said = canonical_json(model.model_dump(mode="json"))
    return DIGEST + sha256(said.encode()).hexdigest()


def digest_of_all(head: str, models: Mapping[str, str]) -> str:
    """What a spec says."""
    said = canonical_json({"head": head, "models": models})
    return DIGEST + sha256(said.encode()).hexdigest()
