"""Objects of DVC in a folder: seen only where they belong, and removed one by one."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mlspec.dvc.needs import made_by, named_in
from mlspec.dvc.shelf import FolderShelf, in_order, remove_empty_runs
from mlspec.errors import MlspecError

LOCK = b"""schema: '2.0'
stages:
  train:
    cmd: python train.py
    deps:
    - path: data.csv
      hash: md5
      md5: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
      size: 3
    outs:
    - path: model
      hash: md5
      md5: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.dir
      size: 3
    - path: numbers
      md5: '00000000000000000000000000000123'
"""


def put(root: Path, data: bytes, *, suffix: str = "") -> str:
    md5 = hashlib.md5(data).hexdigest() + suffix
    path = root / "files/md5" / md5[:2] / md5[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)
    return md5


def test_objects_are_seen_with_their_sizes_and_removed(tmp_path: Path) -> None:
    shelf = FolderShelf(tmp_path)
    assert shelf.sizes() == {}
    one, two = put(tmp_path, b"one"), put(tmp_path, b"twotwo")
    assert shelf.sizes() == {one: 3, two: 6}
    assert [*shelf.remove([one, "f" * 32])] == [one], "what is not there was removed before"
    assert shelf.sizes() == {two: 6}


def test_only_what_looks_like_an_object_is_touched(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    victim = put(outside, b"precious")
    root = tmp_path / "storage"
    md5 = put(root, b"object")
    folder = root / "files/md5"
    (folder / "zz").mkdir()
    (folder / "zz" / ("0" * 30)).write_text("no hex")
    (folder / md5[:2] / "notes.txt").write_text("mine")
    (folder / md5[:2] / ("0" * 30)).mkdir()
    (folder / md5[:2] / ("1" * 30)).symlink_to(outside / "files/md5" / victim[:2] / victim[2:])
    linked = "e" * 2 if victim[:2] != "ee" else "dd"
    (folder / linked).symlink_to(outside / "files/md5" / victim[:2])
    shelf = FolderShelf(root)
    assert shelf.sizes() == {md5: 6}
    wanted = [md5[:2] + "1" * 30, md5[:2] + "0" * 30, linked + victim[2:], f"../../{victim}"]
    assert [*shelf.remove(wanted)] == []
    assert FolderShelf(outside).sizes() == {victim: 8}

    (tmp_path / "link").mkdir()
    (tmp_path / "link/files").symlink_to(outside / "files")
    assert FolderShelf(tmp_path / "link").sizes() == {}
    assert [*FolderShelf(tmp_path / "link").remove([victim])] == []
    assert FolderShelf(outside).sizes() == {victim: 8}


def test_folders_are_known_if_their_list_is_whole(tmp_path: Path) -> None:
    listing = json.dumps([{"md5": "a" * 32, "relpath": "x"}]).encode()
    good = put(tmp_path, listing, suffix=".dir")
    torn = put(tmp_path, listing + b" ", suffix=".dir")
    path = tmp_path / "files/md5" / torn[:2] / torn[2:]
    path.chmod(0o644)
    path.write_bytes(b"[]")
    assert FolderShelf(tmp_path).lists({good, torn, "c" * 32 + ".dir"}) == {good: ("a" * 32,)}
    assert in_order(["b" * 32, good, "a" * 32])[0] == good, "folders go before their files"


def test_entries_of_the_run_cache_go_with_their_outputs(tmp_path: Path) -> None:
    for name in ("kept", "gone"):
        path = tmp_path / "runs/ab" / ("ab" + name) / name
        path.parent.mkdir(parents=True)
        text = LOCK.replace(b"bbbb", b"cccc") if name == "kept" else LOCK
        path.write_bytes(text.replace(b"\n    ", b"\n"))
    assert remove_empty_runs(tmp_path, frozenset({"b" * 32 + ".dir", "a" * 32})) == 1
    assert [path.name for path in tmp_path.glob("runs/*/*/*")] == ["kept"]


def test_a_lock_names_what_it_needs_and_what_it_made() -> None:
    made = {"b" * 32 + ".dir", "0" * 29 + "123"}
    assert made_by(LOCK) == made
    assert named_in(LOCK, "dvc.lock") == made | {"a" * 32}
    conflict = b"<<<<<<< ours\n" + LOCK + b"=======\n    md5: " + b"d" * 32 + b"\n>>>>>>> theirs\n"
    assert named_in(conflict, "dvc.lock") == made | {"a" * 32, "d" * 32}
    assert made_by(conflict) == frozenset()
    assert named_in(b"\n", "dvc.lock") == frozenset()
    data = b"outs:\n- md5: " + b"e" * 32 + b"\n  size: 1\n  path: raw.csv\n"
    assert made_by(data) == named_in(data, "raw.csv.dvc") == {"e" * 32}


@pytest.mark.parametrize(
    "data", [b"version https://git-lfs.github.com/spec/v1\n", b"\0GITCRYPT\0outs:\n", b"hello"]
)
def test_a_file_that_hides_what_it_needs_is_refused(data: bytes) -> None:
    with pytest.raises(MlspecError, match="not a file that DVC writes"):
        named_in(data, "dvc.lock")
