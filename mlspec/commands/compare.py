"""`mlspec compare`: champion and challenger beside each other, by what both answered.

It reads captures and metrics, and decides nothing: whoever takes the challenger makes it the model
of the deployment.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mlspec.commands.deployment import find_deployment
from mlspec.errors import MlspecError
from mlspec.ledger.records import Deployed
from mlspec.providers.local.captures import capture_files, capture_folders, read_predictions
from mlspec.providers.target import MeasuredTarget
from mlspec.providers.targets import target_of
from mlspec.reconcile import Project, open_project
from mlspec.render.console import Console
from mlspec.render.style import escape
from mlspec.resources import DeploymentResource
from mlspec.rollouts.comparison import (
    METRICS,
    Finding,
    Key,
    Predicted,
    Value,
    compare_apart,
    compare_errors,
    compare_labelled,
    compare_pairs,
)
from mlspec.rollouts.counts import Counts

QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
MOST_BYTES = 2**29
"""Of captures that are read; of more, the newest."""


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """Each is a flag of the command."""

    folders: tuple[Path, ...] = ()
    labels: Path | None = None
    metric: str | None = None
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class _Side:
    """A deployment of both, what it counts, and its predictions by request and row."""

    deployed: Deployed
    counts: Counts | None
    predicted: Mapping[Key, Predicted]

    @property
    def values(self) -> dict[Key, Value]:
        return {key: each.value for key, each in self.predicted.items()}

    def as_dict(self) -> dict[str, Any]:
        counts = self.counts
        latency = {name: counts.latency(q) if counts else None for name, q in QUANTILES.items()}
        return {
            "model": self.deployed.model,
            "version": self.deployed.version,
            "requests": counts.total if counts else None,
            "errors": counts.errors if counts else None,
            "latency": {
                name: None if bound is None or math.isinf(bound) else bound
                for name, bound in latency.items()
            },
            "captured": len(self.predicted),
        }


def compare(start: Path, console: Console, name: str, options: CompareOptions) -> int:
    """Tell what is known of both, and how certain it is."""
    if options.metric is not None and options.metric not in METRICS:
        raise MlspecError(
            f"there is no metric {escape(options.metric)} for labels",
            hint=f"there are: {', '.join(METRICS)}",
        )
    labels = None if options.labels is None else _read_labels(options.labels)
    with open_project(start) as project:
        project.ledger.refresh(console.note)
        resource = find_deployment(project, name)
        beside = _challenger(project, resource)
        sides = _sides(project, console, (resource, beside), options.folders)
    terms = resource.deployment.challenger
    if terms is not None and terms.mode is None:
        sides = _without_shared(*sides)
    champion, challenger = sides
    pairs = [
        (champion.predicted[key].value, challenger.predicted[key].value)
        for key in champion.predicted
        if key in challenger.predicted
    ]
    findings = list(_findings(champion, challenger, pairs))
    if labels is not None:
        findings.append(_labelled(champion, challenger, labels, options.metric))
    if options.as_json:
        console.say_json(
            {
                "deployment": resource.address,
                "champion": champion.as_dict(),
                "challenger": challenger.as_dict(),
                "pairs": len(pairs),
                "findings": [each.as_dict() for each in findings],
            }
        )
    else:
        _tell(console, resource, beside, (champion, challenger), findings)
    return 0


def _challenger(project: Project, resource: DeploymentResource) -> DeploymentResource:
    if resource.challenger is None:
        hint = "declare one: `challenger: {model: ..., mode: shadow}`"
        if resource.champion is not None:
            hint = f"name its champion: `mlspec compare {resource.champion}`"
        raise MlspecError(f"{resource.address} has no challenger", hint=hint)
    return find_deployment(project, resource.challenger)


def _sides(
    project: Project,
    console: Console,
    resources: tuple[DeploymentResource, DeploymentResource],
    folders: Sequence[Path],
) -> tuple[_Side, _Side]:
    known = capture_folders(project.root)
    paths = [
        path
        for resource in resources
        if resource.address in known
        for path in capture_files(known[resource.address])
    ]
    for folder in folders:
        if not folder.is_dir():
            raise MlspecError(f"{folder} is no folder of captures")
        paths += capture_files(folder)
    champion, challenger = (_deployed(project, resource) for resource in resources)
    found: dict[tuple[str, int], dict[Key, Predicted]] = {
        (each.model, each.version): {} for each in (champion, challenger)
    }
    for version, predicted in read_predictions(_newest(paths, console), found):
        found[version][predicted.key] = predicted
    first, second = (
        _Side(each, _counts(project, resource, each), found[each.model, each.version])
        for each, resource in zip((champion, challenger), resources, strict=True)
    )
    return first, second


def _without_shared(champion: _Side, challenger: _Side) -> tuple[_Side, _Side]:
    """Where each answers requests of its own, an id of both is one that a client used twice: what
    was asked then is not known to be the same."""
    shared = champion.predicted.keys() & challenger.predicted.keys()
    first, second = (
        replace(side, predicted={k: v for k, v in side.predicted.items() if k not in shared})
        for side in (champion, challenger)
    )
    return first, second


def _deployed(project: Project, resource: DeploymentResource) -> Deployed:
    found = project.recorded().deployed(resource.address)
    if found is None or found.status == "refused":
        raise MlspecError(f"{resource.address} is not deployed", hint="run `mlspec apply`")
    return found


def _counts(project: Project, resource: DeploymentResource, deployed: Deployed) -> Counts | None:
    """What it has counted, if it can be asked from here."""
    target = target_of(project.root, resource)
    if not isinstance(target, MeasuredTarget) or not deployed.is_at(project.place):
        return None
    return target.counts(resource.name)


def _newest(paths: Sequence[Path], console: Console) -> Iterator[Path]:
    left = MOST_BYTES
    for path in sorted(paths, key=lambda path: path.name, reverse=True):
        with suppress(FileNotFoundError):  # the oldest are taken away
            left -= path.stat().st_size
        if left < 0:
            console.note(f"Only the newest {MOST_BYTES // 2**20} MiB of captures are read.")
            return
        yield path


def _findings(
    champion: _Side, challenger: _Side, pairs: Sequence[tuple[Value, Value]]
) -> Iterator[Finding]:
    if champion.counts and challenger.counts:
        yield compare_errors(champion.counts, challenger.counts)
    if pairs:
        yield from compare_pairs(pairs)
        return
    # What one answered before the other was there is of another time.
    moments = [
        min((p.moment for p in s.predicted.values()), default="") for s in (champion, challenger)
    ]
    since = max(moments)
    before, after = (
        [each.value for each in side.predicted.values() if each.moment >= since]
        for side in (champion, challenger)
    )
    yield from compare_apart(before, after)


def _labelled(
    champion: _Side, challenger: _Side, labels: Mapping[Key, str], metric: str | None
) -> Finding:
    before, after = champion.values, challenger.values
    kinds = {type(value) for side in (before, after) for value in side.values()}
    if metric is None:
        metric = "absolute_error" if float in kinds else "accuracy"
    elif metric != "accuracy" and str in kinds:
        raise MlspecError(f"predictions are texts, which have no {metric}", hint="use accuracy")
    known: dict[Key, Value] = {}
    for key, text in labels.items():
        if (like := before.get(key, after.get(key))) is not None:
            known[key] = _as_value(text, like)
    return compare_labelled(metric, before, after, known)


def _as_value(text: str, like: Value) -> Value:
    """A label as the predictions are."""
    if isinstance(like, str):
        return text
    if isinstance(like, bool) and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise MlspecError(
            f"the label {escape(json.dumps(text[:100]))} is no number, and predictions are",
            hint="leave out rows whose label is not known",
        )
    return number


def _read_labels(path: Path) -> dict[Key, str]:
    """By the id of a request and the number of its row, which is 0 if nothing is said."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = path.suffix.lower() in (".jsonl", ".json", ".ndjson")
            rows = map(json.loads, filter(str.strip, file)) if lines else csv.DictReader(file)
            found = {
                (str(row["id"]), int(row.get("row") or 0)): _label(row["label"]) for row in rows
            }
    except OSError as error:
        raise MlspecError(f"{path} can not be read: {error.strerror}") from None
    except (
        ValueError,
        OverflowError,
        RecursionError,
        LookupError,
        TypeError,
        AttributeError,
        csv.Error,
    ):
        raise MlspecError(
            f"{path} is no file of labels",
            hint="write CSV or lines of JSON with `id` (of the answer), `label`, and `row` (from "
            "0) where a request has several",
        ) from None
    if not found:
        raise MlspecError(f"{path} has no label")
    return found


