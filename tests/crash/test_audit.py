"""A ledger that somebody rewrote is told by `mlspec fsck`: by signatures, or by a commit noted."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import Any

import pytest

REF = "refs/mlspec/ledger"

pytestmark = [
    pytest.mark.crash,
    pytest.mark.skipif(not shutil.which("ssh-keygen"), reason="needs ssh-keygen"),
]


def set_up_signing(sandbox: Any, name: str = "ada") -> None:
    """Have Git sign with a key of that name, and trust Ada's."""
    key = sandbox.place / name
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
    subprocess.run(command, check=True)
    signers = sandbox.place / "signers"
    if not signers.exists():
        signers.write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    sandbox.check("git", "config", "gpg.format", "ssh")
    sandbox.check("git", "config", "gpg.ssh.allowedSignersFile", str(signers))
    sandbox.check("git", "config", "user.signingkey", str(key))
    sandbox.check("git", "config", "commit.gpgsign", "true")


def found(sandbox: Any, *options: str) -> list[str]:
    """The kinds of what fsck finds."""
    done = sandbox.run(["mlspec", "fsck", "--json", *options])
    kinds = [problem["kind"] for problem in json.loads(done.stdout)["problems"]]
    assert done.returncode == bool(kinds), done.stdout + done.stderr
    return kinds


def rewrite(sandbox: Any, *options: str) -> None:
    """The latest entry says something else; the commit is sound."""
    body = sandbox.check("git", "log", "-1", "--format=%B", REF).replace("done", "failed")
    tree = sandbox.check("git", "rev-parse", f"{REF}^{{tree}}").strip()
    parent = sandbox.check("git", "rev-parse", f"{REF}~1").strip()
    made = ("git", "commit-tree", *options, "-p", parent, "-m", body.strip(), tree)
    sandbox.check("git", "update-ref", REF, sandbox.check(*made).strip())


def forget_the_remote(sandbox: Any) -> None:
    sandbox.check("git", "remote", "remove", "origin")
    sandbox.check("git", "update-ref", "-d", "refs/mlspec/fetched")


def test_a_signed_ledger_is_not_rewritten_without_the_key(sandbox: Any) -> None:
    forget_the_remote(sandbox)
    set_up_signing(sandbox)
    assert found(sandbox) == ["signature"], "nothing is signed yet"
    sandbox.check("mlspec", "apply", "--yes")
    assert found(sandbox) == found(sandbox, "--signed") == []
    tip = sandbox.check("git", "rev-parse", REF).strip()
    rewrite(sandbox)
    assert found(sandbox) == ["signature"]
    sandbox.check("git", "update-ref", REF, tip)
    set_up_signing(sandbox, "eve")
    rewrite(sandbox, "-S")
    assert found(sandbox) == ["signature"]
    said = sandbox.run(["mlspec", "fsck"]).stdout
    assert "is signed by somebody whom Git does not trust here" in said
    sandbox.check("git", "config", "commit.gpgsign", "false")
    assert found(sandbox) == [], "nobody asks for signatures"
    assert found(sandbox, "--signed") == ["signature"]
    sandbox.check("git", "update-ref", REF, tip)
    assert found(sandbox, "--signed") == []
    sandbox.check("git", "config", "--unset", "gpg.ssh.allowedSignersFile")
    assert "cannot be checked here" in sandbox.run(["mlspec", "fsck", "--signed"]).stdout


def test_what_was_noted_must_still_be_there(sandbox: Any) -> None:
    forget_the_remote(sandbox)
    told = re.search(r"serial 8, commit (\w+)", sandbox.check("mlspec", "fsck"))
    assert told is not None
    noted = told[1]
    sandbox.check("mlspec", "apply", "--yes")
    assert found(sandbox, "--anchor", noted) == found(sandbox, "--anchor", noted[:12]) == []
    sandbox.check("git", "update-ref", REF, noted)
    rewrite(sandbox)
    assert found(sandbox) == [], "it is sound in itself"
    assert found(sandbox, "--anchor", noted) == ["anchor"]
    sandbox.check("git", "update-ref", REF, f"{noted}~2")
    assert found(sandbox, "--anchor", noted) == ["anchor"]
    refused = sandbox.run(["mlspec", "fsck", "--anchor", "main"])
    assert refused.returncode == 1
    assert "is not the id of a commit" in refused.stderr


def test_what_the_remote_had_is_missed(sandbox: Any) -> None:
    sandbox.check("git", "update-ref", REF, f"{REF}~2")
    assert found(sandbox) == ["history"]
    sandbox.check("mlspec", "apply", "--yes")
    assert found(sandbox) == []
    rewrite(sandbox)
    assert found(sandbox) == ["history"]


def test_packed_refs_that_git_cannot_read(sandbox: Any) -> None:
    tips = sandbox.check("git", "for-each-ref", REF, "refs/heads")
    sandbox.check("git", "pack-refs", "--all")
    packed = sandbox.repo / ".git/packed-refs"
    packed.write_bytes(packed.read_bytes().replace(f" {REF}".encode(), f"\x01{REF}".encode()))
    refused = sandbox.run(["mlspec", "apply", "--yes"])
    assert refused.returncode != 0, refused.stdout
    assert "packed-refs" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "ledger" in found(sandbox)
    assert "Nothing was lost" in sandbox.check("mlspec", "ledger", "recover", "--yes")
    assert sandbox.check("git", "for-each-ref", REF, "refs/heads") == tips
    assert found(sandbox) == []
