"""Artifact formats: what a model file takes and gives, found without loading it in this process.

Comes in: a file and the format that the spec declares. Goes out: its signature, a JSON object::

    {"columns": [{"name": "age", "type": "number"}, ...], "layout": "columns" | "matrix" | "rows",
     "input": tensor name or null, "outputs": [{"name", "type", "role"}, ...], "example": {row}}

A column with `missing: true` may be null. Types are number, integer, string and boolean, with an s
for a list of them in each row. The first output is the prediction, a second one holds
probabilities; `example` is a row that the model has answered.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mlspec.children import NEUTRAL_FOLDER, make_command, withhold_credentials
from mlspec.errors import MlspecError

if TYPE_CHECKING:
    from mlspec.spec.models import Artifact

FOLDERS = ("python", "transformers")
"""Formats whose artifact may be a folder."""
TIMEOUT = 120.0
CONVERSION_TIMEOUT = 900.0
UNWRITTEN = "not converted: "
"""What begins a file that stands for one that could not be made."""


def inspect_declared(
    artifact: Artifact,
    root: Path,
    code: Iterable[str] = (),
    python: str = sys.executable,
    training: str = "",
) -> dict[str, Any]:
    """What :func:`inspect_artifact` says of an artifact of the spec of the repository at `root`.

    `code` are the paths of what its class needs, if it has one; `training` is that of the data that
    its `signature` is inferred from.
    """
    path = root / artifact.path
    if artifact.format == "http":
        return inspect_artifact(path, "http", python)
    options: dict[str, Any] = {"columns": dict(artifact.columns)} if artifact.columns else {}
    if artifact.signature is not None:
        said = {"target": artifact.signature.target, "without": list(artifact.signature.without)}
        options["training"] = {"path": str((root / training).resolve()), **said}
    if artifact.format == "joblib":
        options["trusted"] = artifact.trusted or ""
    if artifact.class_ is None:
        return inspect_artifact(path, artifact.format, python, options)
    with tempfile.TemporaryDirectory(prefix="mlspec-") as folder:
        for name in code:
            (place := Path(folder, name)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(root / name, place)
        options |= {"class_name": artifact.class_, "code": folder}
        if artifact.format == "python":
            options |= {"framed": artifact.input == "frame", "example": dict(artifact.example)}
        return inspect_artifact(path, artifact.format, python, options)


def inspect_artifact(
    path: Path,
    format: str,  # noqa: A002
    python: str = sys.executable,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, Any]:
    """The signature of an artifact, or `MlspecError` with the reason why it can not be served.

    `options` are what the spec says more, for the reader of the format.
    """
    if not path.exists():
        raise MlspecError(f"{path}: the artifact is not there")
    if path.is_dir() and format not in FOLDERS:
        raise MlspecError(f"{path}: the artifact is a folder", hint="have the stage write a file")
    said = [json.dumps(dict(options))] if options else []
    command = ("mlspec.formats.inspect", format, str(path.resolve()), *said)
    signature: dict[str, Any] = _ask(command, path, TIMEOUT, python)["signature"]
    return signature


def convert_artifact(
    path: Path,
    format: str,  # noqa: A002
    sample: Path,
    out: Path,
    trusted: str = "",
    tolerance: float | None = None,
    *,
    optional: bool = False,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, float]:
    """Write a model as ONNX to `out`; how like it answers the rows of `sample`, and how fast.

    With a `tolerance`, also whether it may take the place of the model; if it is `optional`, it has
    to be faster. Raises :class:`MlspecError` if it can not be converted, or answers otherwise and
    is not optional. `columns` are the types of those of a model of tensors, by name.
    """
    for each in (path, sample):
        if not each.is_file():
            raise MlspecError(f"{each}: there is no such file")
    arguments = {
        "format": format,
        "path": str(path.resolve()),
        "sample": str(sample.resolve()),
        "out": str(out.resolve()),
        "trusted": trusted,
        "tolerance": tolerance,
        "optional": optional,
        "columns": dict(columns),
    }
    command = ("mlspec.formats.convert", json.dumps(arguments))
    figures: dict[str, float] = _ask(command, path, CONVERSION_TIMEOUT, sys.executable)["figures"]
    return figures


def _ask(command: Sequence[str], path: Path, timeout: float, python: str) -> dict[str, Any]:
    """What a module of this package answers about a file; `MlspecError` if it has a problem."""
    try:
        done = subprocess.run(
            make_command(*command, python=python),
            cwd=NEUTRAL_FOLDER,
            env=withhold_credentials(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MlspecError(f"{path}: not loaded within {timeout:.0f} s") from None
    try:
        answer: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise MlspecError(f"{path}: {_cause(done)}") from None
    if "problem" in answer:
        raise MlspecError(f"{path}: {answer['problem']}", hint=answer.get("hint", ""))
    return answer


def _cause(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"loading it was ended by signal {-done.returncode}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"loading it failed: {lines[-1] if lines else f'exit code {done.returncode}'}"
