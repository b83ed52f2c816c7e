"""What is read of a running deployment, without one."""

from __future__ import annotations

import fcntl
import stat
import tempfile
from pathlib import Path

import pytest

from mlspec.providers.local.rundir import (
    LOCK,
    is_alive,
    load_state,
    socket_folder,
    write_state,
)


def test_a_state_is_read_as_written(tmp_path):
    write_state(tmp_path, {"status": "serving", "ready": [1, 2]})
    assert load_state(tmp_path) == {"status": "serving", "ready": [1, 2]}
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", [None, b"", b'{"status": "ser', b"\xff\xfe"])
def test_a_state_that_is_absent_or_damaged_is_none(tmp_path, content):
    if content is not None:
        (tmp_path / "state.json").write_bytes(content)
    assert load_state(tmp_path) is None


def test_alive_is_who_holds_the_lock(tmp_path):
    assert not is_alive(tmp_path)
    (tmp_path / LOCK).touch()
    assert not is_alive(tmp_path)
    with (tmp_path / LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert is_alive(tmp_path)
    assert not is_alive(tmp_path)


def test_asking_does_not_take_the_lock(tmp_path):
    (tmp_path / LOCK).touch()
    assert not is_alive(tmp_path)
    with (tmp_path / LOCK).open() as held:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_sockets_are_in_the_run_folder_if_its_path_is_short():
    assert socket_folder(Path("/run/x")) == Path("/run/x")


@pytest.fixture
def short():
    """A folder whose path leaves room for the name of a socket, wherever the tests run."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="m-") as folder:
        yield Path(folder)


@pytest.mark.parametrize("part", ["long" * 40, "é" * 50])
def test_sockets_of_a_long_path_are_in_a_private_folder(short, monkeypatch, part):
    monkeypatch.setattr("tempfile.tempdir", str(short))
    run_dir = short / part
    folder = socket_folder(run_dir)
    assert folder.parent == short
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder == socket_folder(run_dir)
    assert folder != socket_folder(short / f"{part}2")


def test_the_folder_of_temporary_files_may_have_a_long_path_too(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("long" * 40)))
    folder = socket_folder(tmp_path / ("long" * 40))
    assert folder.parent == Path("/tmp")
    folder.rmdir()


def test_a_folder_that_others_can_write_is_refused(short, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(short))
    run_dir = short / ("long" * 40)
    socket_folder(run_dir).chmod(0o777)
    with pytest.raises(PermissionError, match="can be written by others"):
        socket_folder(run_dir)


def test_a_link_in_place_of_the_folder_is_refused(short, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(short))
    run_dir = short / ("long" * 40)
    folder = socket_folder(run_dir)
    folder.rmdir()
    (short / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to(short / "elsewhere")
    with pytest.raises(PermissionError):
        socket_folder(run_dir)
