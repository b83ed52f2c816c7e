from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from mlspec.commands.unlock import unlock
from mlspec.errors import ExitCode, Locked, MlspecError
from mlspec.git import Git
from mlspec.ledger.lock import acquire, load_holder, lock_file
from mlspec.render.console import Console

HOLD = """
import sys, time
from pathlib import Path
from mlspec.git import Git
from mlspec.ledger.lock import acquire
with acquire(Git(Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.readline()
"""


def hold(git: Git) -> subprocess.Popen[str]:
    """Another process that holds the lock until it reads a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(git.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_the_holder_is_named(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI_JOB_URL", "https://gitlab.example/j/7")
    with hold(git) as other:
        with pytest.raises(Locked) as raised, acquire(git):
            pass
        holder = load_holder(git)
        assert holder is not None
        assert holder.pid == other.pid
        assert holder.host == os.uname().nodename
        for part in ("mlspec <mlspec@localhost>", holder.host, str(other.pid), holder.since):
            assert part in str(raised.value)
        assert "https://gitlab.example/j/7" in str(raised.value)
        assert raised.value.exit_code is ExitCode.LOCKED
        other.communicate("\n")
    assert load_holder(git) is None


def test_waiting_for_it(git: Git) -> None:
    told: list[str] = []
    with hold(git) as other:
        stdin = other.stdin
        assert stdin is not None

        def note(text: str) -> None:
            told.append(text)
            stdin.write("\n")
            stdin.flush()

        with acquire(git, 60, note) as holder:
            assert holder.pid == os.getpid()
        with acquire(git, 60, note):
            pass
    assert told == ["Waiting for the lock of this repository, 60 s at most."]


def test_the_lock_of_a_killed_process_is_free(git: Git) -> None:
    with hold(git) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert load_holder(git) is not None
        with acquire(git) as holder:
            assert load_holder(git) == holder


def test_it_is_free_after_an_error(git: Git) -> None:
    with pytest.raises(KeyError), acquire(git):
        raise KeyError
    assert load_holder(git) is None, "who holds it no more is not told to be its holder"
    with acquire(git):
        assert load_holder(git) is not None


def test_two_worktrees_have_one_lock(git: Git, tmp_path: Path) -> None:
    (git.root / "file").write_text("")
    git.run("add", "file")
    git.run("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "Commit")
    git.run("worktree", "add", "--quiet", str(tmp_path / "second"))
    with acquire(git), pytest.raises(Locked), acquire(Git(tmp_path / "second")):
        pass


def test_a_lock_that_says_nothing(git: Git) -> None:
    with hold(git) as other:
        lock_file(git).write_text("")
        with pytest.raises(Locked, match="another process"), acquire(git):
            pass
        other.communicate("\n")


def test_a_lock_that_cannot_be_made(git: Git) -> None:
    lock_file(git).mkdir()
    with pytest.raises(MlspecError, match="cannot open"), acquire(git):
        pass


def test_unlocking(git: Git, capsys: pytest.CaptureFixture[str]) -> None:
    console = Console()
    assert unlock(git.root, console, lock_id="x") == 0
    assert "Nobody" in capsys.readouterr().out
    with hold(git) as other:
        holder = load_holder(git)
        assert holder is not None
        with pytest.raises(Locked) as raised, acquire(git):
            pass
        assert f"mlspec unlock {holder.id}" in raised.value.hint
        with pytest.raises(MlspecError, match="the lock is not 'x'"):
            unlock(git.root, console, lock_id="x")
        with pytest.raises(Locked, match="it lives"):
            unlock(git.root, console, lock_id=holder.id)
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert unlock(git.root, console, lock_id=holder.id) == 0
    assert load_holder(git) is None


def test_a_lock_that_outlives_its_holder(git: Git) -> None:
    with acquire(git) as holder:
        # As a child does that was given the open file; its parent is no process any more.
        gone = subprocess.Popen(["true"])
        gone.wait()
        left = {**asdict(holder), "pid": gone.pid}
        lock_file(git).write_text(json.dumps(left))
        assert unlock(git.root, Console(), lock_id=holder.id) == 0
        with acquire(git) as other:
            assert other.id != holder.id
        elsewhere = {**asdict(holder), "host": "elsewhere"}
        with acquire(git):
            lock_file(git).write_text(json.dumps(elsewhere))
            with pytest.raises(Locked, match="only be told on elsewhere"):
                unlock(git.root, Console(), lock_id=holder.id)
