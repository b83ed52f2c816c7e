"""What other machines can fetch of a checkout: the address, the commit, the files of a stage."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.executors.origin import Origin
from mlspec.git import Git
from mlspec.spec.models import Executor

SECTION = Executor(kind="dask", address="tcp://127.0.0.1:8786")
Run = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "checkout"


@pytest.fixture
def git(root: Path, environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Git in a checkout with one commit, and a bare repository beside it."""
    for key, value in environment.items():
        monkeypatch.setenv(key, value)

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    root.mkdir()
    git("init", "--quiet", "--initial-branch", "main")
    git("init", "--quiet", "--bare", "--initial-branch", "main", "../origin.git")
    (root / "train.py").write_text("1")
    git("add", "--all")
    git("commit", "--quiet", "--message", "Start")
    return git


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("https://ada:hush@example.org/models.git", "https://example.org/models.git"),
        ("https://token@example.org:8443/models.git", "https://example.org:8443/models.git"),
        ("ssh://git@example.org/models.git", "ssh://git@example.org/models.git"),
        ("ssh://git:hush@example.org/models.git", "ssh://git@example.org/models.git"),
        ("git@example.org:models.git", "git@example.org:models.git"),
        ("/srv/models.git", "/srv/models.git"),
    ],
)
def test_the_address_holds_no_credentials(remote: str, address: str, git: Run, root: Path) -> None:
    git("remote", "add", "origin", remote)
    assert Origin(Git(root)).address("cluster", SECTION) == address


def test_a_path_counts_from_the_checkout(git: Run, root: Path) -> None:
    git("remote", "add", "origin", "../origin.git")
    assert Origin(Git(root)).address("cluster", SECTION) == str(root.parent / "origin.git")


def test_the_spec_may_name_another_address(git: Run, root: Path) -> None:
    git("remote", "add", "origin", "../origin.git")
    other = SECTION.model_copy(update={"repository": "https://mirror.example.org/models.git"})
    assert Origin(Git(root)).address("cluster", other) == other.repository


@pytest.mark.usefixtures("git")
def test_without_a_remote_the_address_is_missing(root: Path) -> None:
    with pytest.raises(MlspecError, match="Git has no remote") as error:
        Origin(Git(root)).address("cluster", SECTION)
    assert "executors.cluster.repository" in error.value.hint


def test_a_commit_must_be_pushed(git: Run, root: Path) -> None:
    git("remote", "add", "origin", "../origin.git")
    commit = git("rev-parse", "HEAD")
    address = str(root.parent / "origin.git")
    with pytest.raises(MlspecError, match=r"is not in .*origin\.git") as error:
        Origin(Git(root)).check_shared(commit, address)
    assert error.value.hint == "push it: git push"

    git("push", "--quiet", "origin", "main")
    Origin(Git(root)).check_shared(commit, address)
    git("update-ref", "-d", "refs/remotes/origin/main")  # as in a checkout of CI
    Origin(Git(root)).check_shared(commit, address)
    with pytest.raises(MlspecError, match="no commit yet"):
        Origin(Git(root)).check_shared("", address)


def test_a_commit_behind_the_tip_is_pushed_too(git: Run, root: Path) -> None:
    commit = git("rev-parse", "HEAD")
    git("commit", "--quiet", "--allow-empty", "--message", "Next")
    git("push", "--quiet", "../origin.git", "main")
    Origin(Git(root)).check_shared(commit, str(root.parent / "origin.git"))


def test_a_remote_that_does_not_answer(git: Run, root: Path) -> None:
    with pytest.raises(RemoteUnreachable, match="cannot be reached"):
        Origin(Git(root)).check_shared(git("rev-parse", "HEAD"), str(root.parent / "nowhere.git"))


def test_what_a_stage_reads_must_be_committed(git: Run, root: Path) -> None:
    origin = Origin(Git(root))
    (root / "unrelated.py").write_text("1")
    origin.check_committed("stage.m.train", ["train.py"])
    origin.check_committed("stage.m.train", [])

    (root / "train.py").write_text("2")
    (root / "lib").mkdir()
    (root / "lib/new.py").write_text("1")
    (root / ".gitignore").write_text("/data.csv\n")
    (root / "data.csv").write_text("1")
    with pytest.raises(MlspecError, match=r"data\.csv, lib/new\.py, train\.py") as error:
        origin.check_committed("stage.m.train", ["train.py", "lib", "data.csv"])
    assert "commit and push" in error.value.hint
    git("add", "train.py")
    with pytest.raises(MlspecError, match=r"differ from it: train\.py"):
        origin.check_committed("stage.m.train", ["train.py"])
