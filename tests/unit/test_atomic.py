"""Files that are whole or untouched, whatever the system refuses."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlspec import atomic
from mlspec.atomic import make_own_folder, write_atomic
from mlspec.errors import MlspecError


def test_a_new_file_and_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file"
    write_atomic(path, "größe\n")
    assert path.read_bytes() == "größe\n".encode()
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_an_old_file_is_replaced_not_written_to(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    path.write_text("old")
    os.link(path, other)
    write_atomic(path, "new", mode=0o600)
    assert (path.read_text(), other.read_text()) == ("new", "old")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_everything_is_on_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(f"sync {kind}")
        fsync(descriptor)

    def noted_replace(self: Path, target: Path) -> Path:
        done.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    write_atomic(tmp_path / "file", "text")
    assert done == ["sync file", "rename", "sync folder"]


def refuse(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


FAULTS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "mkstemp": lambda patch: patch.setattr(atomic.tempfile, "mkstemp", refuse),
    "fsync": lambda patch: patch.setattr(os, "fsync", refuse),
    "chmod": lambda patch: patch.setattr(Path, "chmod", refuse),
    "rename": lambda patch: patch.setattr(Path, "replace", refuse),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_the_system_refuses_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    FAULTS[fault](monkeypatch)
    with pytest.raises(MlspecError) as caught:
        write_atomic(path, "new")
    assert caught.value.message == f"cannot write {path}: No space left on device"
    assert "as it was before" in caught.value.hint
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(MlspecError, match="Is a directory"):
        write_atomic(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_file_where_a_folder_must_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(MlspecError, match="cannot write"):
        write_atomic(tmp_path / "a/file", "new")
    assert (tmp_path / "a").read_text() == "old"


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == []


def test_text_that_is_not_unicode(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "file", "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_the_own_folder_is_hidden_from_git(tmp_path: Path) -> None:
    assert make_own_folder(tmp_path, "cache", "a") == tmp_path / ".mlspec/cache/a"
    assert (tmp_path / ".mlspec/.gitignore").read_text() == "*\n"
    (tmp_path / ".mlspec/.gitignore").write_text("mine\n")
    make_own_folder(tmp_path)
    assert (tmp_path / ".mlspec/.gitignore").read_text() == "mine\n"


def test_an_ignore_file_that_a_full_disk_left_empty_is_written_again(tmp_path: Path) -> None:
    (tmp_path / ".mlspec").mkdir()
    (tmp_path / ".mlspec/.gitignore").touch()
    make_own_folder(tmp_path)
    assert (tmp_path / ".mlspec/.gitignore").read_text() == "*\n"