def _label(value: Any) -> str:
    if value is None:
        raise ValueError
    return value if isinstance(value, str) else json.dumps(value)


# In words -----------------------------------------------------------------------------------------


def _tell(
    console: Console,
    resource: DeploymentResource,
    beside: DeploymentResource,
    sides: tuple[_Side, _Side],
    findings: Sequence[Finding],
) -> None:
    for word, side, about in zip(
        ("champion  ", "challenger"), sides, (resource, beside), strict=True
    ):
        plain = side.as_dict()
        told = f"{word}  version {plain['version']} of {escape(plain['model'])}, {about.address}: "
        told += f"{plain['captured']} predictions captured"
        if plain["requests"] is not None:
            told += f", {plain['requests']} requests, {plain['errors']} failed"
        if plain["latency"]["p50"] is not None:
            bounds = (
                f"{name} {'?' if bound is None else f'{bound * 1000:g} ms'}"
                for name, bound in plain["latency"].items()
            )
            told += f", answered within: {', '.join(bounds)}"
        console.say(told)
    if not any(each.name not in ("error_rate",) for each in findings):
        console.say("There is nothing to compare yet: both must have captured predictions.")
    for finding in findings:
        console.say(f"  {_words(finding)}")


def _words(finding: Finding) -> str:
    """One line: what was measured, of how many, and what is certain."""
    about, size = finding.about, finding.size
    match finding.name:
        case "agreement":
            share, low, high = (f"{about[key]:.1%}" for key in ("share", "low", "high"))
            told = f"agreement    {share} of {size} pairs ({low} to {high})"
            for each in about["apart"]:
                told += (
                    f"\n    {each['count']} × champion {escape(str(each['champion']))}, "
                    f"challenger {escape(str(each['challenger']))}"
                )
            return told
        case "gap":
            told = f"apart        {finding.difference:.6g} in the mean of {size} pairs"
            if about:
                told += f", at most {about['median']:.6g} in half and {about['p95']:.6g} in 95%"
            return told
        case "prediction_drift":
            told = f"drift        {about['value']:.3f} ({about['low']:.3f} to {about['high']:.3f})"
            return f"{told} as a population stability index, of {size} predictions at least"
    if finding.difference is None:
        return f"{finding.name:<12} nothing to compare yet"
    told = f"{finding.name:<12} {finding.challenger:.6g} against {finding.champion:.6g}: "
    told += f"{finding.difference:+.6g}"
    if finding.low is None:
        return f"{told} of {size}: too few to say more"
    certain = "certain" if finding.certain else "it may be none"
    return f"{told} ({finding.low:+.4g} to {finding.high:+.4g}; {certain}), of {size}"
