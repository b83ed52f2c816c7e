"""The wrapper answers as Git would, needs none of the user's settings, and says what is wrong."""

from __future__ import annotations

import os
import subprocess
import zlib
from pathlib import Path

import pytest

from mlspec.errors import ExitCode, MlspecError, RemoteUnreachable
from mlspec.git import Git, GitError, Remote


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where nobody has set up Git."""
    home = tmp_path / "home"
    home.mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def git(tmp_path: Path) -> Git:
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", root], check=True)
    return Git(root)


def commit(git: Git, name: str = "file", text: str = "text") -> str:
    (git.root / name).write_text(text)
    git.run("add", name)
    git.run("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "Commit")
    return git.run("rev-parse", "HEAD")


def test_before_the_first_commit(git: Git) -> None:
    assert git.head() == ""
    assert git.branch() == "main"
    assert not git.dirty()


def test_head_branch_and_time(git: Git) -> None:
    made = commit(git)
    assert git.head() == made
    assert git.branch() == "main"
    assert git.commit_time() == int(git.run("log", "-1", "--format=%ct"))


def test_detached_head(git: Git) -> None:
    first = commit(git)
    commit(git, text="other")
    git.run("checkout", "--quiet", first)
    assert git.branch() == ""
    assert git.head() == first


def test_dirty_is_what_is_changed_or_new_and_not_ignored(git: Git) -> None:
    commit(git)
    commit(git, ".gitignore", "ignored\n")
    (git.root / "ignored").write_text("")
    assert not git.dirty()
    (git.root / "new").write_text("")
    assert git.dirty()
    (git.root / "new").unlink()
    (git.root / "file").write_text("changed")
    assert git.dirty()


def test_asking_does_not_touch_the_index(git: Git) -> None:
    commit(git)
    index = git.root / ".git/index"
    os.utime(git.root / "file", (0, 0))
    before = index.read_bytes()
    git.dirty()
    assert index.read_bytes() == before


def test_toplevel_of_a_folder_below(git: Git) -> None:
    below = git.root / "a/b"
    below.mkdir(parents=True)
    assert Git(below).toplevel == git.root.resolve()
    assert Git(below).common_dir == (git.root / ".git").resolve()


def test_worktrees_share_a_folder(git: Git, tmp_path: Path) -> None:
    commit(git)
    git.run("worktree", "add", "--quiet", str(tmp_path / "second"))
    assert Git(tmp_path / "second").common_dir == git.common_dir


def test_outside_of_a_repository(tmp_path: Path) -> None:
    with pytest.raises(MlspecError, match="is not in a Git repository") as raised:
        Git(tmp_path).head()
    assert "git init" in raised.value.hint


def test_without_git(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MlspecError, match="cannot find the program git"):
        git.head()


def test_a_repository_of_another_user(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(MlspecError, match="belongs to another user") as raised:
        git.head()
    assert "safe.directory" in raised.value.hint


def test_another_repository_in_the_environment(
    git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = commit(git)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert Git(git.root).head() == made
    assert not git.dirty()


def test_no_hook_is_run(git: Git) -> None:
    made = commit(git)
    hook = git.root / ".git/hooks/reference-transaction"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\ntouch ran\n")
    hook.chmod(0o755)
    git.run("update-ref", "refs/x/y", made)
    assert git.refs("refs/x") == {"refs/x/y": made}
    assert not (git.root / "ran").exists()
    subprocess.run(["git", "-C", git.root, "update-ref", "refs/x/z", made], check=True)
    assert (git.root / "ran").exists()


def test_a_user_whom_git_does_not_know(git: Git) -> None:
    assert str(git.user) == "mlspec <mlspec@localhost>"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("Ada", "Ada"), ("Ada <a@b>\n", "Ada a@b"), (" .,: ", "mlspec"), ("Zoë 🦉", "Zoë 🦉")],
)
def test_the_users_name(git: Git, name: str, shown: str) -> None:
    git.run("config", "user.name", name)
    assert git.user.name == shown


def test_the_environment_names_the_user(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    git.run("config", "user.name", "From Config")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "From Environment")
    assert git.user.name == "From Environment"


@pytest.mark.parametrize(
    ("settings", "remote"),
    [
        ({}, ""),
        ({"remote.origin.url": "/x"}, "origin"),
        ({"remote.origin.url": "/x", "mlspec.remote": "shared"}, "shared"),
        ({"remote.origin.url": "/x", "mlspec.remote": ""}, ""),
        ({"remote.other.url": "/x"}, ""),
    ],
)
def test_which_remote(git: Git, settings: dict[str, str], remote: str) -> None:
    for key, value in settings.items():
        git.run("config", key, value)
    assert git.remote == remote


@pytest.mark.parametrize(
    ("line", "signs"),
    [("", False), ("gpgsign", True), ("gpgsign = yes", True), ("gpgsign = false", False)],
)
def test_whether_the_user_signs(git: Git, line: str, signs: bool) -> None:
    with (git.root / ".git/config").open("a") as config:
        config.write(f"[commit]\n{line}\n")
    assert git.signs is signs


def test_passwords_are_not_repeated(git: Git) -> None:
    error = git.failure("fetch", b"fatal: unable to access 'https://ada:secret@host/x': no")
    assert "secret" not in str(error) + error.stderr
    assert "https://***@host/x" in str(error)


def test_a_remote_that_is_not_there(git: Git, tmp_path: Path) -> None:
    with pytest.raises(RemoteUnreachable, match="cannot be reached") as raised:
        Remote(git, str(tmp_path / "missing")).fetch("refs/x/y", "refs/x/z")
    assert raised.value.exit_code is ExitCode.UNREACHABLE
    commit(git)
    with pytest.raises(RemoteUnreachable):
        Remote(git, str(tmp_path / "missing")).push(git.head(), "refs/x/y", expected="")


def test_a_remote_that_does_not_answer(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSH_COMMAND", "sh -c 'sleep 30'")
    monkeypatch.setattr(git, "patience", 0.3)
    with pytest.raises(RemoteUnreachable, match="did not end within"):
        Remote(git, "ssh://nobody@localhost/x").fetch("refs/x/y", "refs/x/z")


def test_a_broken_ref_is_not_an_absent_one(git: Git) -> None:
    ref = git.root / ".git/refs/x/y"
    ref.parent.mkdir()
    ref.write_text("garbage\n")
    with pytest.raises(GitError, match="broken ref"):
        git.refs("refs/x")


def test_objects(git: Git) -> None:
    made = commit(git, "with space", "text\n\0more")
    found = git.objects.get(f"{made}:with space")
    assert found is not None
    assert (found.kind, found.data) == ("blob", b"text\n\0more")
    assert git.objects.get(f"{made}:missing") is None
    assert git.objects.get(f"{made}:with\nspace") is None
    assert git.objects.get("0" * 40) is None
    git.close()
    assert git.objects.get(found.oid) == found


@pytest.mark.parametrize("claimed", [5, 60, 10_000, 10**9, 10**15])
def test_an_object_that_claims_to_have_more_than_it_has(git: Git, claimed: int) -> None:
    made = commit(git, text="text")
    oid = git.run("rev-parse", f"{made}:file")
    file = git.root / ".git/objects" / oid[:2] / oid[2:]
    file.chmod(0o644)
    file.write_bytes(zlib.compress(b"blob %d\0text" % claimed))
    for ask in (git.objects.get, lambda name: [*git.objects.get_many([name, made])]):
        with pytest.raises(GitError, match="cannot read"):
            ask(oid)
    assert git.objects.get(made) is not None


def test_a_damaged_object_does_not_end_the_reading_of_others(git: Git) -> None:
    made = commit(git, text="".join(map(str, range(10_000))))
    oid = git.run("rev-parse", f"{made}:file")
    file = git.root / ".git/objects" / oid[:2] / oid[2:]
    file.chmod(0o644)
    file.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(GitError) as raised:
        git.objects.get(oid)
    assert "fsck" in raised.value.hint
    assert git.objects.get(made) is not None
