"""What gc must know of the ledger."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlspec.collection.reading import (
    _changed,
    _snapshot_at,
    _under_every_name,
    _versions,
    find_shelves,
)
from mlspec.dvc.client import Dvc
from mlspec.git import Git
from mlspec.ledger.entry import Entry
from mlspec.ledger.paths import candidate_path, state_path, version_path
from mlspec.ledger.records import Candidate, File, ModelState, Version
from mlspec.ledger.state import Recorded
from mlspec.ledger.store import Ledger
from mlspec.planner.known import Pin
from mlspec.spec.models import Move, Quarantine
from mlspec.spec.moves import renames_of

DAY = 86400


@pytest.fixture
def git(tmp_path: Path) -> Git:
    subprocess.run(["git", "init", "--quiet", tmp_path / "project"], check=True)
    return Git(tmp_path / "project")


def write_settings(git: Git, text: str) -> None:
    (git.root / ".dvc").mkdir()
    (git.root / ".dvc/config").write_text(text)


STORAGE = "[core]\n    remote = s\n['remote \"s\"']\n    url = ../../storage\n"


@pytest.mark.parametrize(
    ("settings", "closed"),
    [
        ({}, False),
        ({"remote.origin.url": "/x"}, False),
        ({"remote.origin.url": "/x", "mlspec.remote": ""}, True),
        ({"remote.upstream.url": "/x"}, True),
        ({"remote.upstream.url": "/x", "mlspec.remote": "upstream"}, False),
    ],
)
def test_storage_is_closed_where_no_remote_is_asked(
    git: Git, settings: dict[str, str], closed: bool
) -> None:
    for key, value in settings.items():
        git.run("config", key, value)
    write_settings(git, STORAGE)
    shelves = find_shelves(git, Dvc(git.root))
    assert ([*shelves.by_name], [*shelves.closed]) == (["cache", "storage"], ["storage"] * closed)


@pytest.mark.parametrize("unusual", ["", "    verify = true\n"])
def test_a_cache_that_is_a_link_to_anothers_is_left_alone(
    git: Git, tmp_path: Path, unusual: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = str(git.root / ".dvc/cache")
    monkeypatch.setattr(Dvc, "places", lambda _: {"cache": cache, "storage": "s3://there"})
    write_settings(git, STORAGE + unusual)
    (tmp_path / "shared").mkdir()
    (git.root / ".dvc/cache").symlink_to(tmp_path / "shared")
    shelves = find_shelves(git, Dvc(git.root))
    assert [*shelves.by_name] == ["storage"]
    assert shelves.left_alone == (
        f"DVC's cache is {tmp_path}/shared, which other projects may share",
    )


def test_what_is_recent_is_so_though_a_later_clock_was_wrong(
    git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(git)
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


RENAMES = renames_of([Move.model_validate({"from": "model.old", "to": "model.new"})])


def test_a_pin_counts_for_every_name_that_its_model_had() -> None:
    pins = (Pin("old", 3, "main"), Pin("other", None, "main"), Pin("", 7, "main"))
    assert {*_under_every_name(pins, RENAMES)} == {*pins, Pin("new", 3, "main")}
    assert {pin.model for pin in _under_every_name([Pin("new", 3, "main")], RENAMES)} == {
        "old",
        "new",
    }


def test_a_version_is_quarantined_by_any_spec_and_before_its_rename_is_applied(git: Git) -> None:
    ledger = Ledger(git)
    common = {"fingerprint": "f" * 64, "stages": {}, "commit": ""}
    artifact = File(path="models/m.onnx", md5="a" * 32, size=1, format="onnx")
    version = Version(
        **common, model="old", number=1, artifact=artifact, signature=None, metrics={}, verdicts=()
    )
    candidate = Candidate(**common, status="accepted", version=1)
    records = {version_path("old", 1): version, candidate_path("old", "f" * 64): candidate}
    ledger.record(records, Entry(command="apply"))
    bad = (Quarantine(version=1, reason="bad"),)
    for quarantine, elsewhere, good in (((), (2,), True), (bad, (), False), ((), (1,), False)):
        spec = SimpleNamespace(models={"new": SimpleNamespace(quarantine=quarantine)})
        project = SimpleNamespace(
            loaded=SimpleNamespace(spec=spec), moves=SimpleNamespace(renames=RENAMES)
        )
        (fact,) = _versions(project, Recorded(ledger.snapshot), frozenset(), elsewhere)  # type: ignore[arg-type]
        assert fact.good is good
