"""What this machine has, and whether that is enough for a stage.

Comes in: what a stage wants. Goes out: nothing, or an error that says what is missing: `resources`
that nothing looks at would be a promise that nobody keeps.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.spec.models import Resources

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Machine:
    """This machine, as far as this process may use it; each thing is looked for once."""

    @cached_property
    def cpus(self) -> int:
        """Cores."""
        return count_cpus()

    @cached_property
    def memory(self) -> int | None:
        """Bytes; none where the system does not say."""
        return _memory()

    @cached_property
    def gpus(self) -> int:
        """Graphics processors; to count them may start a program."""
        return _count_gpus()

    def check(self, address: str, resources: Resources) -> None:
        """Raise unless this machine has what `resources` ask for."""
        missing = []
        if resources.cpus > self.cpus:
            missing.append(f"{resources.cpus:g} cpus ({self.cpus} here)")
        memory = self.memory
        if resources.memory is not None and memory is not None and resources.memory > memory:
            wanted = readable_size(resources.memory)
            missing.append(f"{wanted} of memory ({readable_size(memory)} here)")
        if resources.gpus and resources.gpus > self.gpus:
            missing.append(f"{resources.gpus} gpus ({self.gpus or 'none'} here)")
        if missing:
            raise MlspecError(
                f"{address} was not run: it wants {', '.join(missing)}",
                hint="run it on a machine that has them, or lower the stage's `resources`",
            )


def count_cpus() -> int:
    """The cores that this process may use: a container, or `taskset`, may leave it some only."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe_capacity() -> str:
    """What this machine has, in words."""
    memory = _memory()
    gpus = _count_gpus()
    parts = [f"{count_cpus()} cpus"]
    if memory is not None:
        parts.append(f"{readable_size(memory)} of memory")
    if gpus:
        parts.append(f"{gpus} gpus")
    return ", ".join(parts)


def readable_size(count: float) -> str:
    """Bytes, as people read them: `3.5 GiB`."""
    power = min(len(_UNITS) - 1, max(0, int(count).bit_length() - 1) // 10)
    return f"{count / 1024**power:.4g} {_UNITS[power]}"


def memory_groups() -> Iterator[Path]:
    """The control groups of this process that count its memory, the innermost first."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers == "" or "memory" in controllers.split(","):
                top = _CONTROL_GROUPS / "memory" if controllers else _CONTROL_GROUPS
                folder = top / group.lstrip("/")
                yield from (each for each in (folder, *folder.parents) if each.is_relative_to(top))


def _memory() -> int | None:
    """Bytes that a process may use at most, as far as the system says so."""
    limits = []
    with contextlib.suppress(OSError, ValueError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for group in memory_groups():
        for name in ("memory.max", "memory.limit_in_bytes"):
            with contextlib.suppress(OSError, ValueError):  # without a limit it says "max"
                limits.append(int((group / name).read_text()))
    return min(limits, default=None)


def _count_gpus() -> int:
    devices = [path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()]
    program = shutil.which("nvidia-smi")
    if devices or program is None:
        return len(devices)
    try:
        said = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in said.stdout.splitlines())
