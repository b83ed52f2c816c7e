"""Batch deployments: the version that a deployment is at scores a dataset, as a stage of DVC.

The command is that of the stage, so that `dvc repro` gives the same scores. A file tells this
checkout what it scored last; other ones know it from the ledger::

    .mlspec/batch/<deployment>@<target>.json
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlspec.atomic import write_atomic
from mlspec.children import make_command
from mlspec.compilers.batch import STAGE, batch_command, release_path, stage_path
from mlspec.dvc.hashing import md5_of_file
from mlspec.errors import MlspecError
from mlspec.executors import Cause, Job
from mlspec.executors.retry import run_with_retries
from mlspec.ledger.records import Version
from mlspec.providers.context import Context, CutShort
from mlspec.providers.remembered import Memory, describe
from mlspec.providers.target import Release, Running
from mlspec.resources import DeploymentResource

KEYS = frozenset(("release", "model", "version", "since", "scored", "stamp"))
_ROWS = re.compile(r"(\d+) rows? scored by ")


def score(resource: DeploymentResource, version: Version, context: Context) -> Running:
    """Have the output made of the input by `version`, kept by DVC, and in storage."""
    batch, reads = resource.deployment.batch, resource.reads
    assert batch is not None and reads is not None
    release = context.facts.fingerprints[resource.address]
    before = context.recorded.deployed(resource.address)
    if before is not None and before.release == release and before.scored is not None:
        return _put_back(resource, before.scored, version, context)
    expected = _bring_input(resource, context)
    if tracked := context.dvc.find_tracked([batch.output]):
        raise MlspecError(
            f"{resource.address} was not scored: Git tracks {tracked[0]}, which it writes",
            hint=f"git rm --cached {shlex.quote(tracked[0])}; then commit and apply again",
        )
    context.worktree.check_place(batch.output)
    (context.root / batch.output).parent.mkdir(parents=True, exist_ok=True)
    about = {
        "deployment": resource.name,
        "model": version.model,
        "version": version.number,
        "artifact": version.artifact.md5 if version.artifact else "",
        "commit": version.commit,
    }
    chosen = release_path(resource.name)
    write_atomic(context.root / chosen, json.dumps(about, indent=2) + "\n")
    rows = _run(resource, context)
    context.worktree.forget(batch.output, chosen, reads.path)
    seen = context.worktree.digest(reads.path)
    if seen is None or seen.md5 != expected:
        raise MlspecError(
            f"{resource.address} was scored, and {reads.path} changed meanwhile",
            hint="apply again: what was scored is not recorded",
        )
    dvcfile = stage_path(resource.name)
    context.dvc.commit(dvcfile, STAGE)
    context.dvc.push(dvcfile, STAGE)
    wrote = context.worktree.digest(batch.output)
    if wrote is None:
        raise MlspecError(f"{resource.address} was scored, and {batch.output} is gone")
    scored = {"read": expected, "path": batch.output, "wrote": wrote.md5, "rows": rows}
    return _keep(resource, version, context, scored, f"scored {rows} rows of {reads.path}")


def _put_back(
    resource: DeploymentResource, scored: Mapping[str, Any], version: Version, context: Context
) -> Running:
    """The scores that there were: nothing is scored again."""
    path = str(scored["path"])
    context.worktree.check_place(path)
    context.dvc.place({path: str(scored["wrote"])})
    context.worktree.forget(path)
    return _keep(resource, version, context, scored, "has its scores back")


def _bring_input(resource: DeploymentResource, context: Context) -> str:
    """The md5 that the plan is about, which the input has here."""
    reads = resource.reads
    assert reads is not None and reads.producer is not None
    expected = context.facts.contents[reads.producer][reads.path]
    if context.worktree.digest(reads.path) is None:
        context.dvc.checkout(f"{reads.path}.dvc")
        context.worktree.forget(reads.path)
    seen = context.worktree.digest(reads.path)
    if seen is None or seen.md5 != expected:
        raise MlspecError(
            f"{resource.address} was not scored: {reads.path} changed since the plan was made",
            hint="plan again",
        )
    return expected


def _run(resource: DeploymentResource, context: Context) -> int:
    """How many rows were scored; raises if they were not. The output is whole, or as before."""
    dataset = context.desired.spec.datasets[_input_name(resource)]
    command = batch_command(resource.name, resource.deployment, dataset)
    job = Job(
        address=resource.address,
        # by this very mlspec, whatever is on the path
        command=shlex.join(make_command("mlspec")) + command.removeprefix("mlspec"),
        root=context.root,
        log=context.logs / f"{resource.address}.log",
        resources=resource.deployment.resources,
        on_line=lambda line: context.on_line(resource.address, line),
    )
    with context.unlocked():
        outcome = run_with_retries(context.executor, job)
    if outcome.cause is Cause.INTERRUPTED:
        raise CutShort
    if outcome.cause is not Cause.OK:
        raise MlspecError(
            "\n".join((f"{resource.address} failed: {outcome.detail}", *outcome.tail)),
            hint=f"the whole log is {job.log.relative_to(context.root)}",
        )
    counted = (_ROWS.search(line) for line in outcome.tail)
    return next((int(found[1]) for found in counted if found), 0)


def _input_name(resource: DeploymentResource) -> str:
    assert resource.deployment.batch is not None
    return resource.deployment.batch.input


def _keep(
    resource: DeploymentResource,
    version: Version,
    context: Context,
    scored: Mapping[str, Any],
    said: str,
) -> Running:
    kept = {
        "release": context.facts.fingerprints[resource.address],
        "model": version.model,
        "version": version.number,
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "scored": dict(scored),
        "stamp": _stamp(context.root / str(scored["path"])),
    }
    _memory(context.root, resource.target).keep(resource.name, kept)
    return _running(kept, f"{said} into {scored['path']}")


@dataclass(frozen=True, slots=True)
class BatchTarget:
    """A target of kind `batch`: nothing runs there between two times."""

    root: Path
    name: str
    port: int = 0
    place: Mapping[str, Any] | None = None

    def observe(self, deployment: str) -> Running | None:
        """What was scored here last, and whether it is still there."""
        kept = _memory(self.root, self.name).load(deployment)
        if kept is None:
            return None
        scored = kept["scored"]
        path = self.root / str(scored["path"])
        differs: tuple[tuple[str, Any, Any], ...] = ()
        stamp = _stamp(path)
        if stamp != kept["stamp"]:
            now = md5_of_file(path) if stamp is not None else None
            if now != scored["wrote"]:
                differs = ((str(scored["path"]), scored["wrote"], now),)
        return _running(kept, f"scored {scored['path']}", differs)

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None

    def deploy(
        self,
        deployment: str,
        release: Release,  # noqa: ARG002
        smoke: Sequence[Mapping[str, Any]],  # noqa: ARG002
    ) -> Running:
        raise self._answers_nothing(deployment)

    def stop(self, deployment: str) -> None:
        raise self._answers_nothing(deployment)

    def start(self, deployment: str) -> Running:
        raise self._answers_nothing(deployment)

    def rename(self, deployment: str, name: str) -> None:
        """What it scored is known under its new name; the stage's files follow the spec."""
        _memory(self.root, self.name).rename(deployment, name)

    def destroy(self, deployment: str) -> None:
        """Forget it; the scores stay where they are."""
        _memory(self.root, self.name).forget(deployment)

    def logs(self, deployment: str) -> tuple[Path, ...]:
        """Of every apply that scored, the newest last."""
        name = f"deployment.{deployment}@{self.name}.log"
        return tuple(sorted((self.root / ".mlspec" / "logs").glob(f"*/{name}")))

    def _answers_nothing(self, deployment: str) -> MlspecError:
        return MlspecError(
            f"deployment.{deployment}@{self.name} scores data and answers no requests",
            hint="`mlspec apply` scores; `mlspec predict` and `mlspec serve` try the model",
        )


def _memory(root: Path, target: str) -> Memory:
    return Memory(root, "batch", target, KEYS)


def _stamp(path: Path) -> list[int] | None:
    """What changes when the file does; none if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_size, found.st_mtime_ns]


def _running(
    kept: Mapping[str, Any], note: str, differs: tuple[tuple[str, Any, Any], ...] = ()
) -> Running:
    scored = kept["scored"]
    return describe(kept, str(scored["path"]), note, differs, scored=scored)
