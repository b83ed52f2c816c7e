"""Objects and refs are as Git itself would leave them, whoever else is at work."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import stat
import subprocess
from pathlib import Path

import pytest

from mlspec.errors import Interrupted
from mlspec.git import Git, GitError

REF = "refs/mlspec/test"


@pytest.fixture(params=["sha1", "sha256"])
def git(tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Git:
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    root = tmp_path / "repository"
    kind = f"--object-format={request.param}"
    subprocess.run(["git", "init", "--quiet", kind, root], check=True)
    return Git(root)


def blob(git: Git, data: bytes) -> tuple[str, bytes]:
    content = b"blob %d\0%s" % (len(data), data)
    return hashlib.new(git.object_format, content).hexdigest(), content


def place(git: Git, oid: str) -> Path:
    return git.common_dir / "objects" / oid[:2] / oid[2:]


def make_commit(git: Git, message: str) -> str:
    tree = git.run("mktree")
    user = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@y"}
    user |= {"GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@y"}
    return git.run("commit-tree", tree, "-m", message, env=user)


def packs(git: Git) -> set[Path]:
    return set((git.common_dir / "objects/pack").glob("*.pack"))


def test_objects_are_in_a_pack_as_git_writes_it(git: Git) -> None:
    added = dict(blob(git, data) for data in (b"some data\n" * 99, b"", b"x", os.urandom(5000)))
    git.add_objects(added)
    for oid, content in added.items():
        data = content.partition(b"\0")[2]
        assert git.call("cat-file", "blob", oid).stdout == data
        assert git.run("hash-object", "--stdin", stdin=data) == oid
    (pack,) = packs(git)
    git.run("verify-pack", str(pack))
    index = pack.with_suffix(".idx")
    ours = index.read_bytes()
    git.run("index-pack", "-o", str(git.root / "again.idx"), str(pack))
    assert (git.root / "again.idx").read_bytes() == ours
    assert {stat.S_IMODE(path.stat().st_mode) for path in (pack, index)} == {0o444}
    assert git.call("fsck", "--strict").returncode == 0


def test_many_small_packs_become_one(git: Git) -> None:
    user = blob(git, b"of the user")
    Git(git.root).add_objects(dict([user]))
    (users,) = packs(git)
    added = [blob(git, b"%d" % (number // 2)) for number in range(120)]
    for each in added:
        git.add_objects(dict([each]))
        assert git.objects.get(each[0]) is not None
    assert len(packs(git)) < 60
    git.tidy(REF)
    assert users in packs(git)
    assert len(packs(git)) < 5
    assert not [path for path in users.parent.iterdir() if path.suffix not in (".pack", ".idx")]
    for oid, content in [*added, user]:
        assert git.call("cat-file", "blob", oid).stdout == content.partition(b"\0")[2]
    assert git.call("fsck", "--strict").returncode == 0


def test_packs_that_many_commands_left_become_few(git: Git) -> None:
    for number in range(60):
        Git(git.root).add_objects(dict([blob(git, b"%d" % number)]))
    assert len(packs(git)) == 60
    git.run("update-ref", REF, make_commit(git, "one"))
    git.tidy(REF)
    assert len(packs(git)) < 10
    for number in range(60):
        assert git.run("cat-file", "-p", blob(git, b"%d" % number)[0]) == f"{number}"


def test_a_repository_that_a_group_shares(git: Git) -> None:
    git.run("config", "core.sharedRepository", "group")
    oid, content = blob(git, b"x")
    Git(git.root).add_objects({oid: content})
    assert place(git, oid).parent.stat().st_mode & stat.S_IWGRP
    assert git.run("cat-file", "-p", oid) == "x"


def test_a_linked_worktree_writes_to_the_one_database(git: Git, tmp_path: Path) -> None:
    git.run("update-ref", "refs/heads/main", make_commit(git, "first"))
    git.run("worktree", "add", "-q", "--detach", str(tmp_path / "linked"), "main")
    oid, content = blob(git, b"x")
    Git(tmp_path / "linked").add_objects({oid: content})
    assert len(packs(git)) == 1
    assert git.run("cat-file", "-p", oid) == "x"


def test_what_a_full_disk_leaves(git: Git) -> None:
    first, second = blob(git, b"x"), blob(git, os.urandom(5000))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(GitError, match="cannot write") as raised:
            git.add_objects(dict([first, second]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert raised.value.hint
    files = [path for path in (git.common_dir / "objects").rglob("*") if path.is_file()]
    assert [file for file in files if file.name.startswith("tmp_")] == []
    git.add_objects(dict([first, second]))
    assert git.call("fsck").returncode == 0


@pytest.mark.parametrize("packed", [False, True])
def test_a_ref_moves_only_from_where_it_is(git: Git, packed: bool) -> None:
    one, two = make_commit(git, "one"), make_commit(git, "two")
    assert git.move_ref(REF, one, expected="") == ""
    if packed:
        git.run("pack-refs", "--all")
    assert git.ref(REF) == one
    assert REF in git.move_ref(REF, two, expected="")
    assert REF in git.move_ref(REF, two, expected=two)
    assert git.ref(REF) == one
    for _ in range(3):
        assert git.move_ref(REF, two, expected=one) == ""
        assert git.ref(REF) == git.refs(REF)[REF] == two
        assert git.move_ref(REF, one, expected=two) == ""


def test_moves_of_others_are_seen(git: Git) -> None:
    one, two = make_commit(git, "one"), make_commit(git, "two")
    other = Git(git.root)
    for old, new in [("", one), (one, two), (two, one)]:
        assert git.move_ref(REF, new, expected=old) == ""
        assert other.ref(REF) == new
        other, git = git, other
    git.run("update-ref", "-d", REF)
    assert other.ref(REF) == ""


def test_a_process_that_was_killed_is_replaced(git: Git) -> None:
    one, two = make_commit(git, "one"), make_commit(git, "two")
    assert git.move_ref(REF, one, expected="") == ""
    assert git._refs._process is not None
    git._refs._process.send_signal(signal.SIGKILL)
    git._refs._process.wait()
    assert git.move_ref(REF, two, expected=one) == ""
    assert git.ref(REF) == two
    git.close()
    assert git.move_ref(REF, one, expected=two) == ""


def test_the_answer_to_a_move_that_a_signal_cut_short_is_not_taken_for_the_next(git: Git) -> None:
    one, two, three = (make_commit(git, each) for each in ("one", "two", "three"))
    assert git.move_ref(REF, one, expected="") == ""
    process = git._refs._process
    assert process is not None
    answers = process.stdout
    process.stdout = Cut()  # type: ignore[assignment]
    with pytest.raises(Interrupted):
        git.move_ref(REF, two, expected=one)
    process.stdout = answers
    now = git.ref(REF)
    assert git.move_ref(REF, three, expected=two if now == one else one) != ""
    assert git.ref(REF) == now


class Cut:
    """A pipe at which a signal comes."""

    def readline(self) -> bytes:
        raise Interrupted(signal.SIGTERM)

    def close(self) -> None:
        """As a pipe is closed."""


def test_a_ref_that_cannot_be_read_is_not_an_absent_one(git: Git) -> None:
    path = git.common_dir / REF
    path.parent.mkdir(parents=True)
    path.write_text("damaged")
    with pytest.raises(GitError):
        git.ref(REF)
