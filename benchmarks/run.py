"""Measures mlspec beside DVC on the bundled example: `make bench`.

Each row is a command as a whole process tree: the median of runs that alternate with its peer, in
CPU seconds (user + system, of all processes that it waited for) and wall seconds. The ratio is
that of the medians of CPU. Prints a Markdown table and writes it to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
PYTHON = sys.executable
BIN = Path(PYTHON).parent


@dataclass
class Measured:
    """Seconds of each run."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def shown(self) -> str:
        return f"{statistics.median(self.cpu):.2f} / {statistics.median(self.wall):.2f}"


@dataclass(frozen=True)
class Row:
    """A claim: what is measured, beside which peer, and what it must be."""

    name: str
    command: list[str]
    peer: list[str] | None
    bound: str
    holds: Callable[[float, float], bool]
    """Given the medians of CPU of the command and of its peer (0 without one)."""
    before: Callable[[Path, int], None] | None = None


def main() -> int:
    """Measure every row; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", "--runs", type=int, default=7)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mlspec-bench-") as folder:
        example = _applied_example(Path(folder))
        try:
            lines, missed = _measure(example, options.runs)
        finally:
            _run([str(BIN / "mlspec"), "destroy", "--yes"], example)
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "small.md").write_text(text, encoding="utf-8")
    return 1 if missed else 0


def _measure(example: Path, runs: int) -> tuple[list[str], int]:
    cores = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    lines = [
        "# mlspec beside DVC, one model of three stages",
        "",
        (
            f"{cores} cores, {memory:.0f} GiB, Python {platform.python_version()}, "
            f"median of {runs} runs, CPU / wall seconds."
        ),
        "",
        "| what | mlspec | beside | | ratio of CPU | must be | |",
        "|---|---|---|---|---|---|---|",
    ]
    missed = 0
    for row in _rows(example):
        ours, theirs = Measured(), Measured()
        for number in range(runs + 1):
            for command, measured in ((row.command, ours), (row.peer, theirs)):
                if command is None:
                    continue
                if row.before is not None:
                    row.before(example, number)
                cpu, wall = _timed(command, example)
                if number:  # the first warms caches
                    measured.cpu.append(cpu)
                    measured.wall.append(wall)
        mine = statistics.median(ours.cpu)
        peer = statistics.median(theirs.cpu) if row.peer else 0.0
        holds = row.holds(mine, peer)
        missed += not holds
        lines.append(
            f"| {row.name} | {ours.shown()} | {_name(row.peer)} | "
            f"{theirs.shown() if row.peer else '-'} | {f'{mine / peer:.2f}' if peer else '-'} | "
            f"{row.bound} | {'holds' if holds else '**missed**'} |"
        )
    return lines, missed


def _name(command: list[str] | None) -> str:
    """A command without the folder of its program."""
    return " ".join([Path(command[0]).name, *command[1:]]) if command else "-"


def _rows(example: Path) -> list[Row]:
    mlspec, dvc = str(BIN / "mlspec"), str(BIN / "dvc")
    own = _own_seconds(example)
    typer = [PYTHON, "-c", "import typer"]
    return [
        Row("--version", [mlspec, "--version"], typer, "<= 2 x", lambda a, b: a <= 2 * b),
        Row("--help", [mlspec, "--help"], typer, "<= 2 x", lambda a, b: a <= 2 * b),
        Row(
            "plan, nothing to do",
            [mlspec, "plan"],
            [dvc, "status"],
            "<= 0.4 s CPU",
            lambda a, _: a <= 0.4,
        ),
        Row(
            "apply, nothing to do",
            [mlspec, "apply"],
            [dvc, "repro", "--all-pipelines"],
            "< dvc repro",
            lambda a, b: a < b,
        ),
        Row(
            f"apply, one stage changed (its own command: {own:.2f} s CPU)",
            [mlspec, "apply", "--yes"],
            [
                dvc,
                "repro",
                "--all-pipelines",
                "--force",
                "pipelines/breast-cancer/dvc.yaml:evaluate",
            ],
            "<= 1.5 s CPU over its own command",
            lambda a, _: a - own <= 1.5,
            before=_edit_evaluation,
        ),
    ]


def _own_seconds(example: Path) -> float:
    runs = [_timed([PYTHON, "src/evaluate.py"], example)[0] for _ in range(5)]
    return statistics.median(runs)


def _edit_evaluation(example: Path, number: int) -> None:
    """A change that runs one stage and moves no metric; the candidate is judged and registered."""
    path = example / "src" / "evaluate.py"
    lines = [line for line in path.read_text().splitlines() if not line.startswith("# run ")]
    path.write_text("\n".join([*lines, f"# run {number} {time.time_ns()}"]) + "\n")


def _applied_example(folder: Path) -> Path:
    example = folder / "bench"
    shutil.copytree(HERE.parent / "examples" / "tabular-classification", example)
    _without_deployment(example / "mlspec.yaml")
    for command in (
        ["git", "init", "-q", "-b", "main", "."],
        ["git", "add", "."],
        ["git", "-c", "user.name=b", "-c", "user.email=b@example.org", "commit", "-qm", "start"],
        [str(BIN / "mlspec"), "apply", "--yes"],
    ):
        _run(command, example)
    return example


def _without_deployment(spec: Path) -> None:
    """Serving is measured elsewhere; a stage that runs should not wait for a service to start."""
    import yaml

    data = yaml.safe_load(spec.read_text())
    data["defaults"].pop("deployments", None)
    for key in ("deployments", "targets"):
        data.pop(key, None)
    spec.write_text(json.dumps(data))


def _run(command: list[str], cwd: Path) -> None:
    done = subprocess.run(command, cwd=cwd, env=_environment(), capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command} failed:\n{done.stdout.decode()}\n{done.stderr.decode()}")


def _timed(command: list[str], cwd: Path) -> tuple[float, float]:
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    _run(command, cwd)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began


def _environment() -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}


if __name__ == "__main__":
    sys.exit(main())
