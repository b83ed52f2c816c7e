"""What is written is what Git itself would write, and reads back as it was."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger.objects import Draft, Objects

NAMES = ["a", "a.b", "a-b", "a0", "ab", "B", "_", "z@1"]
PATHS = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
CONTENTS = st.binary(max_size=40)


def write(objects: Objects, root: str, files: dict[str, bytes | None]) -> str:
    draft = Draft(objects)
    changes = {path: "" if data is None else draft.add_blob(data) for path, data in files.items()}
    tree = draft.add_tree(root, changes)
    draft.write()
    return tree


def no_file_in_a_file(files: dict[str, bytes]) -> dict[str, bytes]:
    return {
        path: data
        for path, data in files.items()
        if not any(other.startswith(f"{path}/") for other in files)
    }


FILES = st.dictionaries(PATHS, CONTENTS, min_size=1, max_size=6).map(no_file_in_a_file)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(before=FILES, after=FILES)
def test_git_agrees(git: Git, before: dict[str, bytes], after: dict[str, bytes]) -> None:
    objects = Objects(git)
    old = write(objects, "", before)
    gone: dict[str, bytes | None] = {path: None for path in before if path not in after}
    new = write(objects, write(objects, old, gone), {**after})

    listed = git.run("ls-tree", "-r", "-z", "--name-only", new).split("\0")
    assert sorted(filter(None, listed)) == sorted(after)
    assert {path: objects.blob(oid) for path, oid in objects.files(new)} == after
    assert git.run("mktree", stdin=(git.run("ls-tree", new) + "\n").encode()) == new

    changed = git.run("diff-tree", "-r", "--name-only", "--no-renames", "-z", old, new)
    assert sorted(path for path, _ in objects.changes(old, new)) == sorted(
        filter(None, changed.split("\0"))
    )
    assert subprocess.run(["git", "-C", git.root, "fsck", "--strict"], check=False).returncode == 0


def test_an_emptied_folder_goes(git: Git) -> None:
    objects = Objects(git)
    tree = write(objects, "", {"a/b/c": b"x", "d": b"y"})
    assert list(objects.tree(write(objects, tree, {"a/b/c": None}))) == ["d"]
    assert write(objects, tree, {"a/b/c": None, "d": None}) == ""


def test_many_objects_stay_in_a_pack(git: Git) -> None:
    objects = Objects(git)
    files: dict[str, bytes | None] = {f"a/{number}": b"%d" % number for number in range(200)}
    tree = write(objects, "", files)
    assert len(list((git.common_dir / "objects/pack").glob("*.pack"))) == 1
    assert len(dict(objects.files(tree))) == 200


def test_large_data(git: Git) -> None:
    objects = Objects(git)
    data = bytes(range(256)) * 5000
    tree = write(objects, "", {"large": data})
    assert git.call("cat-file", "blob", f"{tree}:large").stdout == data


def test_a_lost_object_is_not_an_absent_file(git: Git, tmp_path: Path) -> None:
    objects = Objects(git)
    oid = objects.tree(write(objects, "", {"a": b"x"}))["a"].oid
    for path in (git.common_dir / "objects/pack").iterdir():
        path.rename(tmp_path / path.name)
    objects = Objects(git)
    with pytest.raises(MlspecError, match=f"blob {oid} is missing"):
        objects.blob(oid)
