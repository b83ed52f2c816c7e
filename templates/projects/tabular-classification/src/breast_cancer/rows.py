"""Rows of CSV files, as text: reading, writing and splitting them changes no digit."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path


def load_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, by column name."""
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def format_rows(rows: Sequence[Mapping[str, object]]) -> bytes:
    """CSV with the columns of the first row; no rows, no text."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    if rows:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def split_rows(
    rows: Iterable[dict[str, str]], test_share: float, seed: int
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Rows for training and rows for testing.

    The part of a row depends on its id and the seed alone: rows that come later move no other.
    """
    train: list[dict[str, str]] = []
    test: list[dict[str, str]] = []
    for row in rows:
        (test if _fraction(f"{seed}:{row['id']}") < test_share else train).append(row)
    return train, test


def _fraction(text: str) -> float:
    """A number from 0 to 1, as if drawn at random, but always the same for the same text."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) / 2**64
