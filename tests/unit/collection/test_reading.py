"""What gc must know of the ledger."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlspec.collection.reading import _changed, _snapshot_at
from mlspec.git import Git
from mlspec.ledger.entry import Entry
from mlspec.ledger.paths import state_path
from mlspec.ledger.records import ModelState
from mlspec.ledger.store import Ledger

DAY = 86400


def test_what_is_recent_is_so_though_a_later_clock_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    ledger = Ledger(Git(tmp_path))
    now = 1_700_000_000
    for model, ago in (("old", 90), ("recent", 3), ("wrong", 400)):
        monkeypatch.setattr("mlspec.ledger.store.time.time", lambda ago=ago: now - ago * DAY)
        ledger.record({state_path(model): ModelState(version=1)}, Entry(command="apply"))
    project = SimpleNamespace(ledger=ledger)
    before = _snapshot_at(project, now - 30 * DAY)  # type: ignore[arg-type]
    changed = _changed(project, before)  # type: ignore[arg-type]
    assert state_path("recent") in changed
    assert state_path("old") not in changed
    assert _snapshot_at(project, now - 900 * DAY).commit == ""  # type: ignore[arg-type]
