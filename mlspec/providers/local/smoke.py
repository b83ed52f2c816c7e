"""Asks a candidate, which has no port yet, for its readiness and for answers to the smoke rows."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

SMOKE_SECONDS = 10.0
MOST_WAITING = 5.0
NO_HEADERS: Mapping[str, str] = MappingProxyType({})


class SmokeFailed(Exception):
    """Which request was not answered as it should be, and how it was."""


def check_smoke(
    private: str, smoke: Sequence[Mapping[str, Any]], headers: Mapping[str, str] = NO_HEADERS
) -> None:
    """Send each row over the candidate's Unix socket; `SmokeFailed` at the first that fails.

    One that is told to come later does, for a while. `headers` are those of mlspec's own requests.
    """
    _check_answer(private, "readiness", "GET", "/readyz", None, headers)
    for number, row in enumerate(smoke, start=1):
        body = json.dumps({"rows": [row]})
        what = f"smoke request {number} of {len(smoke)}"
        _check_answer(private, what, "POST", "/predict", body, headers)


class PrivateConnection(http.client.HTTPConnection):
    """To a service that has no port, over its Unix socket."""

    def __init__(self, path: str, seconds: float = SMOKE_SECONDS) -> None:
        super().__init__("candidate", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _check_answer(
    private: str,
    what: str,
    method: str,
    path: str,
    body: str | None,
    own: Mapping[str, str],
) -> None:
    deadline = time.monotonic() + SMOKE_SECONDS
    while True:
        status, later, text = _ask(private, what, method, path, body, own)
        if not later or time.monotonic() > deadline:
            break
        time.sleep(min(float(later), MOST_WAITING))
    if status != http.client.OK:
        try:
            text = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            text = text[:200]
        raise SmokeFailed(f"{what} got {status}: {text}")


def _ask(
    private: str,
    what: str,
    method: str,
    path: str,
    body: str | None,
    own: Mapping[str, str],
) -> tuple[int, str, str]:
    """The status, in how many seconds to ask again if the service says so, and the text."""
    connection = PrivateConnection(private)
    try:
        headers = {"content-type": "application/json", "x-request-id": "smoke", **own}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
        return response.status, response.headers.get("retry-after", ""), text
    except (OSError, http.client.HTTPException) as error:
        raise SmokeFailed(f"{what} got no answer: {error}") from None
    finally:
        connection.close()
