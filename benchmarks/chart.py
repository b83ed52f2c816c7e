"""Draws what commands cost against the number of models.

    python -m benchmarks.chart benchmarks/results/scale.json

Comes in: the data of `scale.json`. Goes out: a PNG beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.report import Table

LINES = {
    "dvc status": ("dvc status", "#b3541e", "-"),
    "plan, cold": ("mlspec plan, without its cache", "#7fa8d1", "-"),
    "plan, one data file changed": ("mlspec plan, one change", "#4a7fb5", "--"),
    "plan, nothing to do": ("mlspec plan, nothing to do", "#1f4e79", "-"),
    "git status": ("git status", "#666666", "-"),
}
"""What is drawn: its label, colour and style."""
APART = 1.35
"""Labels are kept apart by this factor on the axis of seconds."""


def draw(data: Mapping[str, Any], path: Path) -> None:
    """The chart, on two logarithmic axes."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    table = Table(data["results"])
    figure, axes = pyplot.subplots(figsize=(9, 5.6), dpi=150)
    ends = {}
    for work, (label, color, style) in LINES.items():
        sizes = table.sizes(work)
        if sizes:
            seconds = [table.medians(work, size)[0] for size in sizes]
            axes.plot(sizes, seconds, color=color, linestyle=style, marker="o", linewidth=2)
            ends[label] = (sizes[-1], seconds[-1], color)
    sizes = table.sizes("plan, nothing to do")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(y=0.12)
    floor = 0.0
    for label, (size, seconds, color) in sorted(ends.items(), key=lambda item: item[1][1]):
        # a line that ends early has its label above that end: nothing else is there
        height = seconds * 1.25 if size < sizes[-1] else max(seconds, floor * APART)
        if size == sizes[-1]:
            floor = height
        axes.annotate(
            f"{label}: {seconds:.2g} s",
            (size, seconds),
            xytext=(size * 1.12 if size == sizes[-1] else size, height),
            color=color,
            va="center" if size == sizes[-1] else "bottom",
            ha="left" if size == sizes[-1] else "right",
            annotation_clip=False,
        )
    axes.set_xticks(sizes)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(which="major", color="#dddddd", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("models in the repository, each with two stages")
    axes.set_ylabel("CPU seconds, median")
    machine = data["machine"]
    axes.set_title(
        f"What looking costs ({machine['cores']} cores, {machine['memory_gib']} GiB)", loc="left"
    )
    figure.subplots_adjust(left=0.09, right=0.65, top=0.92, bottom=0.11)
    figure.savefig(path, metadata={"Software": None})
    pyplot.close(figure)


def main() -> int:
    source = Path(sys.argv[1])
    draw(json.loads(source.read_text(encoding="utf-8")), source.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
