"""What of a live value has a place in the spec, and which edit takes it there.

Comes in: what the spec compiles to, or asks of a deployment, and what is there instead. Goes out:
a :class:`Intake`: edits of the spec, by paths of keys, and in words what has no place in it.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import yaml

from mlspec.compilers.dvc import params_path, pipeline_path
from mlspec.plan import canonical_json
from mlspec.resources import DeploymentResource
from mlspec.spec.models import Challenging, Dataset, Model, Stage
from mlspec.spec.quantities import write_bytes

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_GENERATED = "_generated"
_TEMPLATE = re.compile(r"(?<!\\)\$\{")
_LISTS = ("deps", "outs", "metrics")


class Kind(StrEnum):
    """How a place of the spec is edited."""

    SET = "set"
    """It has `value`."""
    DROP = "drop"
    """It is taken out."""
    ADD = "add"
    """The list there gets the item `value`."""
    REMOVE = "remove"
    """The list there loses the item `value`."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One edit: of what stands at `path`."""

    kind: Kind
    path: tuple[str, ...]
    value: Any = None

    @property
    def told(self) -> str:
        """The edit in words, for where people must make it."""
        where, value = ".".join(self.path), json.dumps(self.value, ensure_ascii=False)
        match self.kind:
            case Kind.SET:
                return f"`{where}: {value}`"
            case Kind.DROP:
                return f"no `{where}`"
            case Kind.ADD:
                return f"{value} in `{where}`"
            case Kind.REMOVE:
                return f"no {value} in `{where}`"

    @property
    def same_as(self) -> tuple[object, ...]:
        """Two edits of the same have the same of these."""
        item = canonical_json(self.value) if self.kind in (Kind.ADD, Kind.REMOVE) else ""
        return (self.path, item)


@dataclass(slots=True)
class Intake:
    """The edits that take something live into the spec, and what has no place in it."""

    edits: list[Edit] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def put(self, path: Sequence[str], value: Any) -> None:
        self.edits.append(Edit(Kind.SET, tuple(path), value))


def take_file(
    path: str,
    compiled: str,
    live: str,
    models: Mapping[str, Model],
    datasets: Mapping[str, Dataset],
) -> Intake:
    """What somebody wrote into a generated file."""
    intake = Intake()
    name = path.split("/")[1] if path.startswith("pipelines/") else ""
    if name not in models or path not in (params_path(name), pipeline_path(name)):
        intake.misfits.append("an edit of this file has no place in the spec")
        return intake
    try:
        if path == params_path(name):
            _take_params(intake, name, models[name], json.loads(compiled), json.loads(live))
        else:
            wanted, there = (yaml.load(text, Loader=_LOADER) for text in (compiled, live))
            _take_pipeline(intake, name, models[name], datasets, wanted, there)
    except (ValueError, yaml.YAMLError, TypeError, AttributeError, KeyError, RecursionError):
        intake.edits.clear()
        intake.misfits.append("it cannot be read as what mlspec writes")
    return intake


def _take_params(
    intake: Intake, name: str, model: Model, wanted: dict[str, Any], there: dict[str, Any]
) -> None:
    for key in sorted(wanted.keys() | there.keys()):
        if key == _GENERATED or _same(wanted, there, key):
            continue
        if key == "python":
            intake.misfits.append("`python.version` is that of all models: write it there")
        elif key not in model.stages:
            intake.misfits.append(f"`{key}` is no stage of model.{name}")
        else:
            path = ("models", name, "stages", key, "params")
            _take_values(intake, path, wanted.get(key, {}), there.get(key, {}))


def _take_values(
    intake: Intake, path: tuple[str, ...], wanted: Mapping[str, Any], there: Mapping[str, Any]
) -> None:
    """The values of a mapping; of mappings in it, their values."""
    for key in sorted(wanted.keys() | there.keys()):
        if _same(wanted, there, key):
            continue
        before, now = wanted.get(key), there.get(key)
        if key not in there:
            intake.edits.append(Edit(Kind.DROP, (*path, key)))
        elif isinstance(before, Mapping) and isinstance(now, Mapping):
            _take_values(intake, (*path, key), before, now)
        else:
            intake.put((*path, key), now)


def _take_pipeline(
    intake: Intake,
    name: str,
    model: Model,
    datasets: Mapping[str, Dataset],
    wanted: dict[str, Any],
    there: dict[str, Any],
) -> None:
    for key in sorted((wanted.keys() | there.keys()) - {"stages"}):
        intake.misfits.append(f"`{key}` has no place in the spec")
    for stage in sorted(wanted["stages"].keys() | there["stages"].keys()):
        path = ("models", name, "stages", stage)
        before, now = wanted["stages"].get(stage), there["stages"].get(stage)
        if before is None or now is None:
            which = "is new" if before is None else "is gone"
            intake.misfits.append(f"stage {stage} {which}: write that in `{'.'.join(path[:3])}`")
            continue
        _take_stage(intake, path, model.stages[stage], datasets, before, now)


