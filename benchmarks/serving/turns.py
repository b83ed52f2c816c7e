"""Two services beside each other in turns of some milliseconds, for differences of some percent.

What else the machine does, and how hot it is, falls on both alike. The CPU of a whole round counts,
also what a service does after its turn, such as writing what it has put aside.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from urllib.parse import urlsplit

from benchmarks.serving.load import cpu_of

ROUND_SECONDS = 2.0
TURN = 20
"""Requests of each connection in a turn."""


@dataclass(frozen=True, slots=True)
class Side:
    """One of both: the first process of its tree, where it answers, what it is asked."""

    process: int
    url: str
    body: bytes


def compare(one: Side, other: Side, *, connections: int, rounds: int) -> float:
    """CPU of a request of `one`, as times that of `other`; the median of all rounds."""
    sides = one, other
    lines = [Lines(side, connections) for side in sides]
    ratios = []
    for number in range(rounds + 1):
        before = [cpu_of(side.process) for side in sides]
        asked = [0, 0]
        until = time.monotonic() + ROUND_SECONDS
        while time.monotonic() < until:
            for place in (0, 1) if number % 2 else (1, 0):
                lines[place].ask(TURN)
                asked[place] += TURN * connections
        used = [cpu_of(side.process) - spent for side, spent in zip(sides, before, strict=True)]
        if number:  # the first warms up
            ratios.append(used[0] / asked[0] / (used[1] / asked[1]))
    for each in lines:
        each.close()
    return median(ratios)


class Lines:
    """Connections that all ask, and then all wait for their answers."""

    def __init__(self, side: Side, connections: int) -> None:
        place = urlsplit(side.url)
        head = f"POST {place.path} HTTP/1.1\r\nhost: {place.netloc}\r\n"
        head += f"content-type: application/json\r\ncontent-length: {len(side.body)}\r\n\r\n"
        self._request = head.encode() + side.body
        address = place.hostname or "", place.port or 80
        self._sockets = [socket.create_connection(address, 30) for _ in range(connections)]
        for line in self._sockets:
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._length = 0
        self._length = self._first_length()

    def ask(self, times: int) -> None:
        for _ in range(times):
            for line in self._sockets:
                line.sendall(self._request)
            for line in self._sockets:
                left = self._length
                while left > 0:
                    left -= len(_received(line))
                if left:
                    raise SystemExit("answers to the same question differ in length")

    def close(self) -> None:
        for line in self._sockets:
            line.close()

    def _first_length(self) -> int:
        """Of the answer, which is the same each time but for its id."""
        line = self._sockets[0]
        line.sendall(self._request)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += _received(line)
        head, _, body = answer.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not answered: {answer[:200]!r}")
        told: Sequence[bytes] = head.lower().split(b"content-length:")
        length = int(told[1].split(b"\r\n")[0])
        while len(body) < length:
            body += _received(line)
        return len(head) + 4 + length


def _received(line: socket.socket) -> bytes:
    data = line.recv(65536)
    if not data:
        raise SystemExit("the service closed a connection")
    return data
