"""Versions that a spec names: each is quarantined once."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.spec.models import Model
from mlspec.spec.tree import Problem


def check_model(name: str, model: Model) -> Iterator[Problem]:
    """Versions that are quarantined twice, perhaps for two reasons."""
    seen = set[int]()
    for index, each in enumerate(model.quarantine):
        if each.version in seen:
            path = ("models", name, "quarantine", index, "version")
            hint = "keep one entry, with both reasons"
            yield Problem("MLS042", path, f"version {each.version} is quarantined twice", hint)
        seen.add(each.version)
