"""Why a stage runs, in words that name the input which changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.fingerprint import entry_dependencies, entry_outputs
from mlspec.plan import FieldChange, canonical_json
from mlspec.resources import Dependency, DependencyKind, StageResource

_FIELD = {
    DependencyKind.CODE: "code",
    DependencyKind.INPUT: "inputs",
    DependencyKind.DATASET: "inputs",
    DependencyKind.REQUIREMENTS: "python.requirements",
}


def compare_run(
    resource: StageResource, digests: Mapping[str, str | None], entry: Mapping[str, Any]
) -> tuple[FieldChange, ...]:
    """What differs between a stage as it is desired and its last run (`entry`, of dvc.lock).

    `digests` has the md5 of each dependency, `None` where it is known only after a run; those are
    left out.
    """
    return tuple(_changes(resource, digests, entry))


def reason_of(changes: tuple[FieldChange, ...]) -> str:
    """`params.depth and src/train.py changed`, and what came or went."""
    changed = [_name(c) for c in changes if c.recorded is not None and c.desired is not None]
    added = [_name(c) for c in changes if c.recorded is None]
    removed = [_name(c) for c in changes if c.desired is None]
    parts = [
        f"{_listed(names)} {verb}"
        for names, verb in (
            (changed, "changed"),
            (added, "is new" if len(added) == 1 else "are new"),
            (removed, "is gone" if len(removed) == 1 else "are gone"),
        )
        if names
    ]
    return "; ".join(parts)


def _changes(
    resource: StageResource, digests: Mapping[str, str | None], entry: Mapping[str, Any]
) -> Iterator[FieldChange]:
    if entry["cmd"] != resource.command:
        yield FieldChange("command", entry["cmd"], resource.command)
    yield from _param_changes(resource, entry.get("params") or {})
    recorded = entry_dependencies(entry)
    by_path = {dep.path: dep for dep in resource.dependencies}
    for path in sorted(recorded.keys() | by_path.keys()):
        old, new = recorded.get(path), digests.get(path)
        if path in by_path and new is None:
            continue
        if old != new:
            yield FieldChange(_field(path, by_path.get(path)), old, new)
    written, asked = set(entry_outputs(entry)), set(resource.writes)
    for path in sorted(written ^ asked):
        yield FieldChange(
            f"outputs {path}",
            path if path in written else None,
            path if path in asked else None,
        )


def _param_changes(resource: StageResource, recorded: Mapping[str, Any]) -> Iterator[FieldChange]:
    old = _flat_params(recorded, resource.name)
    new = _flat_params(resource.params, resource.name)
    for key in sorted(old.keys() | new.keys()):
        # Python holds 1, 1.0 and true equal; what a stage makes of them may differ
        same = key in old and key in new and canonical_json(old[key]) == canonical_json(new[key])
        if not same:
            yield FieldChange(key, old.get(key), new.get(key))


def _flat_params(params: Mapping[str, Any], stage: str) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for keys in params.values():
        for section, values in (keys or {}).items():
            prefix = "params" if section == stage else section
            if isinstance(values, Mapping):
                flat.update({f"{prefix}.{name}": value for name, value in values.items()})
            else:
                flat[prefix] = values
    return flat


def _field(path: str, dependency: Dependency | None) -> str:
    kind = dependency.kind if dependency else DependencyKind.INPUT
    return f"{_FIELD[kind]} {path}"


def _name(change: FieldChange) -> str:
    return change.field.partition(" ")[2] or change.field


def _listed(names: list[str]) -> str:
    """At most three names, then a count."""
    if len(names) > 3:
        return f"{', '.join(names[:3])} and {len(names) - 3} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
