"""Params: keys that DVC can keep and compare.

DVC names a param by its keys with dots between them: `train.tree.depth`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.spec.models import Model
from mlspec.spec.show import show
from mlspec.spec.tree import Path, Problem


def check_model(name: str, model: Model) -> Iterator[Problem]:
    """Params without a name, and two of one name."""
    for stage_name, stage in model.stages.items():
        if stage.params:
            at = ("models", name, "stages", stage_name, "params")
            yield from _unnamed(stage.params, at)
            yield from _alike(stage.params, at)


def _unnamed(value: Any, at: Path) -> Iterator[Problem]:
    for step, inner in _entries(value):
        if step == "":
            message = "a key of `params` is empty, so the param has no name"
            yield Problem("MLS028", (*at, step), message, "write a name", on_key=True)
        yield from _unnamed(inner, (*at, step))


def _entries(value: Any) -> list[tuple[str | int, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def _alike(params: Mapping[str, Any], at: Path) -> Iterator[Problem]:
    seen: dict[str, Path] = {}
    for keys in _leaves(params, ()):
        dotted = ".".join(keys)
        other = seen.setdefault(dotted, keys)
        if other != keys:
            message = f"DVC calls two params {show(dotted)}: a key with dots reads like several"
            hint = "write one key without dots, for example with `_`"
            yield Problem("MLS028", (*at, *keys), message, hint, on_key=True)


def _leaves(value: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from _leaves(inner, (*above, key))
        else:
            yield (*above, key)
