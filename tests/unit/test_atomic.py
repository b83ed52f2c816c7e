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
from mlspec.atomic import make_own_folder, write_atomic, write_together
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


def test_many_files_at_once(tmp_path: Path) -> None:
    files = {str(tmp_path / f"{number}"): b"%d" % number * (number % 3) for number in range(600)}
    (tmp_path / "7").write_text("old")
    write_together(files, read_only=files)
    assert {str(path): path.read_bytes() for path in tmp_path.iterdir()} == files
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o444}


def test_folders_are_made_for_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for journaled in (True, False):
        monkeypatch.setattr(atomic, "_keeps_order", lambda _, answer=journaled: answer)
        base = f"{journaled}"
        write_together({f"{base}/a/1": b"1", f"{tmp_path}/{base}/b/c/2": b"2", base + "3": b"3"})
        assert Path(base, "a/1").read_bytes() + Path(base, "b/c/2").read_bytes() == b"12"
    Path("file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        write_together({"file/deeper/x": b""})


@pytest.mark.parametrize("journaled", [True, False])
def test_many_files_are_on_disk_before_they_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journaled: bool
) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_order(descriptor: int, how: int) -> bool:
        done.append("start" if how == 2 else "wait")
        return stat.S_ISREG(os.fstat(descriptor).st_mode)

    def noted_fsync(descriptor: int) -> None:
        kind = "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file"
        done.append(f"sync {kind}")
        fsync(descriptor)

    def noted_replace(source: str, target: str) -> None:
        done.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    monkeypatch.setattr(atomic, "_keeps_order", lambda _: journaled)
    monkeypatch.setattr(atomic, "_order", noted_order)
    for folder in "ab":
        (tmp_path / folder).mkdir()
    write_together({str(tmp_path / name): b"x" for name in ("a/1", "b/2", "b/3")})
    if journaled:
        assert done == ["start"] * 3 + ["wait"] * 3 + ["rename"] * 3
    else:
        assert done == ["sync file"] * 3 + ["rename"] * 3 + ["sync folder"] * 2


@pytest.mark.parametrize("fault", ["fsync", "replace", "write"])
def test_many_files_that_the_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    (tmp_path / "a").write_text("old")
    monkeypatch.setattr(os, fault, refuse)
    monkeypatch.setattr(atomic, "_keeps_order", lambda _: False)
    with pytest.raises(OSError, match="No space left"):
        write_together({str(tmp_path / name): b"new" for name in "ab"})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


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
