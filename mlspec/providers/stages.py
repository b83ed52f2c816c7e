"""Stages: run the command, record what it wrote with DVC, put an earlier run back."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Container
from dataclasses import replace
from typing import Any

from mlspec.atomic import write_atomic
from mlspec.children import make_command
from mlspec.compilers.dvc import lock_path, pipeline_path
from mlspec.dvc.lock import entry_as_dict, entry_from_dict, parse_lock, with_entry
from mlspec.errors import MlspecError, RemoteUnreachable, unusable
from mlspec.executors import Cause, Job, Outcome
from mlspec.executors.outputs import check_written
from mlspec.executors.registry import executor_name
from mlspec.executors.retry import remove_output, run_with_retries
from mlspec.fingerprint import entry_fingerprint, entry_outputs
from mlspec.ledger.paths import run_path, state_path
from mlspec.ledger.records import ModelState, Record, Run
from mlspec.metrics import load_metrics
from mlspec.plan import Action, Step
from mlspec.providers.context import Change, Context, CutShort
from mlspec.providers.elsewhere import Result, run_elsewhere, single_files
from mlspec.resources import Dependency, FileResource, ModelResource, StageResource
from mlspec.spec.models import Fetch, Own

Stamps = dict[tuple[str, str], tuple[int, int, int]]
"""Inode, size and time by the address of a stage and a path that it writes."""


def apply(step: Step, context: Context) -> Change:
    """Run, restore or adopt one stage."""
    resource = context.desired.get(StageResource, step.address)
    match step.action:
        case Action.RESTORE:
            return _restore(resource, context)
        case Action.ADOPT:
            return _adopt(resource, context)
        case _:
            return _run(resource, context)


def _run(resource: StageResource, context: Context) -> Change:
    fingerprint = context.facts.fingerprints[resource.address]
    model = context.desired.get(ModelResource, f"model.{resource.model}").model
    if tracked := context.dvc.find_tracked(resource.writes):
        raise MlspecError(
            f"{resource.address} was not run: Git tracks {', '.join(tracked)}, which it writes",
            hint=f"git rm -r --cached {shlex.join(tracked)}; then commit and apply again",
        )
    if (name := executor_name(resource.stage, model)) is not None:
        return _run_elsewhere(resource, name, context, fingerprint)
    _bring_inputs(resource, context)
    if changed := _changed_inputs(resource, context):
        raise MlspecError(
            f"{resource.address} was not run: {', '.join(changed)} changed since the plan was made",
            hint="plan again",
        )
    before = _stamps_of_siblings(resource, context)
    for path in resource.writes:
        context.worktree.check_place(path)
        (context.root / path).parent.mkdir(parents=True, exist_ok=True)
    with context.writers.writing(resource.address) as others, context.unlocked():
        outcome = run_with_retries(context.executor, _job(resource, context))
    context.worktree.forget(*resource.writes)
    if outcome.cause is Cause.INTERRUPTED:
        raise CutShort
    if outcome.cause is not Cause.OK:
        raise _failed(resource, outcome, context)
    _check_written(resource, context)
    _check_untouched(resource, context, before, others)
    metrics = _metrics(resource, context)
    entry = _commit(resource, context, fingerprint)
    try:
        context.dvc.push(pipeline_path(resource.model), resource.name)
    except RemoteUnreachable as error:
        raise RemoteUnreachable(
            f"{resource.address} ran, and storage does not take what it wrote: {error.message}",
            hint="run `mlspec apply --adopt` when storage answers again: it takes the run that "
            "dvc.lock and the cache have, and does not run it once more",
        ) from error
    return _done(resource, context, Result(outcome, entry, metrics), fingerprint)


def _run_elsewhere(
    resource: StageResource, name: str, context: Context, fingerprint: str
) -> Change:
    """Have the executor `name` run it; its outputs are in storage then, and none of them is here.

    What an earlier run left here goes: it would be drift, while absent outputs are none.
    """
    result = run_elsewhere(resource, name, context)
    if result.outcome.cause is Cause.INTERRUPTED:
        raise CutShort
    if result.outcome.cause is not Cause.OK:
        raise _failed(resource, result.outcome, context)
    change = _done(resource, context, result, fingerprint)
    try:
        _take_over(resource, result, context)
    except OSError as error:
        return replace(change, failure=unusable(error))
    except MlspecError as error:
        return replace(change, failure=error)
    return change


def _take_over(resource: StageResource, result: Result, context: Context) -> None:
    """Have the worktree as after a run whose outputs are not here."""
    context.writers.wrote(resource.address)
    for path in resource.writes:
        remove_output(context.root / path)
    context.worktree.forget(*resource.writes)
    context.dvc.ignore(pipeline_path(resource.model), resource.name)
    text = with_entry(_lock_text(resource, context), resource.name, entry_from_dict(result.entry))
    write_atomic(context.root / lock_path(resource.model), text)


def _done(resource: StageResource, context: Context, result: Result, fingerprint: str) -> Change:
    run = Run(
        stage=resource.name,
        fingerprint=fingerprint,
        entry=result.entry,
        metrics=result.metrics,
        seconds=round(result.outcome.seconds, 3),
        commit=context.source.commit,
        dirty=context.source.dirty,
    )
    return Change(_said(run), _records(resource, run, context))


def _restore(resource: StageResource, context: Context) -> Change:
    """Put the entry of an earlier run into dvc.lock, and its outputs where others lie."""
    fingerprint = context.facts.fingerprints[resource.address]
    run = context.recorded.run(resource.model, resource.name, fingerprint)
    if run is None:
        raise MlspecError(f"the ledger lost the run of {resource.address}")
    _put_back(resource, run, context)
    said = f"the outputs of the run at {run.commit[:9] or 'no commit'} are back"
    return Change(said, {state_path(resource.model): _state_with(run, resource, context)})


def _put_back(resource: StageResource, run: Run, context: Context) -> None:
    for path in resource.writes:
        context.worktree.check_place(path)
    text = _lock_text(resource, context)
    entry = entry_from_dict(run.entry)
    if parse_lock(text, lock_path(resource.model)).get(resource.name) != entry:
        write_atomic(
            context.root / lock_path(resource.model), with_entry(text, resource.name, entry)
        )
    context.writers.wrote(resource.address)
    context.dvc.checkout(pipeline_path(resource.model), resource.name)
    context.worktree.forget(*resource.writes)


def _adopt(resource: StageResource, context: Context) -> Change:
    """Record a run that somebody made with DVC alone."""
    context.writers.wrote(resource.address)
    context.dvc.checkout(pipeline_path(resource.model), resource.name)
    context.worktree.forget(*resource.writes)
    metrics = _metrics(resource, context)
    context.dvc.push(pipeline_path(resource.model), resource.name)
    run = Run(
        stage=resource.name,
        fingerprint=context.facts.fingerprints[resource.address],
        entry=_entry(resource, context),
        metrics=metrics,
        seconds=0.0,
        commit=context.source.commit,
        dirty=context.source.dirty,
        adopted=True,
    )
    return Change("recorded", _records(resource, run, context))


def bring_output(context: Context, producer: str, path: str, md5: str) -> None:
    """Have `path` in the worktree with the content `md5` that the stage `producer` wrote.

    Raises :class:`MlspecError` when storage does not have it.
    """
    seen = context.worktree.digest(path)
    if seen is not None and seen.md5 == md5:
        return
    resource = context.desired.get(StageResource, producer)
    fingerprint = context.facts.fingerprints[producer]
    run = context.recorded.run(resource.model, resource.name, fingerprint)
    if run is not None:
        _put_back(resource, run, context)
    seen = context.worktree.digest(path)
    if seen is None or seen.md5 != md5:
        raise MlspecError(
            f"{path} is not what {producer} wrote",
            hint="run `mlspec plan`: it says how to mend it",
        )


def _bring_inputs(resource: StageResource, context: Context) -> None:
    for dependency in resource.dependencies:
        bring_input(dependency, context)


def bring_input(dependency: Dependency, context: Context) -> None:
    """Have in the worktree what a stage reads, if anybody keeps it."""
    producer = dependency.producer
    if producer is None:
        kept = context.worktree.exists(f"{dependency.path}.dvc")
        if kept and context.worktree.digest(dependency.path) is None:
            # an artifact that others made, or whatever else people gave to DVC
            context.dvc.checkout(f"{dependency.path}.dvc")
            context.worktree.forget(dependency.path)
        return
    md5 = context.facts.contents[producer][dependency.path]
    if producer.startswith("stage."):
        bring_output(context, producer, dependency.path, md5)
    elif context.worktree.digest(dependency.path) is None:
        context.dvc.checkout(f"{dependency.path}.dvc")
        context.worktree.forget(dependency.path)


def _job(resource: StageResource, context: Context) -> Job:
    command, outputs = resource.command, resource.writes
    if isinstance(resource.stage, Fetch):
        outputs = ()  # it replaces what is there, in one step, when it has the right one
    if isinstance(resource.stage, Own):
        # by this very mlspec, whatever is on the path, and whatever the repository calls so
        command = shlex.join(make_command("mlspec")) + command.removeprefix("mlspec")
    return Job(
        address=resource.address,
        command=command,
        timeout=resource.stage.timeout,
        retries=resource.stage.retries,
        outputs=outputs,
        resources=resource.stage.resources,
        python=context.desired.spec.python.version,
        root=context.root,
        log=context.logs / f"{resource.address}.log",
        on_line=lambda line: context.on_line(resource.address, line),
    )


def _failed(resource: StageResource, outcome: Outcome, context: Context) -> MlspecError:
    log = context.logs / f"{resource.address}.log"
    return MlspecError(
        "\n".join((f"{resource.address} failed: {outcome.detail}", *outcome.tail)),
        hint=f"the whole log is {log.relative_to(context.root)}",
    )


def _changed_inputs(resource: StageResource, context: Context) -> list[str]:
    """What is not, or not any more, what the stage's fingerprint was made of."""
    context.worktree.forget(*(dependency.path for dependency in resource.dependencies))
    changed = []
    for dependency in resource.dependencies:
        path, producer = dependency.path, dependency.producer
        expected = dependency.md5 if producer is None else context.facts.contents[producer][path]
        seen = context.worktree.digest(path)
        if (seen.md5 if seen else "") != expected:
            changed.append(path)
    for address in resource.files:
        generated = context.desired.get(FileResource, address).generated
        if context.worktree.read_text(generated.path) != generated.text:
            changed.append(generated.path)
    return changed


