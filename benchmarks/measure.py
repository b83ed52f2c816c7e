"""What a command costs, as a whole tree of processes: CPU, wall and memory."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PYTHON = sys.executable
BIN = Path(PYTHON).parent
MLSPEC, DVC = str(BIN / "mlspec"), str(BIN / "dvc")


@dataclass
class Samples:
    """A run each: CPU seconds (user and system), wall seconds; `rss` is the highest, in bytes.

    CPU is of the process and all that it waited for. Memory is of the largest of these.
    """

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    rss: int = 0

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.cpu), statistics.median(self.wall)

    def run(self, command: Sequence[str], cwd: Path, *, code: int = 0) -> None:
        """One run more."""
        began = time.monotonic()
        usage = run(command, cwd, code=code)
        self.wall.append(time.monotonic() - began)
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.rss = max(self.rss, usage.ru_maxrss * 1024)


def run(command: Sequence[str], cwd: Path, *, code: int = 0) -> os.struct_rusage:
    """Run to the end; what it used. Any other exit code ends the benchmark."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != code:
            said.seek(0)
            text = said.read().decode(errors="replace")
            raise SystemExit(f"{shown(command)}: exit {process.returncode}, not {code}\n{text}")
    return usage


def environment() -> dict[str, str]:
    """This one, with compiled modules kept and nothing sent anywhere."""
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**kept, "PATH": path, "DVC_NO_ANALYTICS": "1", "VIRTUAL_ENV": sys.prefix}


def shown(command: Sequence[str]) -> str:
    """A command without the folder of its program."""
    return " ".join([Path(command[0]).name, *command[1:]])


def machine() -> Mapping[str, int]:
    """All that is said of the machine: cores, and memory in GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {"cores": len(os.sched_getaffinity(0)), "memory_gib": round(memory / 2**30)}
