"""`mlspec fsck`, `mlspec ledger recover` and `mlspec unlock`, as they are typed."""

from __future__ import annotations

import json
from typing import Any


def kinds(sandbox: Any) -> set[str]:
    done = sandbox.run(["mlspec", "fsck", "--json"])
    found = {problem["kind"] for problem in json.loads(done.stdout)["problems"]}
    assert done.returncode == bool(found), done.stderr
    return found


def damage(sandbox: Any) -> None:
    for pack in (sandbox.repo / ".git/objects/pack").glob("*.pack"):
        pack.chmod(0o644)
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 0xFF
        pack.write_bytes(data)


def test_a_damaged_ledger_comes_back_from_the_remote(sandbox: Any) -> None:
    assert kinds(sandbox) == set()
    assert "is whole" in sandbox.check("mlspec", "ledger", "recover", "--yes")
    tip = sandbox.check("git", "rev-parse", "refs/mlspec/ledger")
    damage(sandbox)
    assert "git" in kinds(sandbox)
    asked = sandbox.run(["mlspec", "ledger", "recover"])
    assert asked.returncode == 1
    assert "nobody is here to confirm" in asked.stderr
    assert "Nothing was lost" in sandbox.check("mlspec", "ledger", "recover", "--yes")
    assert kinds(sandbox) == set()
    assert sandbox.check("git", "rev-parse", "refs/mlspec/ledger") == tip
    sandbox.check("mlspec", "apply", "--yes")
    assert sandbox.effects() == ["train-two"]


def test_without_a_remote_nothing_is_made_worse(sandbox: Any) -> None:
    sandbox.check("git", "remote", "remove", "origin")
    damage(sandbox)
    before = {path: path.read_bytes() for path in (sandbox.repo / ".git/objects/pack").iterdir()}
    done = sandbox.run(["mlspec", "ledger", "recover", "--yes"])
    if done.returncode == 0:
        assert "Lost: " in done.stdout
        assert kinds(sandbox) == set()
    else:
        assert "no good ledger is left" in done.stderr
        assert all(path.read_bytes() == data for path, data in before.items())


def test_nobody_holds_the_lock(sandbox: Any) -> None:
    assert "Nobody holds the lock" in sandbox.check("mlspec", "unlock", "0" * 32)
