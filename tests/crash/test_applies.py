"""Many `mlspec apply` in one repository, killed and stopped at any moment: all is done, and once.

Users of one repository, two in each of its worktrees, on a branch for each worktree. Each has a
model of their own in a spec file of their own; again and again they write another rate into it and
apply their model, until that ends well. Then the branches are merged.
"""

from __future__ import annotations

import ast
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PATIENCE = 3600.0
"""Seconds that all of it may take on a machine that is busy."""
LOCK_TIMEOUT = "3000"
REF = "refs/mlspec/ledger"
HEAD = """\
mlspec: 1
project: crash
storage: {url: ../storage}
include: [specs/*.yaml]
datasets:
  rows: {path: data/rows.csv}
"""
MODEL = """\
models:
  NAME:
    stages:
      train:
        command: >-
          grep rate pipelines/NAME/params.json > models/NAME.bin &&
          echo NAME-train-$(grep -o '[0-9]*' models/NAME.bin) >> ../effects
        inputs: [rows]
        params: {rate: 0}
        outputs: [models/NAME.bin]
      evaluate:
        command: >-
          cp src/metrics.json metrics/NAME.json &&
          echo NAME-evaluate-$(grep -o '[0-9]*' models/NAME.bin) >> ../effects
        inputs: [models/NAME.bin, src/metrics.json]
        metrics: metrics/NAME.json
    gates:
      good: {metric: auc, min: 0.5}
"""


@dataclass
class User:
    """Somebody with a model of their own: `rate` is what they are at, 0 before the first."""

    name: str
    worktree: Path
    rate: int = 0
    process: subprocess.Popen[str] | None = None
    kills: Counter[int] = field(default_factory=Counter)
    """At each rate."""
    resume_at: float = 0.0
    """When it goes on, if it is stopped."""


