"""From rows of text to images: 8 x 8 pixels, each from 0 (paper) to 16 (ink)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SIDE = 8
COLUMNS = tuple(f"p{row}{column}" for row in range(SIDE) for column in range(SIDE))
LABEL = "digit"


@dataclass(frozen=True)
class Images:
    """One row of pixels, line by line, and one digit for each id."""

    ids: list[str]
    pixels: NDArray[np.float64]
    digits: NDArray[np.int64]


def make_images(rows: Sequence[Mapping[str, str]]) -> Images:
    """Images of rows; a pixel that is missing or not a number is an error."""
    return Images(
        ids=[row["id"] for row in rows],
        pixels=np.array([[float(row[column]) for column in COLUMNS] for row in rows]),
        digits=np.array([int(row[LABEL]) for row in rows]),
    )


def add_shifted(images: Images) -> Images:
    """The images, followed by copies moved one pixel up, down, left and right."""
    grid = images.pixels.reshape(-1, SIDE, SIDE)
    padded = np.pad(grid, ((0, 0), (1, 1), (1, 1)))
    moves = [(1, 1), (2, 1), (0, 1), (1, 2), (1, 0)]
    copies = [padded[:, top : top + SIDE, left : left + SIDE] for top, left in moves]
    return Images(
        ids=images.ids * len(moves),
        pixels=np.concatenate(copies).reshape(-1, SIDE * SIDE),
        digits=np.tile(images.digits, len(moves)),
    )
