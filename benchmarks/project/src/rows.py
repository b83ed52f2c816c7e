"""Tables of two columns, as text."""

from __future__ import annotations

import csv
import io

Row = tuple[float, float]


def parse(text: str) -> list[Row]:
    return [(float(size), float(price)) for size, price in csv.reader(io.StringIO(text))]


def render(rows: list[Row]) -> str:
    return "".join(f"{size:g},{price:g}\n" for size, price in rows)
