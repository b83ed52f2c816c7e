"""Asks a service for answers from the inside of its own container: no client's request is near.

Comes in: what a piece of Python printed there. Both pieces need nothing but the service's Python.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from mlspec.compilers.containerfile import OWN_TOKEN, PORT

MAX_TEXT = 200
SMOKE_SECONDS = 120.0
HEADERS_CODE = f"""
import json, os, sys, time, urllib.error, urllib.request
own = {{}}
if os.path.exists("{OWN_TOKEN}"):
    with open("{OWN_TOKEN}") as file:
        own["authorization"] = "Bearer " + file.read().strip()
"""
SMOKE_CODE = f"""{HEADERS_CODE}
def ask(row):
    request = urllib.request.Request(
        "http://127.0.0.1:{PORT}/predict",
        json.dumps({{"rows": [row]}}).encode(),
        {{"content-type": "application/json", "x-request-id": "smoke", **own}},
    )
    for left in range(10, -1, -1):
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return [answer.status, ""]
        except urllib.error.HTTPError as error:
            later = error.headers.get("retry-after")
            if not (left and later):
                return [error.code, error.read(2000).decode(errors="replace")]
            time.sleep(min(float(later), 5.0))
        except OSError as error:
            return [0, str(error)]
print(json.dumps([ask(row) for row in json.load(sys.stdin)]))
"""
READY_CODE = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/readyz', timeout=4)"
METRICS_SECONDS = 15.0
METRICS_CODE = f"""{HEADERS_CODE}
request = urllib.request.Request("http://127.0.0.1:{PORT}/metrics", headers=own)
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""


def smoke_input(rows: Sequence[Mapping[str, Any]]) -> str:
    """What :data:`SMOKE_CODE` reads."""
    return json.dumps([dict(row) for row in rows])


def judge_smoke(told: str, count: int) -> str | None:
    """Why one of `count` rows was not answered as it should be; nothing if all were."""
    try:
        answers = json.loads(told)
    except ValueError:
        return "its container did not say how it answered the smoke requests"
    for number, (status, text) in enumerate(answers, start=1):
        if status != 200:
            what = f"smoke request {number} of {count}"
            if not status:
                return f"{what} got no answer: {text}"
            return f"{what} got {status}: {_said(text)}"
    return None


def _said(text: str) -> str:
    try:
        return str(json.loads(text)["error"])[:MAX_TEXT]
    except (ValueError, KeyError, TypeError):
        return text[:MAX_TEXT]