class Race:
    """The users of a repository, and who of them was killed when."""

    def __init__(self, sandboxes: ModuleType, place: Path, users: int, rounds: int) -> None:
        self.sandbox = sandboxes.Sandbox(place)
        self.rounds = rounds
        self.environment: dict[str, str] = {}
        self.told: list[int] = []
        """The processes that had written themselves down when they were killed."""
        self.killed: list[int] = []
        self.stops = 0
        self.applied = 0
        self.seconds = 0.0
        self._prepare([f"m{number}" for number in range(users)])

    def _prepare(self, names: list[str]) -> None:
        repo, place = self.sandbox.repo, self.sandbox.place
        for folder in ("data", "src", "specs"):
            (repo / folder).mkdir(parents=True)
        (repo / "data/rows.csv").write_text("a,b\n1,2\n")
        (repo / "src/metrics.json").write_text('{"auc": 0.9}\n')
        (repo / "mlspec.yaml").write_text(HEAD)
        for name in names:
            (repo / f"specs/{name}.yaml").write_text(MODEL.replace("NAME", name))
        check = self.sandbox.check
        check("git", "init", "--quiet", "--initial-branch", "main")
        self._commit(repo)
        check("mlspec", "apply", "--yes")
        self._commit(repo)
        for number in range(0, len(names), 2):
            check("git", "worktree", "add", "--quiet", "-b", f"b{number}", f"../tree{number}")
        self.users = [
            User(name, place / f"tree{number - number % 2}") for number, name in enumerate(names)
        ]

    def _commit(self, folder: Path) -> None:
        self.sandbox.check("git", "-C", str(folder), "add", "--all")
        self.sandbox.check("git", "-C", str(folder), "commit", "--quiet", "--message", "Work")

    def run(self, chance: random.Random, kills: int, stops: int) -> None:
        """Until all users have applied all their rates."""
        start = time.monotonic()
        working = list(self.users)
        for user in working:
            self._next(user)
        try:
            while working:
                assert time.monotonic() - start < PATIENCE, "they did not end"
                time.sleep(chance.uniform(0.02, 0.2))
                working = [user for user in working if self._goes_on(user)]
                victim = self._victim([user for user in working if not user.resume_at], chance)
                if victim is None:
                    continue
                if len(self.killed) < kills and chance.random() < 0.15:
                    self._kill(victim, whole=chance.random() < 0.5)
                elif self.stops < stops and chance.random() < 0.1:
                    self.stops += 1
                    _send(victim, signal.SIGSTOP)
                    victim.resume_at = time.monotonic() + chance.uniform(0.1, 2.0)
        finally:
            for user in self.users:
                _send(user, signal.SIGKILL)
        self.seconds = time.monotonic() - start

    def _goes_on(self, user: User) -> bool:
        """Have a user go on who was stopped, was killed, or is done; false at the end."""
        assert user.process is not None
        if user.resume_at and time.monotonic() >= user.resume_at:
            _send(user, signal.SIGCONT)
            user.resume_at = 0.0
        code = user.process.poll()
        if code is None:
            return True
        said, complaint = user.process.communicate()
        if code == -signal.SIGKILL:
            self._apply(user)  # the same rate again
            return True
        assert code == 0, f"{user.name} at {user.rate}: {code}\n{said}{complaint}"
        self.applied += 1
        return self._next(user)

    def _next(self, user: User) -> bool:
        if user.rate == self.rounds:
            return False
        file = user.worktree / f"specs/{user.name}.yaml"
        new = file.with_name(f"{user.name}.new")
        text = file.read_text().replace(f"{{rate: {user.rate}}}", f"{{rate: {user.rate + 1}}}")
        new.write_text(text)
        new.replace(file)  # as editors write
        user.rate += 1
        self._apply(user)
        return True

    def _apply(self, user: User) -> None:
        command = ("mlspec", "apply", "--yes", "--select", user.name)
        user.process = subprocess.Popen(
            [*command, "--lock-timeout", LOCK_TIMEOUT],
            cwd=user.worktree,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _environment(self) -> dict[str, str]:
        """As the sandbox's own, for processes that are not waited for."""
        if not self.environment:
            said = self.sandbox.run([sys.executable, "-c", "import os; print(dict(os.environ))"])
            self.environment = ast.literal_eval(said.stdout)
        return self.environment

    def _victim(self, users: list[User], chance: random.Random) -> User | None:
        """More often than not one who is at work or has the lock; or else anybody of these."""
        if not users:
            return None
        git, luck = self.sandbox.repo / ".git", chance.random()
        if luck > 0.85:
            return chance.choice(users)
        pid = _pid_in(git / ("mlspec-unfinished.json" if luck < 0.6 else "mlspec.lock"))
        found = (user for user in users if user.process and user.process.pid == pid)
        return next(found, None)

    def _kill(self, user: User, *, whole: bool) -> None:
        """mlspec alone, so that what it started lives on; or the whole tree of processes."""
        assert user.process is not None
        pid = user.process.pid
        if user.process.poll() is not None:
            return
        os.kill(pid, signal.SIGSTOP)  # so that what is written down stays as it is
        _wait_until_stopped(pid)
        if user.process.poll() is not None:
            return
        if _pid_in(self.sandbox.repo / ".git/mlspec-unfinished.json") == pid:
            self.told.append(pid)
        for each in _descendants(pid) if whole else ():
            with suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        self.killed.append(pid)
        user.kills[user.rate] += 1

    def check(self) -> None:
        """Everything that a user would miss, before and after the branches are merged."""
        check = self.sandbox.check
        entries = self._audit()
        assert [entry["serial"] for entry in entries] == [*range(1, len(entries) + 1)]
        head = json.loads(check("git", "cat-file", "blob", f"{REF}:ledger.json"))
        assert head["serial"] == len(entries)
        assert self.applied == len(self.users) * self.rounds
        self._check_entries(entries)
        self._check_effects()
        told = Counter(
            int(found[1])
            for entry in entries
            if entry["action"] == "interrupt"
            and (found := re.match(r"process (\d+),", entry["detail"]))
        )
        assert told == Counter(self.told), "an apply that was killed is told once"
        self._check_merged()

    def _audit(self) -> list[dict[str, Any]]:
        bodies = self.sandbox.check("git", "log", "--reverse", "-z", "--format=%b", REF)
        return [json.loads(body) for body in bodies.split("\0") if body.strip()]

    def _check_entries(self, entries: list[dict[str, Any]]) -> None:
        """Each rate that was applied has its runs and its version, each of them once."""
        done = Counter(
            (entry["address"], entry["action"], entry["detail"])
            for entry in entries
            if entry["outcome"] == "done"
        )
        for user in self.users:
            for rate in range(1, self.rounds + 1):
                version = (f"model.{user.name}", "register", f"version {rate + 1}")
                assert done[version] == 1, version
            model = [entry for entry in entries if entry["address"] == f"model.{user.name}"]
            assert len(model) == self.rounds + 1, model
            for stage in ("train", "evaluate"):
                address = f"stage.{user.name}.{stage}"
                runs = [entry for entry in entries if entry["address"] == address]
                failed = [entry for entry in runs if entry["outcome"] != "done"]
                assert not failed, failed
                assert len(runs) == self.rounds + 1, runs
        known = self.sandbox.check("git", "ls-tree", "-r", "--name-only", REF).splitlines()
        for user in self.users:
            for kind in ("runs/train", "runs/evaluate", "versions", "candidates"):
                found = [path for path in known if f"/{user.name}/{kind}/" in path]
                assert len(found) == self.rounds + 1, (user.name, kind, found)

    def _check_effects(self) -> None:
        """A command ran once more at most for each time that its apply was killed."""
        effects = Counter(self.sandbox.effects())
        for user in self.users:
            for rate in range(1, self.rounds + 1):
                for stage in ("train", "evaluate"):
                    count = effects[f"{user.name}-{stage}-{rate}"]
                    assert 1 <= count <= 1 + user.kills[rate], (user.name, stage, rate, count)

    def _check_merged(self) -> None:
        check = self.sandbox.check
        effects = self.sandbox.effects()
        serial = len(self._audit())
        for worktree in {user.worktree: None for user in self.users}:
            self._commit(worktree)
            branch = check("git", "-C", str(worktree), "branch", "--show-current").strip()
            check("git", "merge", "--quiet", "--no-edit", branch)
        check("mlspec", "apply", "--yes")
        assert self.sandbox.effects() == effects, "nothing runs that was run"
        again = [entry["action"] for entry in self._audit()[serial:]]
        assert not {"run", "evaluate", "register", "interrupt"} & set(again), again
        planned = self.sandbox.run(["mlspec", "plan", "--detailed-exitcode"])
        assert planned.returncode == 0, planned.stdout + planned.stderr
        checked = self.sandbox.run(["mlspec", "fsck"])
        assert checked.returncode == 0, checked.stdout + checked.stderr
        check("git", "fsck", "--strict", "--no-dangling")

    def report(self) -> str:
        ran, rates = len(self.sandbox.effects()), len(self.users) * (self.rounds + 1)
        return (
            f"{len(self.users)} users, {self.applied} applies, {len(self.killed)} kills "
            f"({len(self.told)} at work), {self.stops} stops: {len(self._audit())} serials, "
            f"{ran - 2 * rates} commands more than needed, {self.seconds:.0f} s"
        )


def _send(user: User, number: signal.Signals) -> None:
    """To an apply and to the Gits that it runs."""
    if user.process is not None and user.process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(user.process.pid, number)


def _pid_in(file: Path) -> int:
    """The process that is written down in a file; 0 if none is."""
    try:
        found = re.search(r'"pid":\s*(\d+)', file.read_text())
    except OSError:
        return 0
    return int(found[1]) if found else 0


def _state(pid: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return "X"


def _wait_until_stopped(pid: int) -> None:
    while _state(pid) not in "TtXZ":
        time.sleep(0.001)


def _descendants(pid: int) -> list[int]:
    found = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, file.read_text().split()):
                found += [child, *_descendants(child)]
    return found


@pytest.mark.crash
def test_what_is_left_in_another_worktree_is_taken_away(sandbox: Any) -> None:
    sandbox.check("git", "worktree", "add", "--quiet", "-b", "other", "../other")
    other = sandbox.place / "other"
    left = other / "pipelines/one/.mlspec-0123456789abcdef1"
    left.write_text("half")
    run = {"id": "1", "pid": 1, "since": "", "tip": "", "root": str(other)}
    run["entry"] = {"command": "apply"}
    (sandbox.repo / ".git/mlspec-unfinished.json").write_text(json.dumps([run]) + "\n")
    checked = json.loads(sandbox.run(["mlspec", "fsck", "--json"]).stdout)
    assert [problem["kind"] for problem in checked["problems"]] == ["interrupted", "temporary"]
    sandbox.check("mlspec", "apply", "--yes")
    assert not left.exists()
    assert "No problem" in sandbox.check("mlspec", "fsck")


@pytest.mark.crash
@pytest.mark.slow
def test_a_few_applies_that_are_killed_and_stopped(sandboxes: ModuleType, tmp_path: Path) -> None:
    race = Race(sandboxes, tmp_path / "box", users=3, rounds=2)
    race.run(random.Random(3), kills=4, stops=3)
    race.check()
    sys.stdout.write(f"{race.report()}\n")


@pytest.mark.crash
@pytest.mark.thorough
def test_eight_users_with_twenty_applies_each(sandboxes: ModuleType, tmp_path: Path) -> None:
    race = Race(sandboxes, tmp_path / "box", users=8, rounds=20)
    race.run(random.Random(8), kills=60, stops=40)
    race.check()
    sys.stdout.write(f"{race.report()}\n")
