"""A stage, as its `dvc.yaml` has it. Comes in: text. Goes out: what the stage reads and writes.

Only what mlspec generates is understood, anything else is :class:`~mlspec.dvc.settings.Unusual`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.dvc.parse import load_yaml
from mlspec.dvc.settings import Unusual
from mlspec.errors import MlspecError

_KEYS = frozenset({"cmd", "wdir", "deps", "params", "outs", "metrics"})
_TEMPLATE = re.compile(r"(?<!\\)\$\{")
_PARAM = re.compile(r"[\w-]+")
_ODD = re.compile(r"[\x00-\x1f\x7f]|://")


@dataclass(frozen=True, slots=True)
class PipelineStage:
    """Paths from the root; `params` are keys by file; `metrics` are outputs that must be text."""

    cmd: str
    deps: tuple[str, ...]
    params: Mapping[str, tuple[str, ...]]
    outs: tuple[str, ...]
    metrics: tuple[str, ...]

    @property
    def writes(self) -> tuple[str, ...]:
        """Every output, sorted as dvc.lock has them."""
        return tuple(sorted((*self.outs, *self.metrics)))


def load_stages(text: str, path: str) -> dict[str, PipelineStage | None]:
    """The stages of the pipeline file `path` by name; None for one that is unusual."""
    try:
        data = load_yaml(text, path)
    except MlspecError as error:
        raise Unusual from error
    if not isinstance(data, dict) or data.keys() != {"stages"}:
        raise Unusual
    if not isinstance(data["stages"], dict):
        raise Unusual
    return {str(name): _stage(body, path) for name, body in data["stages"].items()}


def _stage(body: Any, path: str) -> PipelineStage | None:
    try:
        if not body.keys() <= _KEYS:
            return None
        where = posixpath.normpath(posixpath.join(posixpath.dirname(path), body.get("wdir", ".")))
        if where != ".":
            return None
        params = {}
        for item in body.get("params", ()):
            ((file, keys),) = item.items()
            if not all(map(_PARAM.fullmatch, keys)):
                return None
            params[_path(file)] = tuple(keys)
        return PipelineStage(
            _text(body["cmd"]),
            tuple(map(_path, body.get("deps", ()))),
            params,
            tuple(map(_path, body.get("outs", ()))),
            tuple(map(_path, body.get("metrics", ()))),
        )
    except (AttributeError, KeyError, TypeError, ValueError, Unusual):
        return None


def _text(value: str) -> str:
    """`value` as DVC reads it, for which `${` is a template and `\\${` is `${`."""
    if _TEMPLATE.search(value):
        raise Unusual
    return value.replace("\\${", "${")


def _path(value: str) -> str:
    path = _text(value)
    if posixpath.normpath(path) != path or path.startswith(("/", "..")) or _ODD.search(path):
        raise Unusual
    return path
