"""The load: what it counts of services that answer well, badly, or not at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from mlspec.traffic import Load, measure

Answer = Callable[[int, bytes], bytes]
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


@pytest.fixture
def serve() -> Iterator[Callable[[Answer], Load]]:
    """A service whose n-th answer on a connection is what a function gives; none ends it."""
    listener = socket.create_server(("127.0.0.1", 0))

    def converse(line: socket.socket, answer: Answer) -> None:
        with line:
            number = 0
            while data := line.recv(2**16):
                if not (said := answer(number, data)):
                    return
                line.sendall(said)
                number += 1

    def accept(answer: Answer) -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(line, answer), daemon=True).start()

    def start(answer: Answer) -> Load:
        threading.Thread(target=accept, args=(answer,), daemon=True).start()
        port = listener.getsockname()[1]
        return Load("127.0.0.1", port, "/predict", '{"rows":[]}', {"x-y": "z"}, 2, 0.5, 0.0)

    yield start
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_good_service(serve: Callable[[Answer], Load]) -> None:
    seen: list[bytes] = []

    def answer(_number: int, data: bytes) -> bytes:
        seen.append(data)
        return GOOD

    found = measure(serve(answer))
    assert found.requests == len(seen) >= 2
    assert found.statuses == {"200": found.requests}
    assert found.errors == 0
    assert found.p50 is not None and found.p99 is not None and found.longest is not None
    assert 0 < found.p50 <= found.p99 <= found.longest
    assert found.cpu is None
    assert seen[0].startswith(b"POST /predict HTTP/1.1\r\n")
    assert b"\r\nx-y: z\r\n" in seen[0]
    assert seen[0].endswith(b'\r\ncontent-length: 11\r\nx-y: z\r\n\r\n{"rows":[]}')


def test_refusals_and_lost_connections_are_errors(serve: Callable[[Answer], Load]) -> None:
    refusal = b"HTTP/1.1 422 No\r\ncontent-length: 0\r\n\r\n"

    def answer(number: int, _data: bytes) -> bytes:
        return (GOOD, refusal, b"")[min(number, 2)]

    found = measure(serve(answer))
    assert found.statuses.keys() == {"200", "422", "no answer"}
    assert found.errors == found.statuses["422"] + found.statuses["no answer"]
    assert found.requests == sum(found.statuses.values())


def test_a_connection_that_is_told_to_close_is_no_error(serve: Callable[[Answer], Load]) -> None:
    last = GOOD.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n")
    found = measure(serve(lambda number, _data: last if number == 1 else GOOD))
    assert found.requests > 2
    assert found.errors == 0


def test_answers_in_pieces(serve: Callable[[Answer], Load]) -> None:
    large = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1_000_000
    assert measure(serve(lambda _number, _data: large)).errors == 0


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of other processes")
def test_the_processor_time_of_the_service(serve: Callable[[Answer], Load]) -> None:
    load = serve(lambda _number, _data: GOOD)
    fields = {name: getattr(load, name) for name in Load.__slots__}
    done = subprocess.run(
        [sys.executable, "-m", "mlspec.traffic"],
        input=json.dumps({**fields, "seconds": 0.5, "processes": [os.getpid()]}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["cpu"] > 0


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    load = {
        "host": "127.0.0.1",
        "port": port,
        "path": "/",
        "body": "",
        "headers": {},
        "connections": 1,
        "seconds": 1,
        "warm_up": 0,
    }
    done = subprocess.run(
        [sys.executable, "-m", "mlspec.traffic"],
        input=json.dumps(load),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == {"problem": "Connection refused"}
