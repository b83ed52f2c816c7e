"""A sample of the sweep of calls of the system; all of it is `make crash-full`."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
]


@pytest.mark.slow
def test_a_fault_at_a_few_calls(sweep: Callable[..., None]) -> None:
    sweep("--layer", "calls", "--points", "16", "--jobs", "1")


@pytest.mark.thorough
def test_a_fault_at_many_calls(sweep: Callable[..., None]) -> None:
    sweep("--layer", "calls", "--points", "300", "--seed", "1")
