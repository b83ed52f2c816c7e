"""What the agent tells Prometheus and whoever asks whether it is alive.

A thread serves `/metrics` and `/healthz` on an address of this machine; the agent replaces what
they say, as a whole, when something changed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from mlspec.errors import MlspecError
from mlspec.following.memory import Ending

LOCAL = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Telemetry:
    """The agent at one moment. `drift` is unknown when the spec cannot be read.

    `turned` is the monotonic time of its last sign of life, and `patience` the seconds within which
    the next is due; while it is `working`, none is. `succeeded` is a time since 1970.
    """

    commit: str = ""
    ended: Mapping[str, int] = field(default_factory=dict)
    drift: int | None = None
    succeeded: float | None = None
    reached: bool = True
    frozen: bool = False
    seconds: float = 0.0
    rounds: int = 0
    turned: float = 0.0
    patience: float = 60.0
    working: bool = False


class Board:
    """Holds what is told; written by the agent, read by the thread that serves."""

    def __init__(self) -> None:
        self.now = Telemetry(turned=time.monotonic())


def render_metrics(now: Telemetry, clock: float) -> str:
    """The metrics in Prometheus' text format; `clock` is in seconds since 1970."""
    name = "mlspec_reconcile"
    attempts = "".join(
        f'{name}_attempts_total{{outcome="{ending.name.lower()}"}} {now.ended.get(ending, 0)}\n'
        for ending in Ending
    )
    text = _head("last_applied_info", "gauge", "The commit that was applied last.")
    if now.commit:
        text += f'{name}_last_applied_info{{commit="{now.commit}"}} 1\n'
    text += _head("attempts_total", "counter", "Commits attempted, by outcome.") + attempts
    if now.drift is not None:
        text += _metric("drift_steps", "gauge", "Drift seen last, in steps.", now.drift)
    if now.succeeded is not None:
        since = max(0.0, clock - now.succeeded)
        about = "Seconds since a commit was applied whole."
        text += _metric("seconds_since_success", "gauge", about, round(since, 3))
    text += _metric("remote_reached", "gauge", "Whether the remote answered last.", now.reached)
    text += _metric("frozen", "gauge", "Whether a freeze keeps it from changing.", now.frozen)
    text += _metric("rounds_total", "counter", "Times it went round.", now.rounds)
    return text + _metric("duration_seconds", "gauge", "Of the last round.", round(now.seconds, 3))


def check_health(now: Telemetry, clock: float) -> tuple[int, dict[str, object]]:
    """A status of HTTP and what to say: 503 when the agent has not come round in time."""
    alive = now.working or clock - now.turned <= now.patience
    said = {"alive": alive, "commit": now.commit, "reached": now.reached, "drift": now.drift}
    return (200 if alive else 503), said


@contextmanager
def serve(address: str, board: Board) -> Iterator[int]:
    """Answer on `HOST:PORT` of this machine until the block ends; the port."""
    host, port = _parse(address)

    class Handler(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            if self.path == "/metrics":
                text = render_metrics(board.now, time.time())
                self._answer(200, "text/plain; version=0.0.4; charset=utf-8", text)
            elif self.path == "/healthz":
                status, said = check_health(board.now, time.monotonic())
                self._answer(status, "application/json", json.dumps(said) + "\n")
            else:
                self._answer(404, "text/plain; charset=utf-8", "there is /healthz and /metrics\n")

        def _answer(self, status: int, kind: str, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing: what the agent prints are its own events."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        raise MlspecError(
            f"cannot listen on {address}: {error.strerror}", hint="give --listen a free port"
        ) from error
    server.daemon_threads = True
    Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()


def _parse(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if host not in LOCAL or not port.isdecimal() or int(port) > 65535:
        raise MlspecError(
            f"{address!r} is not an address of this machine",
            hint="write 127.0.0.1:PORT; what is told there is for this machine alone",
        )
    return ("127.0.0.1" if host == "localhost" else host), int(port)


def _head(name: str, kind: str, about: str) -> str:
    return f"# HELP mlspec_reconcile_{name} {about}\n# TYPE mlspec_reconcile_{name} {kind}\n"


def _metric(name: str, kind: str, about: str, value: float) -> str:
    return _head(name, kind, about) + f"mlspec_reconcile_{name} {float(value)}\n"
