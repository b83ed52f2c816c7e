"""Files of a spec are read where they really are, and patterns look at no more than they may."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspec.spec.files import UnreadableError, expand, read_inside


def test_reads_a_file_and_one_behind_a_link_that_stays_inside(tmp_path: Path) -> None:
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "a.yaml").write_text("a")
    (tmp_path / "b.yaml").symlink_to("config/a.yaml")
    assert read_inside(tmp_path, "config/a.yaml") == b"a"
    assert read_inside(tmp_path, "b.yaml") == b"a"


def test_a_root_that_is_a_link_itself_is_fine(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.yaml").write_text("a")
    (tmp_path / "link").symlink_to("real")
    assert read_inside(tmp_path / "link", "a.yaml") == b"a"


@pytest.mark.parametrize("swapped", ["specs", "specs/a.yaml"])
def test_a_link_put_there_between_check_and_use_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    for folder in (root / "specs", outside):
        folder.mkdir(parents=True)
        (folder / "a.yaml").write_text(folder.name)
    real = os.path.realpath

    def realpath_then_swap(path: Path, *, strict: bool = False) -> str:
        resolved = real(path, strict=strict)
        if strict:
            (root / swapped).rename(root / "gone")
            (root / swapped).symlink_to(outside if swapped == "specs" else outside / "a.yaml")
        return resolved

    monkeypatch.setattr(os.path, "realpath", realpath_then_swap)
    with pytest.raises(UnreadableError):
        read_inside(root, "specs/a.yaml")


def test_expand_is_sorted_and_leaves_out_hidden_files_and_linked_folders(tmp_path: Path) -> None:
    for name in ("b/2.yaml", "a/x/1.yaml", "a/3.txt", ".hidden/4.yaml", "a/.5.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "c").symlink_to("b")
    assert expand(tmp_path, "**/*.yaml") == ["a/x/1.yaml", "b/2.yaml"]
    assert expand(tmp_path, "*/*.yaml") == ["b/2.yaml"]
    assert expand(tmp_path, "a/**/[0-9].*") == ["a/3.txt", "a/x/1.yaml"]


def test_a_pattern_names_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert expand(tmp_path, "specs/*.yaml") == []
