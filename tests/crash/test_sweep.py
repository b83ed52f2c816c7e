"""A sample of the sweep; all of it is `make crash-full`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = Path(__file__).with_name("sweep.py")


def sweep(*options: str) -> None:
    done = subprocess.run(
        [sys.executable, str(SWEEP), *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 wrong" in done.stdout, done.stdout


needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")


@needs_strace
@pytest.mark.slow
@pytest.mark.crash
def test_a_fault_at_a_few_calls() -> None:
    sweep("--points", "16", "--jobs", "1")


@needs_strace
@pytest.mark.thorough
@pytest.mark.crash
def test_a_fault_at_many_calls() -> None:
    sweep("--points", "300", "--seed", "1")
