"""`mlspec trace ID`: from a prediction back to the model that made it, and what that was made from.

The id is that of the answer, and its header `x-request-id`. The way is: captures of deployments,
the version that each line names, and that version's lineage in the ledger. The id of a score names
its deployment, and what it scored is in the ledger itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any

from mlspec.commands.show import describe_version, nested_lines
from mlspec.errors import MlspecError
from mlspec.ledger.entry import Entry, load_entry
from mlspec.ledger.history import log
from mlspec.ledger.records import Version
from mlspec.ledger.snapshot import Snapshot
from mlspec.ledger.state import Recorded
from mlspec.providers.local.captures import (
    Captured,
    capture_files,
    capture_folders,
    find_captured,
)
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.spec.moves import renames_of

DEPLOYS = ("deploy", "rollback")
_SCORE = re.compile(r"(.+)-(\d{1,9})-([0-9a-f]{12})-(\d{1,18})")
"""As `mlspec predict --release` names predictions."""


def trace(
    start: Path, console: Console, *, identity: str, folders: Sequence[Path], as_json: bool
) -> int:
    """Tell what was asked and answered, by which version, and where that version comes from."""
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        if (score := _find_score(project, identity)) is not None:
            shown = {"id": identity, "found": [score]}
        else:
            shown = _captured(project, identity, folders)
    if as_json:
        console.say_json(shown)
    else:
        for line in nested_lines(shown, ""):
            console.say(line)
    return 0


def _find_score(project: Project, identity: str) -> dict[str, Any] | None:
    """What was scored, of an id in the output of a batch deployment; nothing for any other."""
    named = _SCORE.fullmatch(identity)
    if named is None:
        return None
    name, number, data, row = named.groups()
    ledger, recorded = project.ledger, project.recorded()
    known = recorded.deployments()
    addresses = {each for each in known if each.startswith(f"deployment.{name}@")}
    for oid, commit in ledger.chain(ledger.tip) if addresses else ():
        entry = load_entry(oid, commit)
        if entry.address not in addresses or entry.action not in DEPLOYS:
            continue
        deployed = Recorded(Snapshot(ledger.objects, oid)).deployed(entry.address)
        if deployed is None or deployed.scored is None or deployed.version != int(number):
            continue
        if entry.outcome == "done" and str(deployed.scored["read"]).startswith(data):
            version = recorded.version(deployed.model, deployed.version)
            lost = f"the ledger has no version {number} of {deployed.model}"
            return {
                "scored": entry.address,
                "row": int(row),
                "read": {
                    "path": (deployed.where or {}).get("input"),
                    "md5": deployed.scored["read"],
                },
                "wrote": {"path": deployed.scored["path"], "md5": deployed.scored["wrote"]},
                "model": deployed.model,
                "version": deployed.version,
                "deployed": _told(entry),
                "lineage": _lineage(version, recorded) if version else lost,
            }
    return None


def _captured(project: Project, identity: str, folders: Sequence[Path]) -> dict[str, Any]:
    sources = {**capture_folders(project.root), **{str(each): each for each in folders}}
    found = list(_find(sources, identity))
    if not found:
        raise _not_found(sources, identity)
    return {"id": identity, "found": list(_describe(project, found))}


def _find(sources: dict[str, Path], identity: str) -> Iterator[Captured]:
    for source, folder in sorted(sources.items()):
        yield from find_captured(source, capture_files(folder), identity)


def _not_found(sources: dict[str, Path], identity: str) -> MlspecError:
    files = [file for folder in sources.values() for file in capture_files(folder)]
    if not files:
        return MlspecError(
            "nothing was captured here",
            hint="a deployment captures if the spec says so, as `capture: {sample: 1.0}`; captures "
            "that are elsewhere are named by --captures FOLDER",
        )
    where = ", ".join(map(escape, sorted(sources)))
    return MlspecError(
        f"no captured prediction has the id {escape(identity)}; looked through {len(files)} "
        f"{'file' if len(files) == 1 else 'files'} of {where}",
        hint="a deployment captures the share of requests that `capture.sample` says, and keeps "
        "the newest; captures that are elsewhere are named by --captures FOLDER",
    )


def _describe(project: Project, found: Sequence[Captured]) -> Iterator[dict[str, Any]]:
    """One for each request: an id that a client chose may be that of several."""
    recorded = project.recorded()
    for (source, path, moment), lines in groupby(
        found, key=lambda each: (each.source, each.path, str(each.line.get("ts", "")))
    ):
        rows = [each.line for each in lines]
        model, number = _version_of(project, recorded, source, rows[0])
        version = recorded.version(model, number) if model and number else None
        yield {
            "captured": source,
            "file": _shown_path(project.root, path),
            "time": moment,
            "rows": [
                {key: row[key] for key in ("row", "inputs", "redacted", "output") if key in row}
                for row in rows
            ],
            "model": model or "unknown",
            "version": number,
            "deployed": _deployed(project, source, number, moment),
            "lineage": _lineage(version, recorded)
            if version
            else f"the ledger has no version {number} of {model or 'its model'}",
        }


def _lineage(version: Version, recorded: Recorded) -> dict[str, Any]:
    """Where it comes from; what it takes is seen by the inputs."""
    lineage = describe_version(version, recorded)
    return {key: value for key, value in lineage.items() if key != "signature"}


def _version_of(
    project: Project, recorded: Recorded, source: str, line: dict[str, Any]
) -> tuple[str, int | None]:
    """The model under its present name, and the number; a line of an older service has no model."""
    deployed = recorded.deployed(source) if source.startswith("deployment.") else None
    model = str(line.get("model") or (deployed.model if deployed else ""))
    with suppress(MlspecError):
        now = renames_of(project.loaded.spec.moved).now.get(f"model.{model}", f"model.{model}")
        model = now.removeprefix("model.")
    number = line.get("model_version")
    return model, number if isinstance(number, int) else None


def _deployed(
    project: Project, source: str, number: int | None, moment: str
) -> dict[str, Any] | None:
    """Who deployed that version there last before the moment, by the audit."""
    if not source.startswith("deployment."):
        return None
    said = f"version {number} "
    entries = (
        entry
        for entry in log(project.ledger, None, source)
        if entry.action in DEPLOYS
        and entry.outcome == "done"
        and entry.detail.startswith(said)
        and _second(entry.when) <= _second(moment)
    )
    entry: Entry | None = next(entries, None)
    return None if entry is None else _told(entry)


def _told(entry: Entry) -> dict[str, Any]:
    return {
        "serial": entry.serial,
        "when": entry.when,
        "who": entry.who,
        "command": entry.command,
        "commit": entry.commit,
        "dirty": entry.dirty,
    }


def _second(moment: str) -> str:
    """Both are in UTC, and compare as texts up to the second."""
    return moment[:19]


def _shown_path(root: Path, path: Path) -> str:
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
