"""Four clones of one remote, each applying again and again, killed and stopped at any moment.

Each clone has a model of its own, with another rate in each round, and all have one that is shared:
whoever's turn it is writes a new rate for it and pushes that, and the others apply it as well.
A clone that is stopped for longer than the lease loses the lock, and finds that out.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlspec.commands.fsck import find_problems
from mlspec.errors import ExitCode
from mlspec.git import Git, Remote
from mlspec.ledger.history import log
from mlspec.ledger.paths import version_path
from mlspec.ledger.records import Run, Version
from mlspec.ledger.remote_lock import REF as LOCK
from mlspec.ledger.remote_lock import find_holder, load_lock
from mlspec.ledger.state import load_recorded
from mlspec.ledger.store import REF, Ledger

LEASE = 2.0
PATIENCE = 3000.0
SHARED = "common"
HEAD = """\
mlspec: 1
project: clones
storage: {url: ../storage}
include: [specs/*.yaml]
datasets:
  rows: {path: rows.csv}
"""
MODEL = """\
models:
  NAME:
    stages:
      train:
        command: echo NAME-RATE >> ../effects && cp rows.csv NAME.bin
        inputs: [rows]
        params: {rate: RATE}
        outputs: [NAME.bin]
"""


@dataclass
class Clone:
    """A checkout with the model `name`; `rate` is what that is at."""

    name: str
    root: Path
    environment: Mapping[str, str]
    rate: int = 0
    process: subprocess.Popen[str] | None = None
    resume_at: float = 0.0
    """When it goes on, if it is stopped."""
    endings: Counter[str] = field(default_factory=Counter)

    def git(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=check,
        )

    def write(self, name: str, rate: int) -> None:
        text = MODEL.replace("NAME", name).replace("RATE", str(rate))
        (self.root / f"specs/{name}.yaml").write_text(text)

    def share(self, message: str) -> None:
        """Commit what was written, and bring it to the remote."""
        self.git("add", "--all", "specs")
        self.git("commit", "--quiet", "--message", message)
        for _ in range(100):
            if self.git("push", "--quiet", "origin", "HEAD:main", check=False).returncode == 0:
                return
            self.git("pull", "--quiet", "--rebase", "-Xtheirs", "origin", "main")
        raise AssertionError("the commit was never pushed")

    def apply(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["mlspec", "apply", "--yes", *arguments],
            cwd=self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def begin(self) -> None:
        select = f"model.{self.name} | model.{SHARED}"
        self.process = self.apply("--lock-timeout", str(PATIENCE), "--select", select)

    def send(self, number: signal.Signals) -> None:
        """To an apply and all that it started."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


class Race:
    """The clones, and what became of their applies."""

    def __init__(
        self, place: Path, environment: Mapping[str, str], clones: int, rounds: int
    ) -> None:
        self.place = place
        self.rounds = rounds
        self.chance = random.Random(clones)
        self.clones: list[Clone] = []
        remote = place / "remote.git"
        self.remote = Git(remote)
        _run("git", "init", "--quiet", "--bare", "--initial-branch=main", remote)
        names = [f"m{number}" for number in range(clones)]
        for name in names:
            root = place / name
            _run("git", "clone", "--quiet", remote, root)
            clone = Clone(name, root, environment)
            clone.git("config", "mlspec.lease", str(LEASE))
            if self.clones:
                clone.git("pull", "--quiet", "origin", "main")
            else:
                self._start(clone, names)
            self.clones.append(clone)

    def _start(self, clone: Clone, names: list[str]) -> None:
        (clone.root / "specs").mkdir()
        (clone.root / "mlspec.yaml").write_text(HEAD)
        (clone.root / "rows.csv").write_text("a,b\n1,2\n")
        for name in [*names, SHARED]:
            clone.write(name, 0)
        clone.git("add", "mlspec.yaml", "rows.csv")
        clone.share("Start")

    def run(self, kills: int, stops: int) -> None:
        """Until each clone has applied so many rates; some are killed or stopped on the way."""
        deadline = time.monotonic() + PATIENCE
        try:
            for clone in self.clones:
                self._go_on(clone)
            while any(clone.process for clone in self.clones):
                assert time.monotonic() < deadline, "they did not end"
                time.sleep(self.chance.uniform(0.02, 0.3))
                now = time.monotonic()
                for clone in self.clones:
                    if clone.resume_at and now >= clone.resume_at:
                        clone.resume_at = 0.0
                        clone.send(signal.SIGCONT)
                    if clone.process and clone.process.poll() is not None:
                        self._take(clone)
                running = [c for c in self.clones if c.process and not c.resume_at]
                if not running or self.chance.random() > 0.15:
                    continue
                victim = self._holder(running) or self.chance.choice(running)
                if kills and self.chance.random() < 0.5:
                    kills -= 1
                    victim.send(signal.SIGKILL)
                elif stops:
                    stops -= 1
                    victim.send(signal.SIGSTOP)
                    victim.resume_at = now + self.chance.uniform(0.2, 3 * LEASE)
        finally:
            for clone in self.clones:
                if clone.process:
                    clone.send(signal.SIGKILL)
                    clone.process.communicate()

    def _holder(self, running: list[Clone]) -> Clone | None:
        """Mostly the one that has the lock: there is most to break."""
        found = self.remote.objects.get(LOCK)
        holder = load_lock(found.data).holder if found else None
        if holder is None or self.chance.random() < 0.2:
            return None
        return next((c for c in running if c.process and c.process.pid == holder.pid), None)

    def _take(self, clone: Clone) -> None:
        """An apply ended: a lost one is begun again, a good one is followed by the next round."""
        assert clone.process is not None
        code, said = clone.process.returncode, clone.process.communicate()[0]
        clone.process, clone.resume_at = None, 0.0
        assert "Traceback" not in said, said
        if code == 0:
            clone.endings["done"] += 1
            self._go_on(clone)
            return
        if code == -signal.SIGKILL:
            clone.endings["killed"] += 1
        else:
            assert code == ExitCode.LOCKED, said
            assert "lost the lock" in said, said
            clone.endings["lost"] += 1
        clone.begin()

    def _go_on(self, clone: Clone) -> None:
        if clone.rate == self.rounds:
            return
        clone.rate += 1
        clone.write(clone.name, clone.rate)
        turn = sum(each.rate for each in self.clones)
        if turn % 3 == 0:
            clone.write(SHARED, turn)
        clone.share(f"{clone.name} at {clone.rate}")
        clone.begin()

    def check(self, kills: int) -> dict[str, int]:
        """Nothing was lost, whoever looks; what there was, in numbers."""
        trained = Counter((self.place / "effects").read_text().split())
        for clone in self.clones:
            clone.git("pull", "--quiet", "--rebase", "origin", "main")
        for _ in range(2):  # the second time, each has what the last one of the first time did
            for clone in self.clones:
                process = clone.apply()
                assert process.communicate()[0] is not None
                assert process.returncode == 0
        ledgers = [Ledger(Git(clone.root)) for clone in self.clones]
        ledger = ledgers[0]
        assert {each.sync() for each in ledgers} == {ledger.tip}
        assert Remote(ledger.git, "origin").refs(REF) == {REF: ledger.tip}
        assert find_holder(ledger.git) is None
        entries = log(ledger)
        assert [entry.serial for entry in entries] == list(range(ledger.serial, 0, -1))
        recorded = load_recorded(ledger)
        for clone in self.clones:
            self._check_own(clone, ledger, trained)
            problems = [*find_problems(clone.root, Git(clone.root))]
            assert not problems, problems
            state = recorded.model_state(clone.name)
            assert state is not None
            assert state.version == self.rounds
        endings = sum((clone.endings for clone in self.clones), Counter[str]())
        assert endings["done"] == len(self.clones) * self.rounds
        assert endings["killed"] <= kills
        conceded = [entry for entry in entries if "not kept" in entry.detail]
        assert all(re.search(rf"\.{SHARED}\b", entry.address) for entry in conceded)
        told = sum(entry.action == "interrupt" for entry in entries)
        return {**endings, "entries": len(entries), "given way": len(conceded), "told": told}

    def _check_own(self, clone: Clone, ledger: Ledger, trained: Counter[str]) -> None:
        """Every rate has a run and a version, and was trained again only if it was cut short."""
        runs = ledger.list(version_path(clone.name, 1).replace("versions/1.json", "runs/train"))
        rates = []
        for path in runs:
            run = Run.model_validate_json(ledger.read(path) or b"")
            rates.append(
                run.entry["params"][f"pipelines/{clone.name}/params.json"]["train"]["rate"]
            )
        assert sorted(rates) == list(range(1, self.rounds + 1))
        numbers = set()
        for number in range(1, self.rounds + 1):
            found = ledger.read(version_path(clone.name, number))
            assert found is not None
            numbers.add(Version.model_validate_json(found).fingerprint)
        assert len(numbers) == self.rounds
        again = sum(trained[f"{clone.name}-{rate}"] - 1 for rate in range(1, self.rounds + 1))
        assert 0 <= again <= clone.endings["killed"]


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def race(
    place: Path,
    environment: Mapping[str, str],
    *,
    clones: int,
    rounds: int,
    kills: int,
    stops: int,
) -> None:
    began = time.monotonic()
    race = Race(place, environment, clones, rounds)
    race.run(kills, stops)
    print(race.check(kills), f"{time.monotonic() - began:.0f} s")  # noqa: T201


@pytest.mark.crash
def test_a_few_clones_that_are_killed_and_stopped(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    race(tmp_path, environment, clones=3, rounds=2, kills=2, stops=3)


@pytest.mark.crash
@pytest.mark.thorough
def test_four_clones_of_twenty_that_are_killed_and_stopped(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    race(tmp_path, environment, clones=4, rounds=20, kills=30, stops=30)
