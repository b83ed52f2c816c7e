"""Metrics files: JSON written by a stage, read as flat names and finite numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlspec.errors import MlspecError

MAX_BYTES = 1024 * 1024
MAX_METRICS = 1000
MAX_NAME = 128
"""Characters of a name with its dots; that bounds the depth, too."""
_HINT = 'write a JSON object of numbers, such as {"accuracy": 0.93}'


def load_metrics(path: Path, name: str) -> dict[str, float]:
    """Metric to value; nested mappings become dotted names.

    `name` is the path as the spec writes it. Raises :class:`MlspecError` naming the metric for
    anything but a JSON object of finite numbers, for a name that is given twice, that does not show
    or is too long, and for a file over 1 MiB.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise MlspecError(f"{name}: cannot be read: {error.strerror}", hint=_HINT) from error
    return parse_metrics(data, name)


def parse_metrics(data: bytes, name: str) -> dict[str, float]:
    """Likewise, from the file's bytes: at most one more of them than 1 MiB is needed."""
    metrics: dict[str, float] = {}
    for metric, value in _flat(_parse(data, name), name):
        if metric in metrics:
            raise MlspecError(f"{name}: {metric} is given twice", hint=_HINT)
        metrics[metric] = _number(value, metric, name)
    if len(metrics) > MAX_METRICS:
        raise MlspecError(f"{name}: more than {MAX_METRICS} metrics", hint=_HINT)
    return metrics


def _parse(text: bytes, name: str) -> dict[str, Any]:
    if len(text) > MAX_BYTES:
        raise MlspecError(f"{name}: metrics files are limited to {MAX_BYTES} bytes", hint=_HINT)
    try:
        data = json.loads(text.decode(), object_pairs_hook=_unique)
    except RecursionError as error:
        raise MlspecError(f"{name}: nested too deeply", hint=_HINT) from error
    except ValueError as error:
        raise MlspecError(f"{name}: not JSON: {error}", hint=_HINT) from error
    if not isinstance(data, dict):
        raise MlspecError(f"{name}: expected a JSON object of metrics", hint=_HINT)
    return data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) != len(pairs):
        raise ValueError("a key is given twice")
    return data


def _flat(data: Mapping[str, Any], name: str, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in data.items():
        metric = f"{prefix}{key}"
        if not key.isprintable() or not key or len(metric) > MAX_NAME:
            raise MlspecError(
                f"{name}: {metric[:40]!r} is not a name of a metric",
                hint=f"write at least 1 and at most {MAX_NAME} characters, all of which show",
            )
        if isinstance(value, dict):
            yield from _flat(value, name, f"{metric}.")
        else:
            yield metric, value


def _number(value: Any, metric: str, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        shown = json.dumps(value)[:80]
        raise MlspecError(f"{name}: {metric} is {shown}, expected a number", hint=_HINT)
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise MlspecError(
            f"{name}: {metric} is {number}, expected a finite number",
            hint="a metric that cannot be computed should be left out",
        )
    return number
