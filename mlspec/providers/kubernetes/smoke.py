"""Asks a pod for answers to the smoke rows, from its inside: no request of a client reaches it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlspec.compilers.containerfile import PORT, PYTHON
from mlspec.compilers.kubernetes import CONTAINER
from mlspec.providers.kubernetes.kubectl import Kubectl

SECONDS = 120.0
MAX_TEXT = 200
CODE = f"""
import json, sys, urllib.error, urllib.request
answers = []
for row in json.load(sys.stdin):
    request = urllib.request.Request(
        "http://127.0.0.1:{PORT}/predict",
        json.dumps({{"rows": [row]}}).encode(),
        {{"content-type": "application/json", "x-request-id": "smoke"}},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            answers.append([answer.status, ""])
    except urllib.error.HTTPError as error:
        answers.append([error.code, error.read(2000).decode(errors="replace")])
    except OSError as error:
        answers.append([0, str(error)])
print(json.dumps(answers))
"""


def check_smoke(kubectl: Kubectl, workload: str, rows: Sequence[Mapping[str, Any]]) -> str | None:
    """Why a row was not answered as it should be; nothing if all were."""
    told = kubectl.run(
        "exec",
        "--stdin",
        f"deployment/{workload}",
        f"--container={CONTAINER}",
        "--",
        PYTHON,
        "-c",
        CODE,
        stdin=json.dumps([dict(row) for row in rows]),
        seconds=SECONDS,
    )
    for number, (status, text) in enumerate(json.loads(told), start=1):
        if status != 200:
            what = f"smoke request {number} of {len(rows)}"
            if not status:
                return f"{what} got no answer: {text}"
            return f"{what} got {status}: {_said(text)}"
    return None


def _said(text: str) -> str:
    try:
        return str(json.loads(text)["error"])[:MAX_TEXT]
    except (ValueError, KeyError, TypeError):
        return text[:MAX_TEXT]
