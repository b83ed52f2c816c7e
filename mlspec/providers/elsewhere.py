"""A stage that runs on another machine: what is asked of its executor, and what is taken from it.

Comes in: a stage and the world. Goes out: a :class:`Result` that was checked against the plan. The
worktree has none of the outputs afterwards; storage has them all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from mlspec.compilers.dvc import pipeline_path
from mlspec.dvc.hashing import md5_of_bytes
from mlspec.errors import MlspecError
from mlspec.executors import Cause, Outcome
from mlspec.executors.messages import Answer, Input, Needs, Place, Request
from mlspec.fingerprint import entry_fingerprint, entry_outputs
from mlspec.formats import FOLDERS
from mlspec.metrics import parse_metrics
from mlspec.providers.context import Context
from mlspec.resources import (
    DatasetResource,
    Dependency,
    Desired,
    FileResource,
    ModelResource,
    StageResource,
)

DVC_SETTINGS = (".dvc/config", ".dvc/.gitignore", ".dvcignore")


@dataclass(frozen=True, slots=True)
class Result:
    """How the command went; if it ended well, its entry in dvc.lock and what it measured."""

    outcome: Outcome
    entry: dict[str, Any]
    metrics: dict[str, float]


def run_elsewhere(resource: StageResource, name: str, context: Context) -> Result:
    """Have the executor `name` run the stage; raises :class:`MlspecError` for what it refuses."""
    assert context.executors is not None
    fingerprint = context.facts.fingerprints[resource.address]
    request = make_request(resource, name, context)
    executor = context.executors.get(name)
    with _log(resource, context) as log, context.unlocked():

        def hear(line: str) -> None:
            log.write(f"{line}\n")
            log.flush()
            context.on_line(resource.address, line)

        answer = executor.run(request, hear, context.stop)
    return _checked(resource, name, answer, fingerprint, context)


def make_request(resource: StageResource, name: str, context: Context) -> Request:
    """All that a machine needs which has nothing of this one."""
    assert context.executors is not None
    desired = context.desired
    origin = context.executors.origin
    commit = context.source.commit
    address = origin.address(name, desired.spec.executors[name])
    inputs = tuple(_input(dependency, context) for dependency in resource.dependencies)
    origin.check_committed(resource.address, [each.path for each in inputs if each.origin == "git"])
    origin.check_shared(commit, address)
    generated = (desired.get(FileResource, file).generated for file in resource.files)
    texts = {each.path: each.text for each in generated}
    for each in inputs:
        if each.origin == "dataset":
            texts[f"{each.path}.dvc"] = context.worktree.read_text(f"{each.path}.dvc") or ""
    return Request(
        address=resource.address,
        stage=resource.name,
        dvcfile=pipeline_path(resource.model),
        place=Place(
            repository=address,
            files={path: texts.pop(path) for path in DVC_SETTINGS if path in texts},
        ),
        commit=commit,
        files=texts,
        command=resource.command,
        inputs=inputs,
        outputs=resource.writes,
        single=single_files(resource, desired),
        metrics=resource.stage.metrics,
        python=desired.spec.python.version,
        needs=Needs.of(resource.stage.resources),
        timeout=resource.stage.timeout,
        retries=resource.stage.retries,
    )


def single_files(resource: StageResource, desired: Desired) -> tuple[str, ...]:
    """The outputs that people or services read as files: they must be no folders."""
    artifact = desired.get(ModelResource, f"model.{resource.model}").artifact
    single = {resource.stage.metrics, resource.stage.predictions}
    if artifact is not None and artifact.format not in FOLDERS:
        single.add(artifact.path)
    return tuple(path for path in resource.writes if path in single)


def _input(dependency: Dependency, context: Context) -> Input:
    path, producer = dependency.path, dependency.producer
    if producer is None:
        kept = context.worktree.recorded_digest(path)
        seen = context.worktree.digest(path) or kept
        if seen is None or seen.md5 != dependency.md5:
            raise MlspecError(f"{path} changed since the plan was made", hint="plan again")
        if kept is None:
            return Input(path=path, md5=seen.md5, origin="git")
        context.dvc.push(f"{path}.dvc", None)
        return Input(path=path, md5=seen.md5, origin="dataset")
    md5 = context.facts.contents[producer][path]
    if producer.startswith("dataset."):
        in_git = context.desired.get(DatasetResource, producer).in_git
        return Input(path=path, md5=md5, origin="git" if in_git else "dataset")
    maker = context.desired.get(StageResource, producer)
    run = context.recorded.run(maker.model, maker.name, context.facts.fingerprints[producer])
    outs = run.entry.get("outs", ()) if run is not None else ()
    executable = any(out["path"] == path and out.get("isexec") for out in outs)
    return Input(path=path, md5=md5, origin="storage", executable=executable)


def _checked(
    resource: StageResource, name: str, answer: Answer, fingerprint: str, context: Context
) -> Result:
    """What the answer says, if it is of the run that was asked for."""
    where = f"{name}, {answer.worker}" if answer.worker else name
    if answer.log:
        _log_path(resource, context).write_text(answer.log, encoding="utf-8")
    if answer.trouble is not None:
        raise answer.trouble.error(f"{resource.address} on {where}")
    outcome = answer.outcome
    if outcome is None:
        raise MlspecError(f"{resource.address} on {where}: an answer without an outcome")
    if outcome.cause is not Cause.OK:
        return Result(outcome, {}, {})
    entry = dict(answer.entry or {})
    try:
        found = entry_fingerprint(entry)
    except (KeyError, TypeError) as error:
        raise MlspecError(f"{resource.address} on {where}: an answer without digests") from error
    if found != fingerprint:
        raise MlspecError(
            f"{resource.address} on {where}: what ran is not what was planned",
            hint="apply again: the run is not recorded; if it stays so, `mlspec doctor` helps",
        )
    return Result(outcome, entry, _metrics(resource, answer, entry))


def _metrics(resource: StageResource, answer: Answer, entry: Mapping[str, Any]) -> dict[str, float]:
    """What the metrics file says: the one that is in storage."""
    path = resource.stage.metrics
    if path is None:
        return {}
    if md5_of_bytes(answer.metrics) != entry_outputs(entry).get(path):
        raise MlspecError(f"{resource.address}: {path} is not what its digest says")
    return parse_metrics(answer.metrics, path)


def _log_path(resource: StageResource, context: Context) -> Path:
    return context.logs / f"{resource.address}.log"


@contextlib.contextmanager
def _log(resource: StageResource, context: Context) -> Iterator[IO[str]]:
    """Where printed lines go while they come; the whole log replaces them at the end."""
    path = _log_path(resource, context)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        yield file
