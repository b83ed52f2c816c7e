"""Repositories on a machine where nobody has set up Git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mlspec.git import Git
from mlspec.ledger.store import Ledger


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture(params=["sha1", "sha256"])
def git(tmp_path: Path, request: pytest.FixtureRequest) -> Git:
    """An empty repository, of both of Git's kinds."""
    root = tmp_path / "repository"
    kind = f"--object-format={request.param}"
    subprocess.run(["git", "init", "--quiet", kind, root], check=True)
    return Git(root)


@pytest.fixture
def ledger(git: Git) -> Ledger:
    return Ledger(git)
