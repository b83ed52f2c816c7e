"""From rows of text to the numbers that a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

COLUMNS = ("age", "sex", "bmi", "bp", "tc", "ldl", "hdl", "tch", "ltg", "glu")
TARGET = "progression"


@dataclass(frozen=True)
class Samples:
    """One row of `features` and one true value for each id."""

    ids: list[str]
    features: NDArray[np.float64]
    values: NDArray[np.float64]


def make_samples(rows: Sequence[Mapping[str, str]]) -> Samples:
    """Samples of rows; a column that is missing or not a number is an error."""
    return Samples(
        ids=[row["id"] for row in rows],
        features=np.array([[float(row[column]) for column in COLUMNS] for row in rows]),
        values=np.array([float(row[TARGET]) for row in rows]),
    )
