"""Batch deployments: an input that can be read, an output of their own, and a time that is one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from mlspec.spec.checks.overlaps import written
from mlspec.spec.interfaces import Face
from mlspec.spec.models import Deployment, Spec
from mlspec.spec.paths import parents
from mlspec.spec.show import show
from mlspec.spec.tree import Path, Problem

READ = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
WRITTEN = (".csv", ".jsonl", ".ndjson", ".parquet")
USEFUL = {"batch", "description", "model", "owner", "pin", "resources", "tags", "targets"}
"""Keys of a deployment that scores; all others are of those that answer requests."""
_COLUMN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_ .-]{0,99}")
_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 6))
_PART = re.compile(r"(\*|\d{1,2}(?:-\d{1,2})?)(?:/(\d{1,2}))?")


def check(spec: Spec) -> Iterator[Problem]:
    """Every problem of batch deployments but those with models."""
    outputs: dict[str, str] = {}
    for name, deployment in spec.deployments.items():
        at = ("deployments", name)
        kinds = [spec.targets[each].kind for each in deployment.targets if each in spec.targets]
        if deployment.batch is None:
            if "batch" in kinds:
                message = "a target of kind `batch` scores data, and this does not say which"
                hint = "add `batch: {input: DATASET, output: data/scores.parquet}`"
                yield Problem("MLS120", at, message, hint, on_key=True)
            continue
        if set(kinds) - {"batch"} or len(deployment.targets) > 1:
            message = "`batch` needs one target, of kind `batch`"
            hint = "deploy the model to others under another name"
            yield Problem("MLS120", (*at, "targets"), message, hint)
        for key in sorted(deployment.model_fields_set - USEFUL):
            if getattr(deployment, key) not in (None, ()):
                message = f"a batch deployment answers no requests, so `{key}` has no use"
                yield Problem("MLS096", (*at, key), message, "remove it", on_key=True)
        yield from _batch(spec, deployment, (*at, "batch"))
        other = outputs.setdefault(deployment.batch.output, name)
        if other != name:
            message = f"deployment `{other}` writes it, too"
            yield Problem("MLS120", (*at, "batch", "output"), message, "write another file")


def check_written(spec: Spec, faces: Mapping[str, Face]) -> Iterator[Problem]:
    """Outputs that stages of models write as well."""
    wanted = {
        each.batch.output: name for name, each in spec.deployments.items() if each.batch is not None
    }
    if not wanted:
        return
    folders = {folder: path for path in wanted for folder in parents(path)}
    for output in written(faces):
        path = output.path
        found = path if path in wanted else folders.get(path)
        found = found or next((each for each in parents(path) if each in wanted), None)
        if found is not None:
            message = f"a stage writes {show(path)}"
            at = ("deployments", wanted[found], "batch", "output")
            yield Problem("MLS120", at, message, "write to a place of its own")


def _batch(spec: Spec, deployment: Deployment, at: Path) -> Iterator[Problem]:
    batch = deployment.batch
    assert batch is not None
    dataset = spec.datasets.get(batch.input)
    if dataset is not None and not dataset.path.lower().endswith(READ):
        message = f"{show(dataset.path)} is of no kind that can be scored"
        yield Problem("MLS120", (*at, "input"), message, _kinds(READ))
    if not batch.output.lower().endswith(WRITTEN):
        message = f"{show(batch.output)} is of no kind that can be written"
        yield Problem("MLS120", (*at, "output"), message, _kinds(WRITTEN))
    for name, other in spec.datasets.items():
        near = {other.path, *parents(other.path)}
        if batch.output in near or other.path in parents(batch.output):
            message = f"it is where dataset `{name}` is"
            hint = "write another file; models name it as an input by its path"
            yield Problem("MLS120", (*at, "output"), message, hint)
    if batch.id is not None and not _COLUMN.fullmatch(batch.id):
        message = f"{show(batch.id)} cannot be the name of a column here"
        yield Problem(
            "MLS120", (*at, "id"), message, "write letters, digits, `_`, `-`, `.` and spaces"
        )
    if batch.schedule is not None:
        yield from _schedule(spec, batch.schedule, (*at, "schedule"))


def _schedule(spec: Spec, schedule: str, at: Path) -> Iterator[Problem]:
    if (wrong := why_no_time(schedule)) is not None:
        hint = 'write minute, hour, day, month and weekday in UTC: "0 3 * * *" is each day at 3'
        yield Problem("MLS120", at, f"{show(schedule)} is no schedule: {wrong}", hint)
    elif spec.ci.github is None:
        message = "nothing would run it: a schedule is kept by a workflow"
        yield Problem("MLS120", at, message, "add `ci: {github: {}}`, or remove it", on_key=True)


def why_no_time(schedule: str) -> str | None:
    """What is wrong with five fields of cron; nothing if they are fine."""
    fields = schedule.split(" ")
    if len(fields) != len(_FIELDS):
        return f"it has {len(fields)} fields, not five with one space between them"
    for field, (name, low, high) in zip(fields, _FIELDS, strict=True):
        for part in field.split(","):
            found = _PART.fullmatch(part)
            if found is None:
                return f"the {name} {part!r} is not a number, a range, `*` or a step"
            numbers = [] if found[1] == "*" else [int(each) for each in found[1].split("-")]
            inside = all(low <= each <= high for each in numbers)
            if not inside or numbers != sorted(numbers) or found[2] in ("0", "00"):
                return f"the {name} {part!r} is not between {low} and {high}"
    return None


def _kinds(endings: Iterable[str]) -> str:
    return f"the kinds are {', '.join(f'`{each}`' for each in endings)}"
