"""The agent's clone: what is new on the branch, whose files are whose, there and back."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.following.clone import Clone
from mlspec.following.decision import Branch
from mlspec.following.memory import Memory, Rules
from mlspec.git import Git

MEMORY = Memory("origin", "main")


class Author:
    """Somebody who commits to the remote's branch."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._commits = 0

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=self.root, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, files: dict[str, str] | None = None) -> str:
        self._commits += 1
        for path, text in (files or {}).items():
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text(text)
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", f"{self._commits}")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def author(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Author:
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    for part in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{part}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{part}_EMAIL", "ada@example.org")
    author = Author(tmp_path / "author")
    author.root.mkdir()
    author.git("init", "--quiet", "--initial-branch", "main")
    return author


@pytest.fixture
def clone(author: Author, tmp_path: Path) -> Clone:
    author.commit({"a.txt": "a", "pipelines/m/dvc.lock": "one"})
    author.git("clone", "--quiet", str(author.root), str(tmp_path / "clone"))
    return Clone(Git(tmp_path / "clone"), "origin", "main")


class TestLook:
    def test_at_first_the_newest_commit_alone_is_new(self, author: Author, clone: Clone) -> None:
        tip = author.commit()
        assert clone.look(MEMORY) == Branch(tip, (tip,))

    def test_then_all_that_came_since_in_the_order_of_the_branch(
        self, author: Author, clone: Clone
    ) -> None:
        first = author.commit()
        author.git("checkout", "--quiet", "-b", "side")
        author.commit()
        author.git("checkout", "--quiet", "main")
        second = author.commit()
        author.git("merge", "--quiet", "--no-ff", "--no-edit", "side")
        tip = author.git("rev-parse", "HEAD")
        memory = replace(MEMORY, tried=first)
        assert clone.look(memory) == Branch(tip, (second, tip)), "the side's own are not applied"
        assert clone.look(replace(MEMORY, tried=tip)) == Branch(tip, ())

    def test_of_a_rewritten_branch_the_newest_alone(self, author: Author, clone: Clone) -> None:
        gone = author.commit()
        clone.look(MEMORY)
        author.git("reset", "--quiet", "--hard", "HEAD~1")
        author.commit()
        tip = author.commit()
        found = clone.look(replace(MEMORY, tried=gone))
        assert found == Branch(tip, (tip,), rewritten=True)

    def test_a_branch_that_is_gone_is_out_of_reach(self, author: Author, clone: Clone) -> None:
        author.git("branch", "--move", "main", "other")
        with pytest.raises(RemoteUnreachable, match="no branch 'main'"):
            clone.look(MEMORY)

    def test_a_remote_must_be_there(self, clone: Clone) -> None:
        with pytest.raises(MlspecError, match="no remote 'upstream'"):
            Clone(clone.git, "upstream", "main").look(MEMORY)


class TestRules:
    @pytest.mark.parametrize(
        ("text", "rules"),
        [
            ("mlspec: 1\n", Rules()),
            ("reconcile: {self_heal: true}\n", Rules(self_heal=True)),
            (
                "reconcile:\n  freeze: [Fri 16:00 to Mon 07:00]\n",
                Rules(False, ("Fri 16:00 to Mon 07:00",)),
            ),
            ("reconcile: {freeze: [soon]}\n", None),
            ("reconcile: [", None),
            ("models: {m: {matrix: {a: [1]}}}\nreconcile: {self_heal: true}\n", Rules(True)),
        ],
    )
    def test_they_are_those_of_the_commit(
        self, author: Author, clone: Clone, text: str, rules: Rules | None
    ) -> None:
        author.commit({"mlspec.yaml": text})
        assert clone.rules(clone.look(MEMORY).tip) == rules

    def test_a_commit_without_a_spec_says_nothing(self, clone: Clone) -> None:
        assert clone.rules(clone.look(MEMORY).tip) is None


class TestAlone:
    def test_what_the_agent_left_and_what_is_generated_is_its_own(self, clone: Clone) -> None:
        (clone.root / "metrics.json").write_text("{}")
        (clone.root / "pipelines/m/dvc.lock").write_text("two")
        (clone.root / "dvc.yaml").write_text("# Generated by mlspec from mlspec.yaml.\n")
        clone.check_alone(replace(MEMORY, left=("metrics.json",)))
        with pytest.raises(MlspecError, match=r"somebody edits this checkout: metrics\.json$"):
            clone.check_alone(MEMORY)

    @pytest.mark.parametrize("path", ["a.txt", "new.txt", "folder/new.txt"])
    def test_an_edit_is_refused(self, clone: Clone, path: str) -> None:
        (clone.root / path).parent.mkdir(exist_ok=True)
        (clone.root / path).write_text("mine")
        with pytest.raises(MlspecError, match=f"somebody edits this checkout: {path}"):
            clone.check_alone(MEMORY)

    def test_so_is_a_commit_that_the_remote_does_not_have(self, clone: Clone) -> None:
        clone.check_alone(MEMORY)
        Author(clone.root).commit({"a.txt": "mine"})
        with pytest.raises(MlspecError, match="the remote's main lacks it"):
            clone.check_alone(MEMORY)


class TestThereAndBack:
    def test_back_is_as_it_was(self, author: Author, clone: Clone) -> None:
        start = clone.git.head()
        (clone.root / "pipelines/m/dvc.lock").write_text("two")
        (clone.root / "new.lock").write_text("mine")
        (clone.root / "a.txt").unlink()
        tip = author.commit({"new.lock": "theirs", "a.txt": "b", "pipelines/m/dvc.lock": "three"})
        clone.look(MEMORY)
        kept = clone.go(tip)
        assert clone.changed() == ()
        assert (clone.root / "pipelines/m/dvc.lock").read_text() == "three"
        clone.back(start, kept)
        assert clone.git.head() == start
        assert (clone.root / "pipelines/m/dvc.lock").read_text() == "two"
        assert (clone.root / "new.lock").read_text() == "mine"
        assert not (clone.root / "a.txt").exists()

    def test_a_commit_with_files_among_our_own_is_not_checked_out(
        self, author: Author, clone: Clone
    ) -> None:
        start = clone.git.head()
        tip = author.commit({".mlspec/reconcile.json": "{}"})
        clone.look(MEMORY)
        with pytest.raises(MlspecError, match=r"has files in \.mlspec"):
            clone.go(tip)
        assert clone.git.head() == start
