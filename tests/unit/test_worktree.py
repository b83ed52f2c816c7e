"""Digests are DVC's, and what is remembered of them is never wrong."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from mlspec import worktree
from mlspec.dvc.hashing import md5_of_bytes
from mlspec.errors import MlspecError
from mlspec.worktree import CACHE, Worktree

MEMORY = CACHE / "digests.json"


def write(path: Path, text: str, age: float = 10) -> None:
    """Write a file that was last touched `age` seconds ago, as far as its times can be set."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    then = time.time() - age
    os.utime(path, (then, then))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every file had been left alone for long: a change time can't be set by hand."""
    monkeypatch.setattr(worktree, "RACE", -(10**18))


def test_a_file_a_folder_and_nothing(tmp_path: Path) -> None:
    write(tmp_path / "data/b.csv", "b")
    write(tmp_path / "data/a/ä.csv", "aa")
    tree = Worktree(tmp_path)
    file, folder = tree.digest("data/b.csv"), tree.digest("data")
    assert file is not None and folder is not None
    assert (file.md5, file.size, file.nfiles) == (md5_of_bytes(b"b"), 1, None)
    assert (folder.md5[-4:], folder.size, folder.nfiles) == (".dir", 3, 2)
    assert tree.digest("nothing") is tree.digest("data/b.csv/below") is None
    assert [tree.exists("data"), tree.is_file("data"), tree.is_folder("data")] == [
        True,
        False,
        True,
    ]
    assert tree.read_text("data/b.csv") == "b"
    assert tree.read_text("data") is None


@pytest.mark.usefixtures("settled")
def test_a_changed_file_has_another_digest_in_the_next_run(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    with Worktree(tmp_path) as tree:
        first = tree.digest("x")
    write(tmp_path / "x", "two")
    with Worktree(tmp_path) as tree:
        assert tree.digest("x") != first


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data/x", "one")
    with Worktree(tmp_path) as tree:
        digests = tree.digest("data"), tree.digest("data/x")
    monkeypatch.delattr(worktree, "md5_of_file")
    with Worktree(tmp_path) as tree:
        assert (tree.digest("data"), tree.digest("data/x")) == digests


@pytest.mark.usefixtures("settled")
def test_a_change_that_leaves_size_and_time_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    before = (tmp_path / "x").stat()
    with Worktree(tmp_path) as tree:
        first = tree.digest("x")
    with (tmp_path / "x").open("r+") as file:
        file.write("two")
    os.utime(tmp_path / "x", ns=(before.st_atime_ns, before.st_mtime_ns))
    with Worktree(tmp_path) as tree:
        assert tree.digest("x") != first


def test_a_file_touched_just_now_is_not_remembered(tmp_path: Path) -> None:
    write(tmp_path / "x", "one", age=0)
    with Worktree(tmp_path) as tree:
        tree.digest("x")
    assert not (tmp_path / MEMORY).exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"format": 99, "entries": {}}',
        '{"format": 1, "entries": 3}',
        "\0" * 9,
        "[" * 9999,
        '{"format": 1, "entries": {"x": 5}}',
        '{"format": 1, "entries": {"x": [5, 6]}}',
    ],
)
@pytest.mark.usefixtures("settled")
def test_a_memory_that_makes_no_sense_is_ignored(tmp_path: Path, text: str) -> None:
    write(tmp_path / "x", "one")
    write(tmp_path / MEMORY, text)
    with Worktree(tmp_path) as tree:
        digest = tree.digest("x")
        assert digest is not None and digest.md5 == md5_of_bytes(b"one")
    assert "x" in json.loads((tmp_path / MEMORY).read_text())["entries"]


@pytest.mark.usefixtures("settled")
def test_a_memory_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    write(tmp_path / ".mlspec", "a file where the folder should be")
    with Worktree(tmp_path) as tree:
        assert tree.digest("x") is not None


@pytest.mark.usefixtures("settled")
def test_nothing_new_writes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    with Worktree(tmp_path) as tree:
        tree.digest("x")
    before = (tmp_path / MEMORY).stat().st_mtime_ns
    with Worktree(tmp_path) as tree:
        tree.digest("x")
    assert (tmp_path / MEMORY).stat().st_mtime_ns == before
    assert [path.name for path in (tmp_path / CACHE).iterdir()] == ["digests.json"]


def test_forget_looks_anew(tmp_path: Path) -> None:
    write(tmp_path / "data/x", "one")
    tree = Worktree(tmp_path)
    first = tree.digest("data")
    write(tmp_path / "data/x", "two")
    assert tree.digest("data") == first
    tree.forget("data/x")
    assert tree.digest("data") != first


def test_what_dvc_ignores_is_not_counted(tmp_path: Path) -> None:
    write(tmp_path / "data/x", "one")
    alone = Worktree(tmp_path).digest("data")
    write(tmp_path / "data/.git/config", "")
    write(tmp_path / "data/notes.tmp", "")
    write(tmp_path / "data/scratch/y", "")
    write(tmp_path / ".dvcignore", "# comment\n/.mlspec/\n*.tmp\nscratch/\n")
    assert Worktree(tmp_path).digest("data") == alone


def test_a_link_within_the_repository_is_followed(tmp_path: Path) -> None:
    write(tmp_path / "a/x", "one")
    (tmp_path / "link").symlink_to("a/x")
    (tmp_path / "folder").symlink_to("a")
    tree = Worktree(tmp_path)
    assert tree.digest("link") == tree.digest("a/x") == tree.digest("folder/x")


@pytest.mark.parametrize("path", ["link", "folder/x", "data"])
def test_a_link_out_of_the_repository_is_refused(tmp_path: Path, path: str) -> None:
    write(tmp_path / "out/x", "secret")
    root = tmp_path / "repository"
    (root / "data").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "out/x")
    (root / "data/x").symlink_to(tmp_path / "out/x")
    (root / "folder").symlink_to("../out")
    with pytest.raises(MlspecError, match="leads out of the repository"):
        Worktree(root).digest(path)


def test_a_parent_folder_is_out_of_the_repository(tmp_path: Path) -> None:
    write(tmp_path / "x", "secret")
    (tmp_path / "repository").mkdir()
    with pytest.raises(MlspecError, match="leads out of the repository"):
        Worktree(tmp_path / "repository").digest("../x")


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(MlspecError, match="cannot read loop"):
        Worktree(tmp_path).digest("loop")


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(MlspecError, match="neither a file nor a folder"):
        Worktree(tmp_path).digest("pipe")


def test_absent_data_have_a_recorded_digest(tmp_path: Path) -> None:
    write(
        tmp_path / "raw.dvc", f"outs:\n- md5: {'a' * 32}.dir\n  size: 5\n  nfiles: 2\n  path: raw\n"
    )
    tree = Worktree(tmp_path)
    recorded = tree.recorded_digest("raw")
    assert recorded is not None
    assert (recorded.md5, recorded.size, recorded.nfiles) == ("a" * 32 + ".dir", 5, 2)
    assert tree.recorded_digest("other") is None


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(MlspecError, match="not UTF-8"):
        Worktree(tmp_path).read_text("x")
