"""A file of a Git repository comes as it was at a tag or a commit; nothing of it runs."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from tests.unit.fetching.conftest import Place, digest_of

MODEL = b"weights" * 100


class Upstream:
    """Somebody else's repository."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        (root / "model.onnx").write_bytes(MODEL)
        (root / "link").symlink_to("/etc/passwd")
        (root / "folder").mkdir()
        (root / "folder/in").write_bytes(b"in")
        (root / ".gitattributes").write_text("*.onnx filter=evil\n")
        self.git("add", "--all")
        self.commit("First")
        self.git("tag", "v1")

    @property
    def url(self) -> str:
        return f"file://{self.root}"

    def commit(self, message: str) -> str:
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.root, capture_output=True, text=True, check=True
        )
        return done.stdout


@pytest.fixture
def upstream(tmp_path: Path) -> Upstream:
    return Upstream(tmp_path / "upstream")


def test_a_tag_and_a_commit(upstream: Upstream, place: Place) -> None:
    first = upstream.git("rev-parse", "v1^{commit}").strip()
    (upstream.root / "model.onnx").write_bytes(b"newer")
    upstream.git("add", "--all")
    upstream.commit("Second")
    for rev in ("v1", first):
        got = place.fetch(digest_of(MODEL), git=upstream.url, rev=rev, path="model.onnx")
        assert got.size == len(MODEL)
        assert place.files() == {"models/model.onnx": MODEL}


def test_a_server_that_gives_only_what_is_asked_for(upstream: Upstream, place: Place) -> None:
    upstream.git("config", "uploadpack.allowFilter", "true")
    upstream.git("config", "uploadpack.allowAnySHA1InWant", "true")
    place.fetch(digest_of(MODEL), git=upstream.url, rev="v1", path="model.onnx")
    assert place.files() == {"models/model.onnx": MODEL}


def test_an_annotated_tag(upstream: Upstream, place: Place) -> None:
    upstream.git("tag", "--annotate", "--message=Release", "releases/v2")
    place.fetch(digest_of(MODEL), git=upstream.url, rev="releases/v2", path="model.onnx")


def test_a_server_that_gives_no_single_commit(upstream: Upstream, place: Place) -> None:
    upstream.git("config", "protocol.version", "0")
    first = upstream.git("rev-parse", "HEAD").strip()
    (upstream.root / "other").write_bytes(b"")
    upstream.git("add", "--all")
    upstream.commit("Second")
    upstream.git("tag", "--delete", "v1")
    place.fetch(digest_of(MODEL), git=upstream.url, rev=first, path="model.onnx")


@pytest.mark.parametrize(
    ("rev", "path", "why"),
    [
        ("v9", "model.onnx", "does not give v9"),
        ("main", "model.onnx", "does not give main"),
        ("0f" * 20, "model.onnx", "does not give 0f0f"),
        ("v1", "none.onnx", "has no none.onnx"),
        ("v1", "link", "is a link"),
        ("v1", "folder", "is a folder"),
        ("v1", "*.onnx", "has no"),
    ],
)
def test_what_is_refused(upstream: Upstream, place: Place, rev: str, path: str, why: str) -> None:
    with pytest.raises(MlspecError, match=why.replace("*", r"\*")):
        place.fetch(digest_of(MODEL), git=upstream.url, rev=rev, path=path)
    assert place.files() == {}


def test_a_submodule_is_not_followed(upstream: Upstream, place: Place) -> None:
    commit = upstream.git("rev-parse", "HEAD").strip()
    upstream.git("update-index", "--add", "--cacheinfo", f"160000,{commit},vendor")
    (upstream.root / ".gitmodules").write_text(
        '[submodule "vendor"]\n\tpath = vendor\n\turl = ext::sh -c "touch /tmp/never"\n'
    )
    upstream.git("add", ".gitmodules")
    upstream.commit("A submodule")
    upstream.git("tag", "v2")
    place.fetch(digest_of(MODEL), git=upstream.url, rev="v2", path="model.onnx")
    with pytest.raises(MlspecError, match="is a submodule"):
        place.fetch(digest_of(MODEL), git=upstream.url, rev="v2", path="vendor")


def test_nothing_of_the_users_settings_runs(
    upstream: Upstream, place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Hooks that a template would put into every new repository, and filters."""
    mark = tmp_path / "ran"
    hooks = tmp_path / "template/hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "reference-transaction", "post-merge"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / name).chmod(0o755)
    settings = tmp_path / "gitconfig"
    settings.write_text(
        f"[init]\n\ttemplateDir = {hooks.parent}\n[core]\n\thooksPath = {hooks}\n"
        f'[filter "evil"]\n\tsmudge = touch {mark}\n\tclean = cat\n'
    )
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_DIR", str(place.root / "nowhere"))
    place.fetch(digest_of(MODEL), git=upstream.url, rev="v1", path="model.onnx")
    assert not mark.exists()


def test_a_program_as_an_address_does_not_start(place: Place, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    with pytest.raises(MlspecError, match="does not give v1"):
        place.fetch(digest_of(b""), git=f"ext::touch {mark}", rev="v1", path="model.onnx")
    assert not mark.exists()


def test_too_large(upstream: Upstream, place: Place) -> None:
    with pytest.raises(MlspecError, match="more than 100 bytes"):
        place.fetch(digest_of(MODEL), git=upstream.url, rev="v1", path="model.onnx", most=100)
    assert place.files() == {}


def test_a_pointer_of_lfs(upstream: Upstream, place: Place) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 3\n"
    (upstream.root / "model.onnx").write_bytes(pointer)
    upstream.git("add", "--all")
    upstream.commit("To LFS")
    upstream.git("tag", "v2")
    with pytest.raises(MlspecError, match="pointer of Git LFS"):
        place.fetch(digest_of(pointer), git=upstream.url, rev="v2", path="model.onnx")


def test_git_that_is_missing(
    upstream: Upstream, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.devnull)
    with pytest.raises(MlspecError, match="cannot start git"):
        place.fetch(digest_of(MODEL), git=upstream.url, rev="v1", path="model.onnx")