def _check_written(resource: StageResource, context: Context) -> None:
    """Every output is there and can be kept; what people or services read is a file."""
    single = single_files(resource, context.desired)
    check_written(context.worktree, resource.address, resource.writes, single)


def _check_untouched(
    resource: StageResource,
    context: Context,
    before: Stamps,
    others: Container[str],
) -> None:
    """Raise if the stage changed an output of another stage of its model; `others` wrote meanwhile.

    What a stage reads is compared by content when its run is recorded. Not seen at once is a write
    to an output of another model, or of a stage that was at work at the same time: to look at all
    outputs of all models after each run would take too long. The next plan finds it as drift.
    """
    after = _stamps_of_siblings(resource, context)
    changed = [
        path
        for address, path in sorted(before | after)
        if address not in others and before.get((address, path)) != after.get((address, path))
    ]
    if changed:
        context.worktree.forget(*changed)
        raise MlspecError(
            f"{resource.address} wrote to {', '.join(changed)}, which it does not own",
            hint="add it to the stage's outputs, or have the stage leave it alone; "
            "`mlspec apply` restores what was there",
        )


def _stamps_of_siblings(resource: StageResource, context: Context) -> Stamps:
    """What the other stages of the model have written: they tell whether anybody writes."""
    model = context.desired.get(ModelResource, f"model.{resource.model}")
    stamps: Stamps = {}
    for address in model.stages:
        stage = context.desired.get(StageResource, address)
        for path in stage.writes if address != resource.address else ():
            with contextlib.suppress(OSError):
                found = (context.root / path).stat()
                stamps[address, path] = (found.st_ino, found.st_size, found.st_mtime_ns)
    return stamps


