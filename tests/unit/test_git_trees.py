"""All that commits with a name hold, read without a checkout."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.git.trees import (
    Trees,
    check_all_fetched,
    every_commit,
    find_tips,
    list_worktrees,
    read_blobs,
)

PATTERNS = ("dvc.lock", "*.dvc")


@pytest.fixture
def git(tmp_path: Path) -> Git:
    root = tmp_path / "repository"
    root.mkdir()
    git = Git(root)
    git.run("init", "-q", "-b", "main")
    git.run("config", "user.name", "Ada")
    git.run("config", "user.email", "ada@example.org")
    return git


def commit(git: Git, files: dict[str, str], message: str = "change") -> str:
    for path, text in files.items():
        (git.root / path).parent.mkdir(parents=True, exist_ok=True)
        (git.root / path).write_text(text)
    git.run("add", "-A")
    git.run("commit", "-q", "--allow-empty", "-m", message)
    return git.head()


def contents(git: Git, commits: Iterable[str], trees: Trees | None = None) -> set[bytes]:
    blobs = (trees or Trees(git, *PATTERNS)).new_files(commits)
    return {data for _, data in read_blobs(git, blobs)}


def test_the_files_of_commits_are_those_that_git_lists(git: Git) -> None:
    choose = random.Random(7)
    commits = []
    for number in range(25):
        files = {}
        for _ in range(3):
            folder = choose.choice(["", "a/", "a/b/", "c d/ü/", "x.dvc/"])
            name = choose.choice(["dvc.lock", "data.dvc", "dvc.lock.txt", "code.py"])
            files[folder + name] = f"{name} {choose.randrange(6)}"
        commits.append(commit(git, files, str(number)))
        if number % 7 == 6:
            git.run("checkout", "-q", "-b", f"branch-{number}", choose.choice(commits))
    for some in (commits, commits[3:5], commits[-1:], []):
        expected = set()
        for each in some:
            for path, oid in git.blobs(each).items():
                name = path.rpartition("/")[2]
                if name == "dvc.lock" or name.endswith(".dvc"):
                    expected.add(git.objects.get(oid))
        found = contents(git, some)
        assert found == {each.data for each in expected if each is not None}
    assert contents(git, every_commit(git)) == contents(git, commits)
    trees = Trees(git, *PATTERNS)
    first, rest = contents(git, commits[:9], trees), contents(git, commits, trees)
    assert first.isdisjoint(rest)
    assert first | rest == contents(git, commits)


def test_every_kind_of_name_counts(git: Git, tmp_path: Path) -> None:
    first = commit(git, {"dvc.lock": "first"})
    git.run("tag", "-a", "-m", "note", "annotated")
    git.run("tag", "-a", "-m", "of a tag", "twice", "annotated")
    second = commit(git, {"dvc.lock": "second"})
    git.run("update-ref", "refs/remotes/origin/theirs", second)
    third = commit(git, {"dvc.lock": "third"})
    git.run("worktree", "add", "-q", "--detach", str(tmp_path / "other"), third)
    git.run("tag", "of-a-tree", f"{first}^{{tree}}")
    (git.root / "dvc.lock").write_text("stashed")
    (git.root / "new.dvc").write_text("untracked")
    git.run("stash", "push", "-q", "-u")
    (git.root / "dvc.lock").write_text("stashed below")
    git.run("stash", "push", "-q")
    git.run("update-ref", "refs/mlspec/ledger", commit(git, {"dvc.lock": "of the ledger"}))
    git.run("reset", "-q", "--hard", second)
    git.run("tag", "of-a-file", git.run("hash-object", "-w", "dvc.lock"))

    tips = find_tips(git)
    assert {first, second, third} <= tips.keys()
    assert tips[third].startswith("the worktree")
    expected = {b"first", b"second", b"third", b"stashed", b"untracked", b"stashed below"}
    assert contents(git, tips) == expected
    assert {worktree.path for worktree in list_worktrees(git)} == {git.root, tmp_path / "other"}


def test_a_repository_without_a_commit_names_nothing(git: Git) -> None:
    assert find_tips(git) == {}
    assert every_commit(git) == {}


def test_commits_are_told_with_their_times_whatever_the_clocks_said(
    git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = {}
    for seconds in (50, 1_700_000_000, 60, 1_600_000_000):
        monkeypatch.setenv("GIT_COMMITTER_DATE", f"@{seconds} +0100")
        times[commit(git, {"dvc.lock": str(seconds)})] = seconds
    assert every_commit(git) == times


def test_a_shallow_clone_is_refused(git: Git, tmp_path: Path) -> None:
    for text in ("first", "second"):
        commit(git, {"dvc.lock": text})
    git.run("clone", "-q", "--depth=1", git.root.as_uri(), str(tmp_path / "clone"))
    with pytest.raises(MlspecError, match="this clone is shallow") as error:
        every_commit(Git(tmp_path / "clone"))
    Git(tmp_path / "clone").run(*error.value.hint.split()[1:])
    assert len(every_commit(Git(tmp_path / "clone"))) == 2


def test_the_checkout_of_a_submodule(git: Git, tmp_path: Path) -> None:
    commit(git, {"dvc.lock": "first"})
    root = tmp_path / "whole"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    add = ("-c", "protocol.file.allow=always", "submodule", "--quiet", "add")
    Git(root).run(*add, str(git.root), "part")
    part = Git(root / "part")
    assert [worktree.path for worktree in list_worktrees(part)] == [part.root]
    part.run("worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    paths = {part.root, tmp_path / "other"}
    assert {worktree.path for worktree in list_worktrees(Git(tmp_path / "other"))} == paths


def test_a_checkout_apart_from_its_repository(git: Git, tmp_path: Path) -> None:
    commit(git, {"dvc.lock": "first"})
    git.run("init", "-q", f"--separate-git-dir={tmp_path / 'apart.git'}")
    here = Git(git.root)
    assert [worktree.path for worktree in list_worktrees(here)] == [git.root]
    here.run("worktree", "add", "-q", "-b", "other", str(tmp_path / "other"))
    with pytest.raises(MlspecError, match=r"where the main checkout of .*apart\.git is"):
        list_worktrees(Git(tmp_path / "other"))


def test_a_worktree_that_is_away_is_refused_if_it_is_locked(git: Git, tmp_path: Path) -> None:
    commit(git, {"dvc.lock": "first"})
    away = tmp_path / "stick"
    git.run("worktree", "add", "-q", str(away))
    git.run("worktree", "lock", "--reason", "on a stick", str(away))
    away.rename(tmp_path / "unplugged")
    with pytest.raises(MlspecError, match="stick is not there, and is locked") as error:
        find_tips(git)
    git.run(*error.value.hint.partition("git ")[2].split())
    assert [worktree.path for worktree in list_worktrees(git)] == [git.root]


@pytest.mark.parametrize("what", ["commit", "tree", "blob", "branch"])
def test_what_cannot_be_read_is_refused(git: Git, what: str) -> None:
    oid = commit(git, {"a/dvc.lock": "first"})
    git.run("checkout", "-q", "-b", "other")
    commit(git, {"a/dvc.lock": "second"})
    names = {"commit": oid, "tree": f"{oid}^{{tree}}", "blob": f"{oid}:a/dvc.lock"}
    if what == "branch":
        (git.root / ".git/refs/heads/main").write_text("nonsense\n")
    else:
        broken = git.run("rev-parse", names[what])
        (git.root / ".git/objects" / broken[:2] / broken[2:]).unlink()
    git.close()
    with pytest.raises(MlspecError):
        contents(git, find_tips(git))


def test_a_remote_with_unknown_commits_is_refused(git: Git, tmp_path: Path) -> None:
    first = commit(git, {"dvc.lock": "first"})
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    git.run("remote", "add", "origin", str(remote))
    git.run("push", "-q", "origin", "main")
    assert check_all_fetched(git, "origin") == {first: "heads/main"}
    other = Git(tmp_path / "clone")
    git.run("clone", "-q", "-b", "main", str(remote), str(other.root))
    other.run("config", "user.name", "Bob")
    other.run("config", "user.email", "bob@example.org")
    commit(other, {"dvc.lock": "theirs"})
    other.run("push", "-q", "origin", "HEAD:refs/heads/theirs")
    with pytest.raises(MlspecError, match="not known here: heads/theirs") as error:
        check_all_fetched(git, "origin")
    assert "git fetch" in error.value.hint
