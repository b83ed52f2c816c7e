"""Two clones of one remote: one applies at a time, whatever becomes of the one that does."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from mlspec.errors import ExitCode
from mlspec.git import Git, Remote
from mlspec.ledger.history import log
from mlspec.ledger.remote_lock import REF, find_holder
from mlspec.ledger.store import Ledger

pytestmark = pytest.mark.slow

SPEC = """\
mlspec: 1
project: clones
storage: {url: ../storage}
datasets:
  rows: {path: rows.csv}
models:
"""
MODEL = """\
  NAME:
    stages:
      train:
        command: >-
          echo NAME >> ../effects; while [ -e ../hold-NAME ]; do sleep 0.05; done;
          cp rows.csv NAME.bin
        inputs: [rows]
        params: {rate: RATE}
        outputs: [NAME.bin]
"""
URL = "https://gitlab.example/j/7"
LEASE = 1.5
PATIENCE = 120.0
LOCKED, LOST = int(ExitCode.LOCKED), "lost the lock"


class Clone:
    """A clone of the remote, and mlspec run in it."""

    def __init__(self, root: Path, environment: Mapping[str, str]) -> None:
        self.root = root
        self.git = Git(root)
        self._environment = {**environment, "CI_JOB_URL": URL}
        self.running: list[subprocess.Popen[str]] = []

    def edit(self, **rates: int) -> None:
        models = (MODEL.replace("NAME", name).replace("RATE", str(rates[name])) for name in rates)
        (self.root / "mlspec.yaml").write_text(SPEC + "".join(models))

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            ["mlspec", *arguments],
            cwd=self.root,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.running.append(process)
        return process

    def run(self, *arguments: str, code: int = 0) -> str:
        """What it says, on both streams."""
        return ended(self.start(*arguments), code)

    def apply(self, *arguments: str, code: int = 0) -> str:
        return self.run("apply", "--yes", *arguments, code=code)


def ended(process: subprocess.Popen[str], code: int = 0) -> str:
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == code, f"exit {process.returncode}\n{out}\n{err}"
    assert "Traceback" not in err
    return out + err


def send(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """To it and all that it started."""
    os.killpg(process.pid, number)


@pytest.fixture
def clones(
    run: Callable[..., object], tmp_path: Path, environment: Mapping[str, str]
) -> Iterator[tuple[Clone, Clone]]:
    """Both have applied the models `one` and `two`."""
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", "remote.git")
    run("git", "clone", "--quiet", "remote.git", "first")
    first = Clone(tmp_path / "first", environment)
    (first.root / "rows.csv").write_text("a,b\n1,2\n")
    first.edit(one=1, two=1)
    first.apply()
    for arguments in (
        ("add", "--all"),
        ("commit", "-qm", "Start"),
        ("push", "-q", "origin", "main"),
    ):
        run("git", *arguments, cwd=first.root)
    run("git", "clone", "--quiet", "remote.git", "second")
    second = Clone(tmp_path / "second", environment)
    second.apply()
    for clone in (first, second):
        run("git", "config", "mlspec.lease", str(LEASE), cwd=clone.root)
    (tmp_path / "effects").unlink()
    yield first, second
    for process in [*first.running, *second.running]:
        if process.poll() is None:
            send(process, signal.SIGKILL)
            process.communicate()


def begin(clone: Clone, model: str, **rates: int) -> subprocess.Popen[str]:
    """An apply that trains `model` until it is let go."""
    place = clone.root.parent
    (place / f"hold-{model}").touch()
    (place / "effects").touch()
    before = len(trained(place))
    clone.edit(**rates)
    process = clone.start("apply", "--yes")
    await_(lambda: len(trained(place)) > before)
    return process


def let_go(clone: Clone, model: str) -> None:
    (clone.root.parent / f"hold-{model}").unlink()


def await_(met: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def trained(place: Path) -> list[str]:
    return (place / "effects").read_text().split()


def check_whole(*clones: Clone) -> None:
    """The remote has every record, in one line, and both clones have nothing left to do."""
    for clone in clones:
        clone.apply()
        ledger = Ledger(clone.git)
        assert [entry.serial for entry in log(ledger)] == list(range(ledger.serial, 0, -1))
        clone.run("fsck")
    tips = {Remote(clone.git, "origin").refs("refs/mlspec/ledger").popitem()[1] for clone in clones}
    assert len(tips) == 1
    assert find_holder(clones[0].git) is None


def test_one_that_is_held(clones: tuple[Clone, Clone]) -> None:
    first, second = clones
    before = Remote(first.git, "origin").refs(REF)
    first.apply()
    assert Remote(first.git, "origin").refs(REF) == before  # nothing to do takes no lock
    holding = begin(first, "one", one=2, two=1)
    second.edit(one=2, two=1)
    assert "rate" in second.run("plan")
    said = second.apply(code=LOCKED)
    for part in ("Ada <ada@example.org>", os.uname().nodename, f"process {holding.pid}", URL):
        assert part in said
    assert re.search(r"since \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", said)
    lock = re.search("mlspec unlock ([0-9a-f]+)", said)
    assert lock
    assert "it lives" in second.run("unlock", lock[1], code=LOCKED)
    waiting = second.start("apply", "--yes", "--lock-timeout", "100")
    assert "is held by" in second.apply(code=LOCKED)
    let_go(first, "one")
    ended(holding)
    ended(waiting)
    assert trained(first.root.parent) == ["one"]
    check_whole(first, second)


def test_a_holder_that_was_killed(clones: tuple[Clone, Clone]) -> None:
    first, second = clones
    holding = begin(first, "one", one=2, two=1)
    send(holding, signal.SIGKILL)
    holding.communicate()
    let_go(first, "one")
    second.edit(one=1, two=2)
    second.apply("--lock-timeout", "100")
    again = begin(first, "one", one=2, two=2)
    send(again, signal.SIGKILL)
    again.communicate()
    let_go(first, "one")
    first.apply()  # its own clone knows at once that it is gone
    second.edit(one=2, two=2)
    assert trained(first.root.parent) == ["one", "two", "one", "one"]
    check_whole(first, second)


@pytest.mark.parametrize("same", [False, True])
def test_a_holder_that_was_stopped_for_longer_than_its_lease(
    clones: tuple[Clone, Clone], same: bool
) -> None:
    first, second = clones
    holding = begin(first, "one", one=2, two=1)
    send(holding, signal.SIGSTOP)
    let_go(first, "one")
    if same:
        second.edit(one=2, two=1)
    else:
        second.edit(one=1, two=2)
    second.apply("--lock-timeout", "100")
    before = Remote(second.git, "origin").refs("refs/mlspec/ledger")
    send(holding, signal.SIGCONT)
    assert LOST in ended(holding, code=LOCKED)
    assert Remote(second.git, "origin").refs("refs/mlspec/ledger") == before
    first.edit(one=2, two=1 if same else 2)
    said = first.apply()
    second.edit(one=2, two=1 if same else 2)
    assert trained(first.root.parent) == (["one", "one"] if same else ["one", "two"]), said
    check_whole(first, second)
