"""Digests are DVC's, and what is remembered of them is never wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlspec import worktree
from mlspec.cache import Cache
from mlspec.dvc.hashing import md5_of_bytes
from mlspec.errors import MlspecError
from mlspec.worktree import STAMP_BYTES, Stamps, Worktree


@contextmanager
def opened(root: Path) -> Iterator[Worktree]:
    """A worktree that keeps what it learns."""
    cache = Cache(root / ".mlspec/cache.db", "test")
    yield Worktree(root, cache)
    cache.close()


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


@pytest.fixture
def unsettled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a file of a few minutes ago had been touched just now: this machine may be slow."""
    monkeypatch.setattr(worktree, "RACE", 300 * 10**9)


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
    with opened(tmp_path) as tree:
        first = tree.digest("x")
    write(tmp_path / "x", "two")
    with opened(tmp_path) as tree:
        assert tree.digest("x") != first


@pytest.mark.usefixtures("settled")
def test_an_unchanged_file_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "data/x", "one")
    with opened(tmp_path) as tree:
        digests = tree.digest("data"), tree.digest("data/x")
    monkeypatch.delattr(worktree, "md5_of_file")
    with opened(tmp_path) as tree:
        assert (tree.digest("data"), tree.digest("data/x")) == digests


@pytest.mark.usefixtures("settled")
def test_a_change_that_leaves_size_and_time_is_seen(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    before = (tmp_path / "x").stat()
    with opened(tmp_path) as tree:
        first = tree.digest("x")
    with (tmp_path / "x").open("r+") as file:
        file.write("two")
    os.utime(tmp_path / "x", ns=(before.st_atime_ns, before.st_mtime_ns))
    with opened(tmp_path) as tree:
        assert tree.digest("x") != first


@pytest.mark.usefixtures("unsettled")
def test_a_file_touched_just_now_is_not_remembered(tmp_path: Path) -> None:
    write(tmp_path / "x", "one", age=0)
    with opened(tmp_path) as tree:
        tree.digest("x")
    with opened(tmp_path) as tree:
        assert list(tree.cache.items("digests")) == []


@pytest.mark.usefixtures("settled")
def test_a_digest_that_makes_no_sense_is_ignored(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    cache = Cache(tmp_path / ".mlspec/cache.db", "test")
    cache.put("digests", "x", b"5 6 what")
    cache.close()
    with opened(tmp_path) as tree:
        digest = tree.digest("x")
    assert digest is not None and digest.md5 == md5_of_bytes(b"one")


def looked_at(tree: Worktree, look: Callable[[], object]) -> set[str]:
    with tree.watch() as watch:
        look()
    return watch.paths


def test_a_watch_tells_what_was_looked_at(tmp_path: Path) -> None:
    write(tmp_path / "data/a/x", "one")
    tree = Worktree(tmp_path)
    assert looked_at(tree, lambda: tree.digest("data/a/x")) == {"data/a/x"}
    assert looked_at(tree, lambda: tree.exists("nothing")) == {"nothing"}
    whole = {"data", "data/", "data/a", "data/a/", "data/a/x", ".dvcignore"}
    assert looked_at(tree, lambda: tree.digest("data")) == whole
    assert looked_at(tree, lambda: tree.digest("data")) == whole, "also what is known already"
    assert looked_at(tree, lambda: looked_at(tree, lambda: tree.digest("data/a/x"))) == {"data/a/x"}


def test_what_is_shared_is_found_once_and_looked_at_by_all(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    tree, found = Worktree(tmp_path), []

    def find() -> str:
        found.append(1)
        return tree.read_text("x") or ""

    for _ in range(2):
        assert looked_at(tree, lambda: tree.shared("key", find)) == {"x"}
    assert found == [1]


@pytest.mark.parametrize(
    ("path", "change"),
    [
        ("x", lambda root: write(root / "x", "two")),
        ("x", lambda root: (root / "x").unlink()),
        ("new", lambda root: write(root / "new", "")),
        ("data/", lambda root: write(root / "data/more", "")),
        ("data", lambda root: (root / "data").rename(root / "other")),
        ("link", lambda root: write(root / "x", "three")),
        ("link", lambda root: ((root / "link").unlink(), (root / "link").symlink_to("data/y"))),
    ],
)
def test_a_stamp_changes_with_what_it_stands_for(
    tmp_path: Path, path: str, change: Callable[[Path], object]
) -> None:
    write(tmp_path / "x", "one")
    write(tmp_path / "data/y", "one")
    (tmp_path / "link").symlink_to("x")
    stamps = Stamps(str(tmp_path))
    before = stamps.read([path, "data/y"])
    assert stamps.read([path, "data/y"]) == before
    change(tmp_path)
    after = stamps.read([path])
    assert after != before[:STAMP_BYTES]


def test_a_folder_is_the_same_whatever_comes_and_goes_in_it(tmp_path: Path) -> None:
    write(tmp_path / "src/x", "one")
    stamps = Stamps(str(tmp_path))
    before = stamps.read(["src"])
    write(tmp_path / "src/__pycache__/y", "two")
    assert stamps.read(["src"]) == before


@pytest.mark.usefixtures("unsettled")
def test_stamps_that_cannot_tell_are_none(tmp_path: Path) -> None:
    write(tmp_path / "x", "one")
    tree = Worktree(tmp_path)
    tree.digest("x")
    now = time.time_ns()
    assert tree.stamps(["x"], now) is None, "touched just now"
    assert tree.stamps(["x"], now + 10**12) == Stamps(str(tmp_path)).read(["x"])
    write(tmp_path / "x", "changed")
    tree.forget("x")
    tree.digest("x")
    assert tree.stamps(["x"], now + 10**12) is None, "it changed meanwhile"


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


def test_a_place_to_write_lies_inside(tmp_path: Path) -> None:
    root, outside = tmp_path / "repository", tmp_path / "outside"
    write(root / "data/x", "one")
    outside.mkdir()
    (root / "link").symlink_to(outside)
    (root / "inner").symlink_to("data")
    tree = Worktree(root)
    for path in ("data/x", "new/folder/x", "inner/x"):
        tree.check_place(path)
    for path in ("link/x", "link/new/x"):
        with pytest.raises(MlspecError, match="leads out of the repository"):
            tree.check_place(path)
