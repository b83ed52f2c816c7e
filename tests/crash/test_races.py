"""Many writers of one ledger, some killed and some stopped for a while: no update is lost."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from mlspec.commands.fsck import find_problems
from mlspec.git import Git
from mlspec.ledger.history import log
from mlspec.ledger.state import load_recorded
from mlspec.ledger.store import Ledger

PATIENCE = 600.0
WRITER = """
import sys, uuid
from pathlib import Path
from mlspec.git import Git
from mlspec.ledger.entry import Entry
from mlspec.ledger.lock import acquire
from mlspec.ledger.paths import state_path
from mlspec.ledger.records import ModelState
from mlspec.ledger.state import load_recorded
from mlspec.ledger.store import Ledger
root, told, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
while told.exists() and len(told.read_text().split()) < count or not told.exists():
    git = Git(root)
    with acquire(git, timeout=600):
        ledger = Ledger(git)
        state = load_recorded(ledger).model_state("shared")
        number = state.durations["n"][0] + 1 if state else 1
        name = uuid.uuid4().hex
        state = ModelState(durations={"n": (number,)})
        ledger.record({state_path("shared"): state}, Entry(command="apply", detail=name))
        with told.open("a") as file:
            file.write(name + "\\n")
    git.close()
"""


class Writers:
    """Processes that each add one to the same number, so many times, however often they die."""

    def __init__(self, root: Path, place: Path, processes: int, count: int) -> None:
        self._root = root
        self.told = [place / f"told-{number}" for number in range(processes)]
        self._count = count
        self.running = {file: self._start(file) for file in self.told}

    def _start(self, file: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", WRITER, str(self._root), str(file), str(self._count)]
        return subprocess.Popen(command, start_new_session=True, env={**os.environ})

    def run(self, chance: random.Random, kills: int, stops: int) -> None:
        """Until all are done; so many are killed, and so many stopped for a while, on the way."""
        deadline = time.monotonic() + PATIENCE
        stopped: list[tuple[float, subprocess.Popen[bytes]]] = []
        try:
            while self.running:
                assert time.monotonic() < deadline, "they did not end"
                time.sleep(chance.uniform(0.02, 0.2))
                for file, process in list(self.running.items()):
                    if process.poll() == 0:
                        del self.running[file]
                    elif process.poll() is not None:
                        assert process.returncode == -signal.SIGKILL, process.returncode
                        self.running[file] = self._start(file)
                for until, process in list(stopped):
                    if time.monotonic() >= until:
                        _send(process, signal.SIGCONT)
                        stopped.remove((until, process))
                if not self.running:
                    break
                victim = chance.choice(list(self.running.values()))
                if kills and chance.random() < 0.5:
                    kills -= 1
                    _send(victim, signal.SIGKILL)
                elif stops and chance.random() < 0.5:
                    stops -= 1
                    _send(victim, signal.SIGSTOP)
                    stopped.append((time.monotonic() + chance.uniform(0.1, 1.0), victim))
        finally:
            for process in self.running.values():
                _send(process, signal.SIGKILL)
                process.wait()


def _send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """To a writer and to the Gits that it runs."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def race(tmp_path: Path, processes: int, count: int, kills: int, stops: int) -> None:
    root = tmp_path / "repository"
    subprocess.run(["git", "init", "--quiet", root], check=True)
    writers = Writers(root, tmp_path, processes, count)
    writers.run(random.Random(processes), kills, stops)
    git = Git(root)
    ledger = Ledger(git)
    told = [name for file in writers.told for name in file.read_text().split()]
    names = [entry.detail for entry in log(ledger)]
    state = load_recorded(ledger).model_state("shared")
    assert state is not None
    assert len(told) == processes * count
    assert set(told) <= set(names)
    assert len(names) == len(set(names)) == ledger.serial == state.durations["n"][0]
    assert len(names) - len(told) <= kills  # written, and killed before they could tell
    left = {problem.kind for problem in find_problems(root, git)}
    assert left <= {"temporary", "lock"}
    git.close()


@pytest.mark.crash
def test_a_few_writers_that_are_killed_and_stopped(tmp_path: Path) -> None:
    race(tmp_path, processes=3, count=6, kills=5, stops=3)


@pytest.mark.crash
@pytest.mark.thorough
def test_eight_writers_of_twenty_that_are_killed_and_stopped(tmp_path: Path) -> None:
    race(tmp_path, processes=8, count=20, kills=60, stops=40)
