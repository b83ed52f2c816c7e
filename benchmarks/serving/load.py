"""One burst of requests: wrk sends them, and the server's whole tree of processes is accounted."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True, slots=True)
class Burst:
    """CPU in seconds of user and system, of all processes of the server; latencies in seconds."""

    requests: int
    seconds: float
    failed: int
    p50: float
    p99: float
    cpu: float

    @property
    def cpu_each(self) -> float:
        """CPU milliseconds of a request."""
        return 1000 * self.cpu / self.requests

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self.requests / self.seconds


def send(url: str, body: Path, process: int, *, connections: int, seconds: float) -> Burst:
    """Send a body for some seconds, each time as soon as the answer to the last has come."""
    before = cpu_of(process)
    done = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "-s", SCRIPT, url],
        env={**os.environ, "BENCH_BODY": str(body)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    used = cpu_of(process) - before
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), "")
    if not line:
        raise SystemExit(f"wrk: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return Burst(**json.loads(line.removeprefix("RESULT ")), cpu=used)


def cpu_of(process: int) -> float:
    """CPU seconds of a process, of what it waited for, and of all that descends from it."""
    top = psutil.Process(process)
    return sum(map(_cpu, [top, *top.children(recursive=True)]))


def _cpu(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
        # Linux has a clock for each process, to the nanosecond; the times are in hundredths.
        own = time.clock_gettime((~process.pid << 3) | 2)
    except (psutil.NoSuchProcess, OSError):  # its parent has it now, among those it waited for
        return 0.0
    return own + times.children_user + times.children_system


def total_failed(bursts: Iterable[Burst]) -> int:
    return sum(burst.failed for burst in bursts)
