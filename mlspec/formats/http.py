"""Reads the declaration of a model that answers over HTTP; runs like the other readers.

Nobody is asked: what answers there may come later, and may change without any file that does. A
version of such a model is one of what is declared.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlspec.formats.inspect import Unservable, check_columns

EXAMPLES: dict[str, Any] = {"number": 0.0, "integer": 0, "string": "", "boolean": False}


def read_signature(path: Path) -> dict[str, Any]:
    """What it is said to take and give."""
    try:
        said = json.loads(path.read_bytes())
        columns, answer = dict(said["columns"]), str(said["answer"])
    except (ValueError, KeyError, TypeError):
        raise Unservable(
            "is not the declaration of a model", "the stage `declare` writes it: apply again"
        ) from None
    check_columns(list(columns))
    outputs = [{"name": "predictions", "type": answer, "role": "prediction"}]
    if said.get("probabilities"):
        outputs.append({"name": "probabilities", "type": "numbers", "role": "probabilities"})
    return {
        "columns": [{"name": name, "type": kind} for name, kind in columns.items()],
        "layout": "rows",
        "input": None,
        "outputs": outputs,
        "example": {name: EXAMPLES[kind] for name, kind in columns.items()},
    }
