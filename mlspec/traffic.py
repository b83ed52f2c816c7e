"""`python -m mlspec.traffic`: sends one request over and over, and says how fast it is answered.

Settings are JSON on standard input (:class:`Load`), results JSON on standard output
(:class:`Measured`). A process of its own, with nothing but sockets: a client that is slower than
the service would measure itself. Only the standard library is imported.
"""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

RECEIVED = 256 * 2**10
ANSWER_SECONDS = 30.0
MOST_TIMES = 2_000_000


@dataclass(frozen=True, slots=True)
class Load:
    """What is sent: `connections` at once, each asks again when it has its answer.

    `processes` are those whose processor time is counted, where the system tells it.
    """

    host: str
    port: int
    path: str
    body: str
    headers: dict[str, str]
    connections: int
    seconds: float
    warm_up: float
    processes: tuple[int, ...] = ()


@dataclass(slots=True)
class Measured:
    """What came of it. Times are milliseconds; `cpu` is that of the service for each request."""

    connections: int
    requests: int
    seconds: float
    per_second: float
    p50: float | None
    p95: float | None
    p99: float | None
    longest: float | None
    errors: int
    statuses: dict[str, int]
    cpu: float | None
    client_cpu: float = 0.0
    """The share of one processor that the client itself used: near 1, it was the limit."""


class _Line:
    """A connection that is kept, and the answer that it waits for."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.socket = socket.create_connection(address, timeout=ANSWER_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()
        self.expected = -1
        self.status = 0
        self.last = False
        self.sent = 0.0

    def send(self, request: bytes) -> None:
        self.received.clear()
        self.expected = -1
        self.sent = time.perf_counter()
        self.socket.sendall(request)

    def receive(self) -> bool:
        """Whether the answer is whole; `ConnectionError` if it never will be."""
        data = self.socket.recv(RECEIVED)
        if not data:
            raise ConnectionResetError
        self.received += data
        if self.expected < 0:
            end = self.received.find(b"\r\n\r\n")
            if end < 0:
                return False
            self._read_head(bytes(self.received[:end]).lower(), end + 4)
        return len(self.received) >= self.expected

    def _read_head(self, head: bytes, size: int) -> None:
        self.status = int(head[9:12])
        at = head.find(b"\r\ncontent-length:")
        if at < 0:
            raise ConnectionResetError  # a service that is mlspec's always says it
        self.expected = size + int(head[at + 17 :].split(b"\r\n", 1)[0])
        self.last = b"\r\nconnection: close" in head


@dataclass(slots=True)
class _Tally:
    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    requests: int = 0
    lost: int = 0


def measure(load: Load) -> Measured:
    """Send for some seconds to warm up, then for those that count."""
    request = _make_request(load)
    if load.warm_up:
        _send(load, request, load.warm_up)
    cpu, own, began = _cpu_seconds(load.processes), time.process_time(), time.perf_counter()
    tally = _send(load, request, load.seconds)
    took, own = time.perf_counter() - began, time.process_time() - own
    after = _cpu_seconds(load.processes)
    used = None if cpu is None or after is None else after - cpu
    times = sorted(tally.times)
    good = tally.statuses[200]
    return Measured(
        connections=load.connections,
        requests=tally.requests,
        seconds=round(took, 3),
        per_second=round(good / took, 1),
        p50=_quantile(times, 0.50),
        p95=_quantile(times, 0.95),
        p99=_quantile(times, 0.99),
        longest=_quantile(times, 1.0),
        errors=tally.requests - good,
        statuses={
            **{str(status): count for status, count in sorted(tally.statuses.items())},
            **({"no answer": tally.lost} if tally.lost else {}),
        },
        cpu=None if used is None or not tally.requests else round(1000 * used / tally.requests, 4),
        client_cpu=round(own / took, 3),
    )


def _make_request(load: Load) -> bytes:
    body = load.body.encode()
    fields = {
        "host": f"{load.host}:{load.port}",
        "content-type": "application/json",
        "content-length": str(len(body)),
        **load.headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {load.path} HTTP/1.1\r\n{head}\r\n".encode("ascii") + body


def _send(load: Load, request: bytes, seconds: float) -> _Tally:
    tally = _Tally()
    address = (load.host, load.port)
    with selectors.DefaultSelector() as selector:

        def begin() -> None:
            line = _Line(address)
            selector.register(line.socket, selectors.EVENT_READ, line)
            line.send(request)

        def end(line: _Line) -> None:
            selector.unregister(line.socket)
            line.socket.close()

        for _ in range(load.connections):
            begin()
        until = time.perf_counter() + seconds
        while selector.get_map() and (now := time.perf_counter()) < until + ANSWER_SECONDS:
            for key, _ in selector.select(0.1):
                line: _Line = key.data
                try:
                    if not line.receive():
                        continue
                    now = time.perf_counter()
                    tally.requests += 1
                    tally.statuses[line.status] += 1
                    if len(tally.times) < MOST_TIMES:
                        tally.times.append(1000 * (now - line.sent))
                    if now >= until:
                        end(line)
                    elif line.last:
                        end(line)
                        begin()
                    else:
                        line.send(request)
                except (ConnectionError, ValueError):
                    tally.requests += 1
                    tally.lost += 1
                    end(line)
                    if time.perf_counter() < until:
                        begin()
        for key in [*selector.get_map().values()]:
            tally.requests += 1
            tally.lost += 1
            end(key.data)
    return tally


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """Nearest rank; nothing of nothing."""
    if not ordered:
        return None
    return round(ordered[max(0, -int(-share * len(ordered) // 1) - 1)], 3)


def _cpu_seconds(processes: Sequence[int]) -> float | None:
    """What processes have used so far, with those that they started; only Linux tells."""
    if not processes:
        return None
    ticks = 0
    try:
        for process in processes:
            ticks += _ticks(process)
            for child in _below(process):
                with suppress(OSError):  # one that ended just now
                    ticks += _ticks(child)
    except (OSError, ValueError, IndexError):
        return None
    return ticks / os.sysconf("SC_CLK_TCK")


def _ticks(process: int) -> int:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def _below(process: int) -> Iterator[int]:
    """The processes that one started, and those that these did; `OSError` if nobody tells."""
    for task in Path(f"/proc/{process}/task").iterdir():
        try:
            children = (task / "children").read_text().split()
        except OSError:
            if task.exists():
                raise
            continue  # a thread that ended just now
        for child in map(int, children):
            yield child
            with suppress(OSError):
                yield from _below(child)


def main() -> None:
    settings = json.load(sys.stdin)
    try:
        answer = asdict(measure(Load(**settings)))
    except OSError as error:
        answer = {"problem": error.strerror or type(error).__name__}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
