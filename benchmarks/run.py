"""Measures mlspec beside DVC on the bundled example: `make bench`.

Each row is a command as a whole process tree: the median of runs that alternate with its peer, in
CPU seconds (user + system, of all processes that it waited for) and wall seconds. The ratio is
that of the medians of CPU. Prints a Markdown table and writes it to `benchmarks/results/`.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import DVC, MLSPEC, PYTHON, Samples, machine, run, shown

HERE = Path(__file__).parent


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
            run((MLSPEC, "destroy", "--yes"), example)
    text = "\n".join(lines) + "\n"
    sys.stdout.write(text)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    (results / "small.md").write_text(text, encoding="utf-8")
    return 1 if missed else 0


def _measure(example: Path, runs: int) -> tuple[list[str], int]:
    here = machine()
    lines = [
        "# mlspec beside DVC, one model of three stages",
        "",
        (
            f"{here['cores']} cores, {here['memory_gib']} GiB, Python {platform.python_version()}, "
            f"median of {runs} runs, CPU / wall seconds."
        ),
        "",
        "| what | mlspec | beside | | ratio of CPU | must be | |",
        "|---|---|---|---|---|---|---|",
    ]
    missed = 0
    for row in _rows(example):
        ours, theirs = Samples(), Samples()
        for number in range(runs + 1):
            for command, samples in ((row.command, ours), (row.peer, theirs)):
                if command is None:
                    continue
                if row.before is not None:
                    row.before(example, number)
                # the first warms caches
                (samples if number else Samples()).run(command, example)
        mine = ours.medians[0]
        peer = theirs.medians[0] if row.peer else 0.0
        holds = row.holds(mine, peer)
        missed += not holds
        lines.append(
            f"| {row.name} | {_shown(ours)} | {shown(row.peer) if row.peer else '-'} | "
            f"{_shown(theirs) if row.peer else '-'} | {f'{mine / peer:.2f}' if peer else '-'} | "
            f"{row.bound} | {'holds' if holds else '**missed**'} |"
        )
    return lines, missed


def _shown(samples: Samples) -> str:
    return "{:.2f} / {:.2f}".format(*samples.medians)


def _rows(example: Path) -> list[Row]:
    own = _own_seconds(example)
    typer = [PYTHON, "-c", "import typer"]
    return [
        Row("--version", [MLSPEC, "--version"], typer, "<= 2 x", lambda a, b: a <= 2 * b),
        Row("--help", [MLSPEC, "--help"], typer, "<= 2 x", lambda a, b: a <= 2 * b),
        Row(
            "plan, nothing to do",
            [MLSPEC, "plan"],
            [DVC, "status"],
            "<= 0.4 s CPU",
            lambda a, _: a <= 0.4,
        ),
        Row(
            "apply, nothing to do",
            [MLSPEC, "apply"],
            [DVC, "repro", "--all-pipelines"],
            "< dvc repro",
            lambda a, b: a < b,
        ),
        Row(
            f"apply, one stage changed (its own command: {own:.2f} s CPU)",
            [MLSPEC, "apply", "--yes"],
            [
                DVC,
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
    samples = Samples()
    for _ in range(5):
        samples.run((PYTHON, "src/evaluate.py"), example)
    return samples.medians[0]


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
        [MLSPEC, "apply", "--yes"],
    ):
        run(command, example)
    return example


def _without_deployment(spec: Path) -> None:
    """Serving is measured elsewhere; a stage that runs should not wait for a service to start."""
    import yaml

    data = yaml.safe_load(spec.read_text())
    data["defaults"].pop("deployments", None)
    for key in ("deployments", "targets"):
        data.pop(key, None)
    spec.write_text(json.dumps(data))


if __name__ == "__main__":
    sys.exit(main())
