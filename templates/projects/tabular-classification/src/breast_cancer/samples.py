"""From rows of text to the numbers that a model takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)
COLUMNS = (
    *(f"mean_{measure}" for measure in MEASURES),
    *(f"{measure}_error" for measure in MEASURES),
    *(f"worst_{measure}" for measure in MEASURES),
)
LABEL = "malignant"


@dataclass(frozen=True)
class Samples:
    """One row of `features` and one label (1: malignant) for each id."""

    ids: list[str]
    features: NDArray[np.float64]
    labels: NDArray[np.int64]


def make_samples(rows: Sequence[Mapping[str, str]]) -> Samples:
    """Samples of rows; a column that is missing or not a number is an error."""
    return Samples(
        ids=[row["id"] for row in rows],
        features=np.array([[float(row[column]) for column in COLUMNS] for row in rows]),
        labels=np.array([int(row[LABEL]) for row in rows]),
    )
