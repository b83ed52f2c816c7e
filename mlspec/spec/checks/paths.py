"""Paths: inside the repository, portable, and not where others write."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator

from mlspec.spec.models import Convert, Declare, Model, Spec
from mlspec.spec.show import escape
from mlspec.spec.tree import Path, Problem

MAX_STEP = 255
RESERVED = (".git", ".dvc", ".mlspec", ".github")
GENERATED = ("pipelines", "services", "cards")
_DRIVE = re.compile(r"[A-Za-z]:(?:[/\\]|$)")
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:\..*)?", re.IGNORECASE)

_STEP = r"(?!(?:con|prn|aux|nul|com[1-9]|lpt[1-9])(?:[./]|\Z))\w(?:[\w.-]{0,98}[\w-])?"
_PLAIN = re.compile(rf"{_STEP}(?:/{_STEP})*", re.ASCII | re.IGNORECASE)
"""Paths that have none of the problems; most have none, and this is seen at a glance."""


def check(spec: Spec) -> Iterator[Problem]:
    """Problems of the paths outside models, as text."""
    for at, path, writes in declared(spec):
        yield from _check_path(at, path, writes=writes)


def check_model(name: str, model: Model, datasets: Container[str]) -> Iterator[Problem]:
    """Problems of the paths of one model, as text."""
    for at, path, writes in declared_in(name, model, datasets):
        yield from _check_path(at, path, writes=writes)


def declared(spec: Spec) -> Iterator[tuple[Path, str, bool]]:
    """Each path outside models with where it stands and whether a stage writes it."""
    yield ("python", "requirements"), spec.python.requirements, False
    for name, dataset in spec.datasets.items():
        yield ("datasets", name, "path"), dataset.path, False
    for name, deployment in spec.deployments.items():
        if deployment.explain is not None and deployment.explain.background is not None:
            yield (
                ("deployments", name, "explain", "background"),
                deployment.explain.background,
                False,
            )
    for name, target in spec.targets.items():
        if target.gitops is not None:
            yield ("targets", name, "gitops"), target.gitops, True
        if target.known_hosts is not None:
            yield ("targets", name, "known_hosts"), target.known_hosts, False
    for name, deployment in spec.deployments.items():
        if deployment.batch is not None:
            yield ("deployments", name, "batch", "output"), deployment.batch.output, True


def declared_in(
    name: str, model: Model, datasets: Container[str]
) -> Iterator[tuple[Path, str, bool]]:
    """Each path of a model with where it stands and whether a stage writes it."""
    for stage_name, stage in model.stages.items():
        if isinstance(stage, Convert | Declare):  # what it reads and writes follows from these
            continue
        at = ("models", name, "stages", stage_name)
        for index, given in enumerate(stage.inputs):
            if given not in datasets:
                yield (*at, "inputs", index), given, False
        for index, output in enumerate(stage.outputs):
            yield (*at, "outputs", index), output, True
        for index, code in enumerate(stage.code):
            yield (*at, "code", index), code, False
        if stage.metrics is not None:
            yield (*at, "metrics"), stage.metrics, True
        if stage.predictions is not None:
            yield (*at, "predictions"), stage.predictions, True
    sample = model.serve.sample
    if sample is not None and sample not in datasets:
        yield ("models", name, "serve", "sample"), sample, False
    if model.artifact is not None:
        yield ("models", name, "artifact", "path"), model.artifact.path, False
        for index, code in enumerate(model.artifact.code):
            yield ("models", name, "artifact", "code", index), code, False


def _check_path(at: Path, path: str, *, writes: bool) -> Iterator[Problem]:
    steps = path.split("/")
    ours = writes and (steps[0] in GENERATED or path in ("mlspec.yaml", ".gitattributes"))
    if not ours and _PLAIN.fullmatch(path):
        return
    if escape(path) != path:
        yield Problem("MLS060", at, "a path may not hold control characters", "rename the file")
    elif path.startswith("/"):
        yield Problem("MLS060", at, "the path is absolute", "write it relative to the repository")
    elif "\\" in path or _DRIVE.match(path):
        yield Problem("MLS060", at, "the path is written as on Windows", "write it with `/`")
    elif "://" in path:
        hint = "name a dataset with `source: {url: ...}`"
        yield Problem("MLS060", at, "a URL stands where a path should", hint)
    elif ".." in steps:
        yield Problem("MLS060", at, "the path may leave the repository", "write it without `..`")
    elif path.startswith("~") or "$" in path:
        message = "the path would be expanded by a shell: `~` and `$` are not taken"
        yield Problem("MLS060", at, message, "write it relative to the repository")
    elif any(character in path for character in '*?"<>|`'):
        message = 'a path names one file or folder, without any of * ? " < > | `'
        yield Problem("MLS060", at, message, "name the folder that holds the files")
    elif not path or path == ".":
        yield Problem("MLS060", at, "the path is empty", "name a file or a folder")
    elif path.startswith("-") or any(step != step.strip() or step.endswith(".") for step in steps):
        message = "no part of a path starts or ends with a space, ends with a dot, or starts with -"
        yield Problem("MLS060", at, message, "rename the file")
    elif any(len(step.encode()) > MAX_STEP for step in steps):
        message = f"a part of the path has more than {MAX_STEP} bytes"
        yield Problem("MLS060", at, message, "use shorter names")
    elif any(_DEVICE.fullmatch(step) for step in steps):
        yield Problem("MLS060", at, "the path holds the name of a device", "rename the file")
    elif steps[0].lower() in RESERVED:
        message = f"`{steps[0]}` belongs to a tool; the spec cannot name what is in it"
        yield Problem("MLS061", at, message, "use a folder of your own")
    elif ours:
        message = f"`{steps[0]}` is written by mlspec or by you, never by a stage"
        yield Problem("MLS061", at, message, "use another folder, such as data, models or metrics")
