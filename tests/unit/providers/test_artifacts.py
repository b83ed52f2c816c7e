"""What the cache has of an artifact, under a name that says what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.ledger.records import File
from mlspec.providers.artifacts import name_artifact

FILE = "aa" * 16
FOLDER = "bb" * 16 + ".dir"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache with one file."""
    place = tmp_path / f"cache/files/md5/{FILE[:2]}/{FILE[2:]}"
    place.parent.mkdir(parents=True)
    place.write_text("weights")
    return tmp_path / "cache"


def record(md5: str, path: str) -> File:
    return File(path=path, format="python", md5=md5, size=7)


def listed(cache: Path, *names: str) -> Path:
    """Where the cache has a folder of files of these names."""
    place = cache / f"files/md5/{FOLDER[:2]}/{FOLDER[2:]}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps([{"md5": FILE, "relpath": name} for name in names]))
    return place


def test_a_file_keeps_its_ending(cache: Path, tmp_path: Path) -> None:
    place = cache / f"files/md5/{FILE[:2]}/{FILE[2:]}"
    for _ in range(2):
        named = name_artifact(record(FILE, "models/m.onnx"), place, tmp_path)
        assert named.suffix == ".onnx"
        assert named.read_text() == "weights"


def test_a_folder_has_what_it_lists(cache: Path, tmp_path: Path) -> None:
    place = listed(cache, "a.txt", "deep/b.txt")
    named = name_artifact(record(FOLDER, "models/m"), place, tmp_path)
    assert named.suffix == ""
    assert (named / "deep/b.txt").read_text() == "weights"
    again = name_artifact(record(FOLDER, "models/m"), listed(cache, "a.txt"), tmp_path)
    assert [path.name for path in again.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "deep/../../out.txt"])
def test_a_folder_lists_nothing_outside(cache: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(MlspecError, match="which is not in it"):
        name_artifact(record(FOLDER, "models/m"), listed(cache, name), tmp_path)
