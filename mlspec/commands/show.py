"""`mlspec show ADDRESS`: a resource, and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlspec.commands.named import find_address, unknown_address
from mlspec.errors import MlspecError
from mlspec.ledger.records import Version
from mlspec.ledger.state import Recorded
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.spec.moves import renames_of


def show(start: Path, console: Console, *, address: str, as_json: bool) -> int:
    """Everything that the ledger knows of an address or of a name alone; `NAME@N` is a version."""
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        recorded = project.recorded()
        found = _present(project, find_address(address, recorded))
        shown = _describe(found, recorded, _fingerprints(project, found))
    if as_json:
        console.say_json(shown)
    else:
        for line in nested_lines(shown, ""):
            console.say(line)
    return 0


def _present(project: Project, address: str) -> str:
    """The address under the name that the spec has for it now, if it was `moved`."""
    with suppress(MlspecError):
        name, at, rest = address.partition("@")
        now = renames_of(project.loaded.spec.moved).now
        return now.get(address) or f"{now.get(name, name)}{at}{rest}"
    return address


def _fingerprints(project: Project, address: str) -> Mapping[str, str]:
    """Those of now, by address; none while the spec is broken, for the ledger can be read then."""
    kind, _, rest = address.partition(".")
    name = rest.partition(".")[0].partition("@")[0]
    with suppress(MlspecError):
        if kind in ("model", "stage", "gate") and name in project.loaded.spec.models:
            return project.survey_model(name).fingerprints
    return {}


def _describe(address: str, recorded: Recorded, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    """`fingerprints` are those of now, by address; without one, the newest recorded counts."""
    kind, _, rest = address.partition(".")
    match kind, rest.split("@"):
        case "model", [name]:
            return _model(name, recorded, fingerprints.get(address))
        case "model", [name, number] if number.isdigit():
            version = recorded.version(name, int(number))
            if version is not None:
                return describe_version(version, recorded)
        case "stage", [_] if "." in rest:
            model, _, stage = rest.partition(".")
            now = fingerprints.get(address)
            run = recorded.run(model, stage, now) if now else recorded.latest_run(model, stage)
            if run is not None:
                return {"address": address, **run.model_dump(mode="json")}
        case "gate", [_] if "." in rest:
            return _gate(address, recorded, fingerprints)
        case "deployment", [_, _]:
            deployed = recorded.deployed(address)
            if deployed is not None:
                version = recorded.version(deployed.model, deployed.version)
                lineage = describe_version(version, recorded) if version else None
                return {"address": address, **deployed.model_dump(mode="json"), "serves": lineage}
        case "deployment", [name]:
            ours = [a for a in recorded.deployments() if a.startswith(f"{address}@")]
            if len(ours) == 1:
                return _describe(ours[0], recorded, fingerprints)
        case "dataset", [name]:
            imported = recorded.imported(name)
            if imported is not None:
                return {"address": address, **imported.model_dump(mode="json")}
        case _:
            pass
    raise unknown_address(address, recorded)


def _model(name: str, recorded: Recorded, now: str | None) -> dict[str, Any]:
    state = recorded.model_state(name)
    if state is None:
        raise unknown_address(f"model.{name}", recorded)
    fingerprint = now or state.candidate
    candidate = recorded.candidate(name, fingerprint) if fingerprint else None
    return {
        "address": f"model.{name}",
        "retired": state.retired,
        "candidate": candidate.model_dump(mode="json") if candidate else None,
        "versions": [describe_version(version, recorded) for version in recorded.versions(name)],
    }


def _gate(address: str, recorded: Recorded, fingerprints: Mapping[str, str]) -> dict[str, Any]:
    model, _, gate = address.removeprefix("gate.").partition(".")
    state = recorded.model_state(model)
    fingerprint = fingerprints.get(f"model.{model}") or (state.candidate if state else None)
    candidate = recorded.candidate(model, fingerprint) if fingerprint else None
    if candidate is None or gate not in candidate.gates:
        raise unknown_address(address, recorded)
    verdict = next((v for v in candidate.verdicts if v.gate == gate), None)
    return {
        "address": address,
        "question": dict(candidate.gates[gate]),
        "verdict": verdict.model_dump(mode="json") if verdict else None,
    }


def describe_version(version: Version, recorded: Recorded) -> dict[str, Any]:
    """Version, artifact, stage fingerprints, data digests, commit, verdicts."""
    stages = {}
    for stage, fingerprint in sorted(version.stages.items()):
        run = recorded.run(version.model, stage, fingerprint)
        stages[stage] = {
            "fingerprint": fingerprint,
            "command": run.entry["cmd"] if run else None,
            "commit": run.commit if run else None,
            "read": {dep["path"]: dep["md5"] for dep in run.entry.get("deps", ())} if run else {},
            "params": run.entry.get("params", {}) if run else {},
            "wrote": {out["path"]: out["md5"] for out in run.entry.get("outs", ())} if run else {},
        }
    return {
        "address": f"model.{version.model}@{version.number}",
        "version": version.number,
        "fingerprint": version.fingerprint,
        "commit": version.commit,
        "dirty": version.dirty,
        "artifact": version.artifact.model_dump(mode="json") if version.artifact else None,
        **(
            {"conversion": version.conversion.model_dump(mode="json", exclude={"signature"})}
            if version.conversion
            else {}
        ),
        **({"files": "removed by `mlspec gc`"} if version.freed else {}),
        **({"source": dict(version.source)} if version.source else {}),
        "metrics": dict(version.metrics),
        "verdicts": [verdict.model_dump(mode="json") for verdict in version.verdicts],
        "stages": stages,
        "signature": dict(version.signature) if version.signature else None,
    }


def nested_lines(value: Any, indent: str) -> list[str]:
    """Nested data as indented `key: value` lines, and a dash for each item of a list."""
    lines: list[str] = []
    if isinstance(value, list):
        for item in value:
            first, *rest = nested_lines(item, f"{indent}  ") or ["none"]
            lines += [f"{indent}- {first.lstrip()}", *rest]
        return lines
    if not isinstance(value, dict):
        return [f"{indent}{escape(_text(value))}"]
    for key, inner in value.items():
        if isinstance(inner, dict | list) and inner:
            lines += [f"{indent}{escape(str(key))}:", *nested_lines(inner, f"{indent}  ")]
        else:
            lines.append(f"{indent}{escape(str(key))}: {escape(_text(inner))}")
    return lines


def _text(value: Any) -> str:
    if value is None or value in ({}, []):
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
