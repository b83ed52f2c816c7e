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
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.spec.models import Resources

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
_CONTROL_GROUPS = Path("/sys/fs/cgroup")


def check_capacity(address: str, resources: Resources) -> None:
    """Raise unless this machine has what `resources` ask for."""
    missing = []
    cpus = os.cpu_count() or 1
    if resources.cpus > cpus:
        missing.append(f"{resources.cpus:g} cpus ({cpus} here)")
    memory = _memory()
    if resources.memory is not None and memory is not None and resources.memory > memory:
        missing.append(f"{_size(resources.memory)} of memory ({_size(memory)} here)")
    if resources.gpus > (gpus := _count_gpus() if resources.gpus else 0):
        missing.append(f"{resources.gpus} gpus ({gpus or 'none'} here)")
    if missing:
        raise MlspecError(
            f"{address} was not run: it wants {', '.join(missing)}",
            hint="run it on a machine that has them, or lower the stage's `resources`",
        )


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


def _size(count: float) -> str:
    power = min(len(_UNITS) - 1, max(0, int(count).bit_length() - 1) // 10)
    return f"{count / 1024**power:.4g} {_UNITS[power]}"
