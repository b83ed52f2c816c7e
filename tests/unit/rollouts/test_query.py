"""What a Prometheus server answers, and what counts as no answer."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from mlspec.rollouts.judge import Query
from mlspec.rollouts.query import ask


class Prometheus(ThreadingHTTPServer):
    answer: tuple[int, bytes] = (200, b"")
    asked: str = ""


class Handler(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        assert parts.path == "/api/v1/query"
        [self.server.asked] = parse_qs(parts.query)["query"]
        status, body = self.server.answer
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    with Prometheus(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def query_of(prometheus: Prometheus) -> Query:
    url = f"http://127.0.0.1:{prometheus.server_address[1]}/"
    return Query(url, 'lost{version="$candidate"} / $champion', 1.0)


def vector(*values: str) -> bytes:
    series = [{"metric": {}, "value": [1.5, value]} for value in values]
    return json.dumps({"data": {"resultType": "vector", "result": series}}).encode()


SCALAR = json.dumps({"data": {"resultType": "scalar", "result": [1.5, "0.25"]}}).encode()


@pytest.mark.parametrize(
    ("status", "body", "number"),
    [
        (200, SCALAR, 0.25),
        (200, vector("0.5"), 0.5),
        (200, vector("0.5", "NaN", "0.75"), 0.75),
        (200, vector(), None),
        (200, vector("NaN"), None),
        (200, b"{}", None),
        (200, b"<html>", None),
        (200, b'{"data": {"resultType": "matrix", "result": [{"values": []}]}}', None),
        (400, b'{"status": "error"}', None),
    ],
)
def test_answers(prometheus: Prometheus, status: int, body: bytes, number: float | None) -> None:
    prometheus.answer = status, body
    assert ask(query_of(prometheus), candidate=4, champion=3) == number
    assert prometheus.asked == 'lost{version="4"} / 3'


def test_a_server_that_is_not_there(prometheus: Prometheus) -> None:
    query = query_of(prometheus)
    prometheus.server_close()
    assert ask(query, 4, 3) is None
