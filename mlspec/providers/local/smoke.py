"""Asks a candidate, which has no port yet, for its readiness and for answers to the smoke rows."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping, Sequence
from typing import Any

SMOKE_SECONDS = 10.0


class SmokeFailed(Exception):
    """Which request was not answered as it should be, and how it was."""


def check_smoke(private: str, smoke: Sequence[Mapping[str, Any]]) -> None:
    """Send each row over the candidate's Unix socket; `SmokeFailed` at the first that fails."""
    _check_answer(private, "readiness", "GET", "/readyz", None)
    for number, row in enumerate(smoke, start=1):
        body = json.dumps({"rows": [row]})
        _check_answer(private, f"smoke request {number} of {len(smoke)}", "POST", "/predict", body)


class PrivateConnection(http.client.HTTPConnection):
    """To a service that has no port, over its Unix socket."""

    def __init__(self, path: str, seconds: float = SMOKE_SECONDS) -> None:
        super().__init__("candidate", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _check_answer(private: str, what: str, method: str, path: str, body: str | None) -> None:
    connection = PrivateConnection(private)
    try:
        headers = {"content-type": "application/json", "x-request-id": "smoke"}
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise SmokeFailed(f"{what} got no answer: {error}") from None
    finally:
        connection.close()
    if response.status != http.client.OK:
        try:
            text = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            text = text[:200]
        raise SmokeFailed(f"{what} got {response.status}: {text}")
