"""Artifact formats: what a model file takes and gives, found without loading it in this process.

Comes in: a file and the format that the spec declares. Goes out: its signature, a JSON object::

    {"columns": [{"name": "age", "type": "number"}, ...], "layout": "columns" | "matrix",
     "input": tensor name or null, "outputs": [{"name", "type", "role"}, ...], "example": {row}}

Types are number, integer, string and boolean, with an s for a list of them in each row. The first
output is the prediction, a second one
holds probabilities; `example` is a row that the model has answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlspec.children import NEUTRAL_FOLDER, make_command, withhold_credentials
from mlspec.errors import MlspecError

TIMEOUT = 120.0


def inspect_artifact(path: Path, format: str, python: str = sys.executable) -> dict[str, Any]:  # noqa: A002
    """The signature of an artifact, or `MlspecError` with the reason why it can not be served."""
    if not path.is_file():
        raise MlspecError(f"{path}: the artifact is not there")
    try:
        done = subprocess.run(
            make_command("mlspec.formats.inspect", format, str(path.resolve()), python=python),
            cwd=NEUTRAL_FOLDER,
            env=withhold_credentials(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise MlspecError(f"{path}: not loaded as {format} within {TIMEOUT:.0f} s") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise MlspecError(f"{path}: {_cause(done)}") from None
    if "problem" in answer:
        raise MlspecError(f"{path}: {answer['problem']}", hint=answer.get("hint", ""))
    signature: dict[str, Any] = answer["signature"]
    return signature


def _cause(done: subprocess.CompletedProcess[bytes]) -> str:
    if done.returncode < 0:
        return f"loading it was ended by signal {-done.returncode}"
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    return f"loading it failed: {lines[-1] if lines else f'exit code {done.returncode}'}"
