"""The harness catches each of many ways to be wrong, and none where nothing is."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.crash
MOVED = "git.repository.Git.move_ref/move"
CAUGHT = {
    "file-written-in-place": ("edit", "providers.files.write_file/open:1:kill", "is torn"),
    "lock-written-in-place": ("edit", "dvc.objects.ObjectFolder.flush/open:2:kill", "is torn"),
    "file-not-synced": ("first", "durable", "before its data is on disk"),
    "folder-not-synced": ("first", "durable", "may not be on disk"),
    "lock-not-taken": ("edit", "locked", "two applies at once"),
    "effect-before-journal": ("edit", f"{MOVED}:1:kill", "does not tell"),
    "journal-gone-early": ("edit", f"{MOVED}:1:kill", "does not tell"),
    "interrupt-not-told": ("edit", f"{MOVED}:1:kill", "does not tell"),
    "record-before-effect": ("first", f"{MOVED}:1:kill", "storage: "),
    "ledger-not-compared": ("edit", "beside_a_writer", "entries of the audit are lost"),
    "push-by-force": ("edit", "beside_a_clone", "entries of the remote's audit are lost"),
    "entry-dropped": ("edit", "clean", "entries of the audit are lost"),
    "leftovers-stay": ("edit", "providers.files.write_file/open:1:kill", "temporary files"),
    "damage-not-seen": ("edit", "damaged", "does not see the damage"),
    "runs-forgotten": ("edit", f"{MOVED}:2:kill", "though it was recorded"),
    "deployed-twice": ("serve", "clean", "was done 2 times"),
    "error-swallowed": ("edit", "providers.files.write_file/fsync:1:enospc", "does not say"),
    "traceback-shown": ("edit", "ledger.lock.acquire/open:1:eio", "a traceback"),
}
"""For each: what is applied, the trial or the failpoint, and words of what the harness says."""


@pytest.fixture(scope="module")
def starts(harness: dict[str, ModuleType], tmp_path_factory: pytest.TempPathFactory) -> Any:
    place = tmp_path_factory.mktemp("starts")
    scenarios = {scenario for scenario, *_ in CAUGHT.values()}
    return {each: harness["sweep"].make_start(place / each, each) for each in scenarios}


@pytest.fixture
def find(harness: dict[str, ModuleType], starts: Any, tmp_path: Path) -> Any:
    """What the trial of a seeded fault finds, with it or without."""

    def find(name: str, seeded: str) -> list[str]:
        scenario, how, _ = CAUGHT[name]
        trials = harness["trials"]
        run = trials.fault(how) if ":" in how else getattr(trials, how)
        if how == "durable" and not shutil.which("strace"):
            pytest.skip("needs strace")
        return [*run(trials.Trial(starts[scenario], seeded, tmp_path / "box"))]

    return find


def test_there_is_a_trial_for_each(harness: dict[str, ModuleType]) -> None:
    assert harness["seeded"].SEEDED.keys() == CAUGHT.keys()


@pytest.mark.parametrize("name", CAUGHT)
def test_what_is_wrong_is_caught(name: str, find: Any) -> None:
    found = find(name, name)
    assert any(CAUGHT[name][2] in problem for problem in found), found


@pytest.mark.thorough
@pytest.mark.parametrize("name", CAUGHT)
def test_nothing_is_caught_where_nothing_is_wrong(name: str, find: Any) -> None:
    assert find(name, "") == []
