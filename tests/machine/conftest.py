"""A repository that was applied once, to be copied, and what is replaced around it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.machine.world import make_place, make_template, surroundings


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    with surroundings():
        place = make_place()
        make_template(place)
        yield place
        shutil.rmtree(place)
