"""An approval that somebody else recorded, or signed, than it names is found."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mlspec.git import Git
from mlspec.ledger.approvals import check_approvals
from mlspec.ledger.entry import Entry
from mlspec.ledger.paths import approval_path
from mlspec.ledger.records import Approval
from mlspec.ledger.store import Ledger

RELEASE = "a" * 64
ENTRY = Entry(command="approve", address="deployment.m@prod", action="approve", outcome="done")
Record = Callable[[str, str], str]


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Record:
    """Records an approval by the first, as the second, who signs with a key of their own."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.delenv(f"GIT_{name}_EMAIL", raising=False)
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", root], check=True)
    allowed = ""
    for name in ("ada", "eve"):
        key = tmp_path / name
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        allowed += f"{name}@example.org {key.with_suffix('.pub').read_text()}"
    (tmp_path / "allowed").write_text(allowed)

    def recorded(by: str, who: str, key: str = "") -> str:
        settings = {
            "user.name": who,
            "user.email": f"{who}@example.org",
            "gpg.format": "ssh",
            "gpg.ssh.allowedSignersFile": str(tmp_path / "allowed"),
            "user.signingkey": str(tmp_path / (key or who)),
            "commit.gpgsign": "true",
        }
        for name, value in settings.items():
            subprocess.run(["git", "-C", root, "config", name, value], check=True)
        approval = Approval(
            deployment="m",
            target="prod",
            release=RELEASE,
            model="m",
            version=1,
            by=f"{by}@example.org",
            name=by,
            when="2026-01-31T12:00:00Z",
            commit="c",
        )
        ledger = Ledger(Git(root))
        path = approval_path("m", "prod", RELEASE, approval.by)
        tip = ledger.record({path: approval}, ENTRY)
        problems = check_approvals(ledger.git, tip, signed=True)
        return "\n".join(each.message for each in problems)

    return recorded


def test_by_whom_it_names(record: Record) -> None:
    assert record("ada", "ada") == ""


def test_by_somebody_else(record: Record) -> None:
    assert "names ada@example.org, and eve@example.org recorded it" in record("ada", "eve")


def test_signed_by_somebody_else(record: Callable[..., str]) -> None:
    found = record("ada", "ada", "eve")
    assert "names ada@example.org, and eve@example.org signed it" in found
    assert "recorded it" not in found
