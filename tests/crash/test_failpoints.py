"""A fault at each failpoint; and that nothing with an effect has none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.crash
EFFECTS = {
    "executors.local._Process.__init__/Popen",
    "git.repository.Git.move_ref/move",
    "git.remote.Remote.push_together/Popen",
    "ledger.unfinished._write/fsync",
    "ledger.unfinished.at_work/unlink",
    "providers.rollouts.deploy/replace",
    "providers.files.write_file/replace",
    "dvc.objects.ObjectFolder.flush/replace",
}
"""Some that there must be, whatever else comes."""


def test_every_step_passes_a_failpoint(harness: dict[str, ModuleType], tmp_path: Path) -> None:
    passed: set[str] = set()
    for scenario in harness["sandbox"].SCENARIOS:
        sandbox = harness["sandbox"].make_sandbox(tmp_path / scenario, scenario)
        record = tmp_path / f"{scenario}.record"
        done = sandbox.mlspec("apply", "--yes", CRASH_RECORD=str(record))
        assert done.returncode == 0, done.stderr
        assert harness["failpoints"].load_missed(record) == []
        passed.update(harness["failpoints"].load_passed(record))
    assert passed >= EFFECTS


@pytest.mark.slow
def test_a_kill_at_every_failpoint(sweep: Callable[..., None]) -> None:
    sweep("--layer", "failpoints", "--each", "--jobs", "1")


@pytest.mark.thorough
def test_all_faults_at_failpoints(sweep: Callable[..., None]) -> None:
    sweep("--layer", "failpoints", "--points", "400", "--seed", "1")


@pytest.mark.thorough
def test_a_kill_of_the_apply_that_mends(sweep: Callable[..., None]) -> None:
    sweep("--layer", "failpoints", "--twice", "--points", "60", "--seed", "2")
