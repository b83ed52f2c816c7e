"""Asks a Prometheus server for a number: an instant query of its HTTP API.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from string import Template
from typing import Any

from mlspec.rollouts.judge import Query

SECONDS = 5.0
MAX_BYTES = 2**20


def ask(query: Query, candidate: int, champion: int) -> float | None:
    """The number that an expression comes to; of several series, the highest.

    `$candidate` and `$champion` in it are the two versions. Nothing while there is no number: no
    series yet, a server that does not answer, an expression that it refuses.
    """
    versions = {"candidate": str(candidate), "champion": str(champion)}
    text = Template(query.expression).safe_substitute(versions)
    address = f"{query.url.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': text})}"
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as answer:
            found = json.loads(answer.read(MAX_BYTES))
        return _number(found["data"]["resultType"], found["data"]["result"])
    except (OSError, ValueError, KeyError, IndexError, TypeError, http.client.HTTPException):
        return None


def _number(kind: str, result: Any) -> float | None:
    """`[seconds, "1.5"]` of a scalar; of a vector, that of each series."""
    pairs = [result] if kind == "scalar" else [series["value"] for series in result]
    values = [value for _, text in pairs if not math.isnan(value := float(text))]
    return max(values, default=None)
