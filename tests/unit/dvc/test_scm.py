"""What Git ignores, asked of Git only where that is in doubt."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlspec.dvc.scm import Scm
from mlspec.dvc.settings import Unusual
from mlspec.git import Git

PATTERN = st.text("ab.*/!\\?[] #A", max_size=6) | st.sampled_from(
    [
        "a",
        "a/",
        "/a",
        "/a/",
        "a/b",
        "/a/b/",
        "*.b",
        "**/b",
        "a/**",
        "!a",
        "!/a/b",
        "\\!a",
        "# a",
        " a",
    ]
)
TEXT = st.lists(PATTERN, max_size=4).map("\n".join)
NAMES = st.sampled_from(["a", "b", "a.b", "A", "ab", "a b"])


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "-q", root], check=True)
    return root


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    texts=st.tuples(TEXT, TEXT, TEXT, TEXT),
    paths=st.sets(st.lists(NAMES, min_size=1, max_size=3).map("/".join)),
)
def test_git_agrees(root: Path, texts: tuple[str, ...], paths: set[str]) -> None:
    places = (".gitignore", "a/.gitignore", "a/b/.gitignore", ".git/info/exclude")
    for place, text in zip(places, texts, strict=True):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_text(text)
    git = Git(root)
    asked = "\0".join(paths).encode()
    said = git.call("check-ignore", "--no-index", "-z", "--stdin", stdin=asked).stdout.decode()
    assert Scm(root, git).ignored(paths) & paths == set(filter(None, said.split("\0")))


def test_the_users_own_patterns_count(root: Path, tmp_path: Path) -> None:
    scm = Scm(root, Git(root))
    assert scm.ignored(["out/m.bin"]) == frozenset()
    (tmp_path / "config/git").mkdir(parents=True)
    (tmp_path / "config/git/ignore").write_text("*.bin\n")
    assert "out/m.bin" in scm.ignored(["out/m.bin", "out/other"])


def test_what_is_tracked_follows_the_index(root: Path) -> None:
    scm = Scm(root, Git(root))
    assert not scm.is_tracked("a")
    (root / "a").mkdir()
    (root / "a/b").write_text("")
    subprocess.run(["git", "add", "a"], cwd=root, check=True)
    assert scm.is_tracked("a") and scm.is_tracked("a/b")
    assert not scm.is_tracked("b") and not scm.is_tracked("a/b/c")
    subprocess.run(["git", "rm", "-qrf", "a"], cwd=root, check=True)
    assert not scm.is_tracked("a")


def test_lines_are_added_one_by_one(root: Path) -> None:
    scm = Scm(root, Git(root))
    (root / "out").mkdir()
    (root / "out/.gitignore").write_text("*.tmp")
    for name in ("m", "größe 1"):
        assert not scm.listed(f"out/{name}")
        scm.ignore(f"out/{name}")
        assert scm.listed(f"out/{name}")
    assert (root / "out/.gitignore").read_text() == "*.tmp\n/m\n/größe 1\n"
    (root / "out/.gitignore").write_text("/m\n!m\n")
    assert not scm.listed("out/m")
    for name in ("a*", " a", "a#", "\\a"):
        with pytest.raises(Unusual):
            scm.listed(f"out/{name}")
