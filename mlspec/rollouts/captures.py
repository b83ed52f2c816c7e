"""Predictions that are numbers, as services captured them: finer than the buckets of a histogram.

Comes in: the folder of captures of a deployment, in which each line of JSON has the version that
answered. Goes out: for each version how many predictions were in which range. The ranges are cut
where the first predictions of the champion have equal shares.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from statistics import quantiles

from mlspec.captures import read_rows

MOST_BYTES = 4 * 2**20
"""Read of each file at one look; of one that grows faster the newest part."""
FIRST = 200
"""Predictions of the champion by which the ranges are cut."""
RANGES = 10


class Captures:
    """What is captured from the moment on in which this is made."""

    def __init__(self, folder: Path, champion: int) -> None:
        self._folder = folder
        self._champion = champion
        self._read = {path: path.stat().st_size for path in folder.glob("*.jsonl")}
        self._values: dict[int, list[float]] = {}
        self._bounds: list[float] = []
        self._counts: dict[int, Counter[float]] = {}

    def look(self) -> None:
        """Take in what was written since the last look."""
        for path in sorted(self._folder.glob("*.jsonl")):
            for version, value in self._new(path):
                self._values.setdefault(version, []).append(value)
        first = self._values.get(self._champion, [])
        if not self._bounds and len(first) >= FIRST:
            self._bounds = sorted(set(quantiles(first, n=RANGES)))
        if self._bounds:
            for version, values in self._values.items():
                counts = self._counts.setdefault(version, Counter())
                counts.update(map(self._range, values))
            self._values.clear()

    def counts(self, version: int) -> Mapping[float, int]:
        """By the upper bound of each range; empty until there are ranges."""
        found = self._counts.get(version)
        if found is None:
            return {}
        return {bound: found[bound] for bound in (*self._bounds, math.inf)}

    def _range(self, value: float) -> float:
        place = bisect_left(self._bounds, value)
        return self._bounds[place] if place < len(self._bounds) else math.inf

    def _new(self, path: Path) -> Iterator[tuple[int, float]]:
        """The whole lines since the last look."""
        try:
            size = path.stat().st_size
            begin = max(self._read.get(path, 0), size - MOST_BYTES)
            with path.open("rb") as file:
                file.seek(begin)
                data = file.read(MOST_BYTES)
        except OSError:  # taken away, as the oldest are
            return
        whole = data.rfind(b"\n") + 1
        self._read[path] = begin + whole
        for row in chain.from_iterable(map(read_rows, data[:whole].split(b"\n"))):
            try:
                version, value = row["model_version"], row["output"]["prediction"]
                number = float(value) if type(value) in (int, float) else math.nan
            except (KeyError, TypeError, OverflowError):
                continue
            if isinstance(version, int) and math.isfinite(number):
                yield version, number
