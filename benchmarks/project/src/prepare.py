"""Sorts the rows of a shop, without those that have no price: `prepare.py SHOP`."""

from __future__ import annotations

import sys
from pathlib import Path

from rows import parse, render


def prepare(text: str) -> str:
    return render(sorted(row for row in parse(text) if row[1] > 0))


if __name__ == "__main__":
    folder = Path("shops", sys.argv[1])
    (folder / "prepared.csv").write_text(prepare((folder / "data.csv").read_text()))
