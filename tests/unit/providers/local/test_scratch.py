"""Folders of commands: gone with them, also if they were killed, and never while they live."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from mlspec.providers.local.scratch import LOCK, NEW_SECONDS, PREFIX, make_scratch


@pytest.fixture(autouse=True)
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def make_old(folder: Path) -> None:
    long_ago = folder.stat().st_mtime - 2 * NEW_SECONDS
    os.utime(folder, (long_ago, long_ago))


def test_it_is_there_while_it_is_wanted(parent: Path) -> None:
    with make_scratch() as folder:
        (folder / "file").touch()
        assert folder.parent == parent
        assert folder.stat().st_mode & 0o077 == 0
    assert list(parent.iterdir()) == []


def test_it_goes_with_an_error_too(parent: Path) -> None:
    with pytest.raises(RuntimeError), make_scratch():
        raise RuntimeError
    assert list(parent.iterdir()) == []


def test_what_a_killed_command_left_is_taken_away_by_the_next(parent: Path) -> None:
    left = parent / f"{PREFIX}left"
    left.mkdir()
    (left / LOCK).touch()
    (left / "model").write_text("large")
    make_old(left)
    with make_scratch():
        assert not left.exists()


def test_a_living_one_and_others_are_left_alone(parent: Path) -> None:
    other = parent / "mlspec-other"
    other.mkdir()
    make_old(other)
    new = parent / f"{PREFIX}new"
    new.mkdir()
    (new / LOCK).touch()
    with make_scratch() as living:
        make_old(living)
        with make_scratch():
            assert living.exists()
            assert other.exists()
            assert new.exists()