def _metrics(resource: StageResource, context: Context) -> dict[str, float]:
    path = resource.stage.metrics
    return load_metrics(context.root / path, path) if path else {}


def _commit(resource: StageResource, context: Context, fingerprint: str) -> dict[str, Any]:
    """Have DVC record the run; the entry in dvc.lock, which has the stage's fingerprint.

    An entry that says that the outputs were made of other inputs than they were must not stay: a
    later plan would believe it.
    """
    changed = _changed_inputs(resource, context)
    if not changed:
        before = _lock_text(resource, context)
        context.dvc.commit(pipeline_path(resource.model), resource.name)
        entry = _entry(resource, context)
        if entry_fingerprint(entry) == fingerprint:
            return entry
        lock = context.root / lock_path(resource.model)
        write_atomic(lock, before) if before else lock.unlink()
        changed = ["what it reads"]
    raise MlspecError(
        f"{resource.address} ran, and {', '.join(changed)} changed meanwhile",
        hint="apply again: the run is not recorded, because nobody can say what it was made of",
    )


def _lock_text(resource: StageResource, context: Context) -> str:
    return context.worktree.read_text(lock_path(resource.model)) or ""


def _entry(resource: StageResource, context: Context) -> dict[str, Any]:
    path = lock_path(resource.model)
    entries = parse_lock(_lock_text(resource, context), path)
    if resource.name not in entries:
        raise MlspecError(f"{path} has no entry for {resource.name}")
    return entry_as_dict(entries[resource.name])


def _records(resource: StageResource, run: Run, context: Context) -> dict[str, Record | None]:
    state = _state_with(run, resource, context)
    return {
        run_path(resource.model, resource.name, run.fingerprint): run,
        state_path(resource.model): state if run.adopted else state.timed(run.stage, run.seconds),
    }


def _state_with(run: Run, resource: StageResource, context: Context) -> ModelState:
    """The heads of the model with `run` as the stage's last."""
    state = context.recorded.model_state(resource.model) or ModelState()
    runs = {**state.runs, resource.name: run.fingerprint}
    return state.model_copy(update={"runs": runs, "retired": False})


def _said(run: Run) -> str:
    metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(run.metrics.items())[:4])
    wrote = len(entry_outputs(run.entry))
    return metrics or f"{wrote} output{'' if wrote == 1 else 's'}"
