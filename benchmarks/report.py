"""The table of what `benchmarks.scale` measured: costs, then each bound with holds or misses.

    python -m benchmarks.report benchmarks/results/scale.json

Comes in: the data of `scale.json`. Goes out: Markdown, and how many bounds are missed. A bound of
CPU and wall holds when both do: what is shown and counts is the worse of the two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import Samples

GROWTH = (
    "plan, nothing to do",
    "plan, one param changed",
    "plan, one data file changed",
    "plan, cold",
    "compile, nothing to do",
    "compile, cold",
    "apply",
)
MOST_GROWTH = 2.2
BY_STAGES = ("the commands alone", "apply", "dvc repro", "apply --jobs 1", "apply --jobs 2")
"""Work whose size is a number of stages; that of all other work is a number of models."""


@dataclass(frozen=True, slots=True)
class Bound:
    """What must hold. `value` and `limit` are in `unit`; `least` if more is better."""

    what: str
    value: float
    limit: float
    unit: str
    least: bool = False

    @property
    def holds(self) -> bool:
        return self.value >= self.limit if self.least else self.value <= self.limit

    def line(self) -> str:
        sign = ">=" if self.least else "<="
        verdict = "holds" if self.holds else "**misses**"
        measured, limit = f"{_short(self.value)} {self.unit}", f"{sign} {self.limit:g} {self.unit}"
        return f"| {self.what} | {measured} | {limit} | {verdict} |"


class Table:
    """Samples by work and size, with the questions that bounds ask."""

    def __init__(self, results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        self.samples = {
            work: {int(size): Samples(**given) for size, given in sizes.items()}
            for work, sizes in results.items()
        }

    def sizes(self, work: str) -> list[int]:
        return sorted(self.samples.get(work, {}))

    def medians(self, work: str, size: int) -> tuple[float, float]:
        """CPU and wall."""
        return self.samples[work][size].medians

    def ratios(self, work: str, size: int, peer: str, peer_size: int) -> tuple[float, float]:
        """Of CPU and of wall: how many times the peer's."""
        (cpu, wall), (cpu2, wall2) = self.medians(work, size), self.medians(peer, peer_size)
        return cpu / cpu2, wall / wall2


def render(data: Mapping[str, Any]) -> tuple[str, int]:
    """The Markdown, and the number of bounds that are missed."""
    table = Table(data["results"])
    bounds = [*_plans(table), *_applies(table), *_growth(table)]
    machine, software = data["machine"], data["software"]
    versions = ", ".join(f"{name} {version}" for name, version in sorted(software.items()))
    how = (
        f"{machine['cores']} cores, {machine['memory_gib']} GiB; {versions}. Medians of up to "
        f"{data['runs']} runs as child processes, CPU / wall in seconds; memory is the highest of "
        f"all runs. A model has two stages; the spec is written as `{data['spec']}`."
    )
    lines = [
        "# mlspec at scale",
        "",
        how,
        "",
        "![cost against the number of models](scale.png)",
        "",
        *_costs(table),
        "",
        "| bound | measured | must be | |",
        "|---|---|---|---|",
        *(bound.line() for bound in bounds),
    ]
    return "\n".join(lines) + "\n", sum(not bound.holds for bound in bounds)


def _costs(table: Table) -> Iterator[str]:
    sizes = table.sizes("plan, nothing to do")
    yield "| work | " + " | ".join(f"{size:,} models" for size in sizes) + " |"
    yield "|---" * (len(sizes) + 1) + "|"
    for work in table.samples:
        if work not in BY_STAGES:
            cells = (_cell(table, work, size) for size in sizes)
            yield f"| {work} | " + " | ".join(cells) + " |"
    memory = (f"{_memory(table, size) / 1e6:.0f} MB" for size in sizes)
    yield "| memory of plan and compile | " + " | ".join(memory) + " |"
    if any(table.sizes(work) for work in BY_STAGES):
        yield from ("", "| work | stages | CPU / wall |", "|---|---|---|")
    for work in BY_STAGES:
        for size in table.sizes(work):
            yield f"| {work} | {size} | {_cell(table, work, size)} |"


def _cell(table: Table, work: str, size: int) -> str:
    if size not in table.samples[work]:
        return "-"
    cpu, wall = table.medians(work, size)
    return f"{_short(cpu)} / {_short(wall)}"


def _memory(table: Table, size: int) -> int:
    return max(
        sizes[size].rss
        for work, sizes in table.samples.items()
        if work.startswith(("plan", "compile")) and size in sizes
    )


def _plans(table: Table) -> Iterator[Bound]:
    sizes = table.sizes("plan, nothing to do")
    most = sizes[-1]
    at = f", {most:,} models"
    noop = "plan, nothing to do"
    worst = max(table.ratios(noop, most, "git status", most))
    yield Bound(f"{noop}{at}: times `git status`", worst, 3, "x")
    yield Bound(f"{noop}{at}", max(table.medians(noop, most)), 1.5, "s")
    for size in table.sizes("dvc status"):
        worst = min(table.ratios("dvc status", size, noop, size))
        if size >= 1000:
            yield Bound(f"{noop}, {size:,} models: faster than `dvc status`", worst, 50, "x", True)
    for work in ("plan, one param changed", "plan, one data file changed"):
        worst = max(table.ratios(work, most, noop, most))
        yield Bound(f"{work}{at}: times {noop}", worst, 1.2, "x")
    yield Bound(f"plan, cold{at}: CPU", table.medians("plan, cold", most)[0], 10, "s")
    yield Bound(f"memory{at}", _memory(table, most) / 1e6, 500, "MB")
    yield Bound(f"compile, cold{at}", max(table.medians("compile, cold", most)), 30, "s")
    work = "compile, nothing to do"
    yield Bound(f"{work}{at}", max(table.medians(work, most)), 2, "s")


def _applies(table: Table) -> Iterator[Bound]:
    for stages in table.sizes("apply"):
        ours, alone = table.medians("apply", stages), table.medians("the commands alone", stages)
        over = max(mine - own for mine, own in zip(ours, alone, strict=True)) / stages * 1000
        yield Bound(f"apply, {stages} stages: over their own commands, each", over, 100, "ms")
        _, wall = table.ratios("dvc repro", stages, "apply", stages)
        yield Bound(f"apply, {stages} stages: throughput of `dvc repro`", wall, 5, "x", True)
    for stages in table.sizes("apply --jobs 2"):
        _, wall = table.ratios("apply --jobs 1", stages, "apply --jobs 2", stages)
        yield Bound(f"{stages} stages of 1 s: two jobs beside one", wall, 1.8, "x", True)


def _growth(table: Table) -> Iterator[Bound]:
    for work in GROWTH:
        for size in table.sizes(work):
            if 2 * size in table.samples[work]:
                worst = max(table.ratios(work, 2 * size, work, size))
                of = "stages" if work in BY_STAGES else "models"
                yield Bound(f"{work}: {size:,} to {2 * size:,} {of}", worst, MOST_GROWTH, "x")
    for size in table.sizes("plan, cold"):
        if 2 * size in table.samples["plan, cold"]:
            grown = _memory(table, 2 * size) / _memory(table, size)
            yield Bound(f"memory: {size:,} to {2 * size:,} models", grown, MOST_GROWTH, "x")


def _short(value: float) -> str:
    """Three digits that count."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> int:
    text, missed = render(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    sys.stdout.write(text)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