def _take_stage(
    intake: Intake,
    path: tuple[str, ...],
    stage: Stage,
    datasets: Mapping[str, Dataset],
    wanted: dict[str, Any],
    there: dict[str, Any],
) -> None:
    for key in sorted(wanted.keys() | there.keys()):
        if _same(wanted, there, key):
            continue
        if key == "cmd":
            lines = there["cmd"] if isinstance(there["cmd"], list) else [there["cmd"]]
            intake.put((*path, "command"), "\n".join(map(_unescaped, lines)))
        elif key in _LISTS and all(isinstance(each, str) for each in there.get(key, ())):
            before, now = (list(map(_unescaped, side.get(key, ()))) for side in (wanted, there))
            intake.edits += _take_list(intake, path, key, stage, datasets, before, now)
        else:
            intake.misfits.append(f"`{key}` of stage {path[-1]} has no place in the spec")


def _take_list(
    intake: Intake,
    path: tuple[str, ...],
    key: str,
    stage: Stage,
    datasets: Mapping[str, Dataset],
    wanted: Sequence[str],
    there: Sequence[str],
) -> Iterator[Edit]:
    """Paths that a stage reads or writes, which are other ones now."""
    gone = [each for each in wanted if each not in there]
    new = [each for each in there if each not in wanted]
    if key == "metrics":
        if len(there) > 1:
            intake.misfits.append(f"stage {path[-1]} has one file of metrics")
        elif there:
            yield Edit(Kind.SET, (*path, "metrics"), there[0])
        else:
            yield Edit(Kind.DROP, (*path, "metrics"))
        return
    section, written = ("inputs", stage.inputs) if key == "deps" else ("outputs", stage.outputs)
    of_path = {posixpath.normpath(datasets[n].path): n for n in datasets} if key == "deps" else {}
    names = {
        posixpath.normpath(
            datasets[each].path if key == "deps" and each in datasets else each
        ): each
        for each in written
    }
    for each in gone:
        if each in names:
            yield Edit(Kind.REMOVE, (*path, section), names[each])
        elif each == stage.predictions:
            yield Edit(Kind.DROP, (*path, "predictions"))
        else:
            intake.misfits.append(f"that stage {path[-1]} reads {each} follows from its command")
    for each in new:
        yield Edit(Kind.ADD, (*path, section), of_path.get(each, each))


def _same(wanted: Mapping[str, Any], there: Mapping[str, Any], key: str) -> bool:
    if (key in wanted) != (key in there):
        return False
    return key not in wanted or canonical_json(wanted[key]) == canonical_json(there[key])


def _unescaped(text: str) -> str:
    if _TEMPLATE.search(text):
        raise ValueError("templates are DVC's own")
    return text.replace("\\${", "${")


def take_release(
    resource: DeploymentResource,
    wanted: int | None,
    version: int,
    settings: Mapping[str, Any],
) -> Intake:
    """What a running release has of its own: its version and the settings of its processes.

    `wanted` is the version that the spec comes to, `settings` are as of the resource.
    """
    intake = Intake()
    where: tuple[str, ...] = ("deployments", resource.name)
    pin = (*where, "pin", resource.target)
    if isinstance(resource.deployment, Challenging):
        where = ("deployments", resource.deployment.champion)
        pin = (*where, "challenger", "version")
    if version != wanted:
        intake.put(pin, version)
    for key in sorted(settings.keys() | resource.settings.keys()):
        now, before = settings.get(key), resource.settings.get(key)
        if canonical_json(now) == canonical_json(before):
            continue
        if key == "port":
            intake.put(("targets", resource.target, "port"), now)
            continue
        if key in ("challenger", "challenges"):
            intake.misfits.append("how its challenger takes part follows from `challenger`")
            continue
        own = key in ("auth", "capture")
        path = (*where, key) if own else (*where, "resources", key)
        if now is None:
            intake.edits.append(Edit(Kind.DROP, path))
        elif key == "capture":
            intake.put((*path, "sample"), now["sample"])
        elif key == "auth":
            intake.put((*path, "file"), now["file"])
        elif key == "memory":
            intake.put(path, write_bytes(now))
        else:
            whole = isinstance(now, float) and now.is_integer()
            intake.put(path, int(now) if whole else now)
    return intake


def left_over(taken: Iterable[Edit], still: Intake) -> tuple[Edit, ...]:
    """Of the edits that were made, those that are still wanted afterwards."""
    wanted = {edit.same_as for edit in still.edits}
    return tuple(edit for edit in taken if edit.same_as in wanted)
