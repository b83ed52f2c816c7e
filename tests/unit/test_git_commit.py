"""A commit of some files leaves all else as it is: what is checked out, staged, changed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlspec.git import Git, GitError
from mlspec.git.commit import changed_paths, commit_here, make_branch, make_commit


@pytest.fixture
def git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Git:
    """`a.yaml` and `b.txt` are committed; `b.txt` is changed, `c.txt` is staged."""
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", "--initial-branch", "main", root], check=True)
    git = Git(root)
    git.run("config", "user.name", "Ada")
    git.run("config", "user.email", "ada@example.org")
    for name in ("a.yaml", "b.txt"):
        (root / name).write_text("1\n")
    (root / "a.yaml").chmod(0o755)
    git.run("add", ".")
    git.run("commit", "--quiet", "-m", "start")
    (root / "b.txt").write_text("2\n")
    (root / "c.txt").write_text("3\n")
    git.run("add", "c.txt")
    return git


def status(git: Git) -> str:
    return git.run("status", "--porcelain")


def test_a_commit_of_one_file_touches_nothing_here(git: Git) -> None:
    head, before = git.head(), status(git)
    commit = make_commit(git, {"a.yaml": b"one\n"}, "Subject\n\nBody\n")
    assert git.run("show", f"{commit}:a.yaml") == "one"
    assert git.run("diff", "--raw", head, commit).startswith(":100755 100755 ")
    assert git.run("diff", "--name-only", head, commit) == "a.yaml"
    assert git.run("log", "-1", "--format=%s|%an|%P", commit) == f"Subject|Ada|{head}"
    assert (git.head(), status(git)) == (head, before)
    assert (git.root / "a.yaml").read_text() == "1\n"


def test_a_branch_is_new_here_and_at_the_remote_or_is_not_made(git: Git, tmp_path: Path) -> None:
    remote = str(tmp_path / "remote.git")
    git.run("init", "--quiet", "--bare", remote)
    git.run("remote", "add", "origin", remote)
    one, other = (make_commit(git, {"a.yaml": text}, "x") for text in (b"one\n", b"two\n"))
    make_branch(git, "fix", one, "origin")
    assert git.run("ls-remote", "origin", "refs/heads/fix").split()[0] == one
    with pytest.raises(GitError, match="the branch fix is there already"):
        make_branch(git, "fix", other, "origin")
    git.run("update-ref", "-d", "refs/heads/fix")
    with pytest.raises(GitError, match="the branch fix is there already"):
        make_branch(git, "fix", other, "origin")
    assert git.ref("refs/heads/fix") == ""
    assert git.branch() == "main"


def test_a_branch_that_was_merged_is_taken_for_the_next(git: Git, tmp_path: Path) -> None:
    remote = str(tmp_path / "remote.git")
    git.run("init", "--quiet", "--bare", remote)
    git.run("remote", "add", "origin", remote)
    make_branch(git, "fix", make_commit(git, {"a.yaml": b"one\n"}, "x"), "origin")
    git.run("merge", "--quiet", "fix")
    other = make_commit(git, {"a.yaml": b"two\n"}, "x")
    make_branch(git, "fix", other, "origin")
    assert git.ref("refs/heads/fix") == other
    assert git.run("ls-remote", "origin", "refs/heads/fix").split()[0] == other


def test_a_commit_here_leaves_what_is_staged(git: Git) -> None:
    assert changed_paths(git, ("a.yaml",)) == ()
    (git.root / "a.yaml").write_text("one\n")
    assert changed_paths(git, ("a.yaml", "b.txt", "no.txt")) == ("a.yaml", "b.txt")
    commit = commit_here(git, ("a.yaml",), "x\n")
    assert git.run("show", "--format=", "--name-only", commit) == "a.yaml"
    assert status(git) == " M b.txt\nA  c.txt"
