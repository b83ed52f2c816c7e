"""What has the name of an object holds that object."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspec.dvc import objects
from mlspec.dvc.hashing import md5_of_bytes, md5_of_file
from mlspec.dvc.objects import SMALL, ObjectFolder
from mlspec.errors import MlspecError


@pytest.fixture(params=["cloned", "copied", "small"])
def data(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bytes:
    def clone(target: int, _: int, source: int) -> None:
        os.write(target, os.pread(source, 2 * SMALL, 0))

    def refuse(*_: int) -> None:
        raise OSError

    monkeypatch.setattr(objects.fcntl, "ioctl", clone if request.param == "cloned" else refuse)
    return b"x" if request.param == "small" else b"x" * (SMALL + 1)


def test_a_file_becomes_an_object_that_nobody_may_write_to(tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "data"
    source.write_bytes(data)
    folder, md5 = ObjectFolder(tmp_path / "cache"), md5_of_bytes(data)
    folder.add_file(md5, source)
    folder.flush()
    assert md5_of_file(folder.path(md5)) == md5
    assert folder.path(md5).stat().st_mode & 0o777 == 0o444


def test_a_file_that_changed_meanwhile_is_no_object(tmp_path: Path, data: bytes) -> None:
    source = tmp_path / "data"
    source.write_bytes(data)
    folder, md5 = ObjectFolder(tmp_path / "cache"), md5_of_bytes(b"as it was before")
    with pytest.raises(MlspecError, match="changed while it was being copied"):
        folder.add_file(md5, source)
    folder.flush()
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
