"""Every file that an apply gives its name to was written out before."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not shutil.which("strace"), reason="needs strace"),
]
CALLS = "trace=rename,fsync,fdatasync,sync_file_range"


@pytest.fixture
def traced(sandbox: Any, tmp_path: Path) -> list[str]:
    """What strace noted of an apply; calls of two threads in two halves are put together."""
    log = tmp_path / "strace.log"
    sandbox.check(
        *("strace", "-f", "-b", "execve", "-y", "-qq", "-o", str(log), "-e", CALLS),
        *("mlspec", "apply", "--yes"),
    )
    return log.read_text().splitlines()


def test_nothing_has_its_name_before_it_is_on_disk(traced: list[str], durable: ModuleType) -> None:
    assert sum(" rename(" in line for line in traced) > 5
    assert [*durable.find_hasty(traced)] == []


@pytest.mark.parametrize("call", ["fsync", "fdatasync|fsync|sync_file_range"])
def test_a_call_that_is_left_out_is_missed(
    traced: list[str], durable: ModuleType, call: str
) -> None:
    less = [line for line in traced if not re.search(rf" ({call})\(\d+<[^>]*\.mlspec-", line)]
    assert [*durable.find_hasty(less)]
