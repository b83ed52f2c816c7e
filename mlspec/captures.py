"""What services captured: lines of JSON, each a request with its answer, read as rows.

Comes in: a line as the generated service writes it, `{"ts": ..., "request": {"rows": [...]},
"answer": {"id": ..., "model": ..., "version": ..., "predictions": [...], ...}}`, both as they came
and went. Goes out: a dict for each row. A line of an older service is a row itself.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

ONE = {"predictions": "prediction", "explanations": "explanation"}
"""What a list of an answer is called in a row; others keep their name."""


def read_rows(line: bytes) -> Iterator[dict[str, Any]]:
    """{id, row, ts, model, model_version, inputs, output} of each row, and `redacted`, names of
    columns; none of a line that is damaged, as one that is being written is."""
    try:
        found = json.loads(line)
        if not isinstance(found, dict):
            return
        if "answer" not in found:
            yield found
            return
        answer, rows = found["answer"], found["request"]["rows"]
        lists = {ONE.get(k, k): v for k, v in answer.items() if isinstance(v, list)}
        for number, row in enumerate(rows):
            yield {
                "id": answer["id"],
                "row": number,
                "ts": found["ts"],
                "model": answer["model"],
                "model_version": answer["version"],
                "inputs": row,
                **({"redacted": found["redacted"]} if "redacted" in found else {}),
                "output": {key: values[number] for key, values in lists.items()},
            }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        return
