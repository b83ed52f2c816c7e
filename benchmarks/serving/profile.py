"""Where a service spends its time while it answers: py-spy looks at it some hundred times a second.

What C code does (event loop, parser, sockets, the model) counts for the Python function that called
it; what is left of the loop's own is that of `run`.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path

import psutil

from benchmarks.serving.turns import Lines, Side

SECONDS = 8
SHOWN = 16


def profile(side: Side, folder: Path, *, connections: int) -> list[tuple[str, float]]:
    """Functions with the most time of their own, and their shares; empty without py-spy, or where
    it is not let look."""
    program = shutil.which("py-spy")
    if program is None:
        return []
    worker = max(
        psutil.Process(side.process).children(recursive=True) or [psutil.Process(side.process)],
        key=lambda process: process.memory_info().rss,
    )
    found = folder / "profile.txt"
    command = [
        program, "record", "--pid", str(worker.pid), "--duration", str(SECONDS), "--rate", "400",
        "--format", "raw", "--function", "--output", str(found), "--nonblocking",
    ]  # fmt: skip
    lines = Lines(side, connections)
    looking = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while looking.poll() is None:
        lines.ask(20)
    lines.close()
    if looking.returncode or not found.exists():
        return []
    counts: Counter[str] = Counter()
    for line in found.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        counts[_short(stack.rpartition(";")[2])] += int(count)
    total = sum(counts.values())
    return [(name, count / total) for name, count in counts.most_common(SHOWN)]


def _short(frame: str) -> str:
    """`name (file)` with no more of the file's path than tells it."""
    name, _, path = frame.rstrip(")").partition(" (")
    return f"{name} ({'/'.join(Path(path).parts[-2:])})"
