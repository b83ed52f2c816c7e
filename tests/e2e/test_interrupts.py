"""Signals, the question before an apply, readers that go: how a command ends, what it leaves."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

PATIENCE = 120.0
"""Seconds to wait for what happens within a few on a machine that is not busy."""
POLITE = "import time\nprint('working', flush=True)\ntime.sleep(600)\n"
RUDE = "import os, signal\nfor number in (1, 2, 15):\n    signal.signal(number, signal.SIG_IGN)\n"
RUDE += f"os.fork()\n{POLITE}"
DEAF = "import signal\nsignal.signal(signal.SIGTERM, lambda *_: print('asked', flush=True))\n"
DEAF += POLITE
PATIENT = "from mlspec.executors import local; local.GRACE = 3600; "
PATIENT += "from mlspec.__main__ import main; main()"
"""An mlspec that gives stages an hour to obey."""


@pytest.fixture(autouse=True)
def hangup_is_heard() -> Iterator[None]:
    """Whoever runs the tests under nohup hands its deafness down to every child."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def project(trained: Any, tmp_path: Path) -> Any:
    """A copy of the trained project in which nothing serves."""
    copy = dataclasses.replace(trained, root=tmp_path / "loans", journal=tmp_path / "journal")
    shutil.copytree(trained.root, copy.root, symlinks=True)
    return copy


class Command:
    """A command that runs, in a process group of its own as a shell starts it."""

    def __init__(self, project: Any, *arguments: str, **options: Any) -> None:
        self.root: Path = project.root
        self._logs = self._list_logs()
        environment = {**project.environment, "STAGE_JOURNAL": str(project.journal)}
        given = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, **options}
        self.process = subprocess.Popen(
            arguments,
            cwd=project.root,
            env=environment,
            stderr=given.pop("stderr", subprocess.PIPE),
            start_new_session=True,
            **given,
        )

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.02)

    def wait_for_a_line(self, words: str) -> None:
        """Until a stage that it runs has printed `words` to its log."""
        self.wait_for(
            lambda: any(words in log.read_text() for log in self._list_logs() - self._logs)
        )

    def _list_logs(self) -> set[Path]:
        return set(self.root.glob(".mlspec/logs/*/*.log"))

    def said(self) -> str:
        assert self.process.stderr is not None
        return str(self.process.stderr.read().decode())

    def end(self) -> int:
        """Its exit code."""
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def command(project: Any, *arguments: str, **options: Any) -> Iterator[Command]:
    running = Command(project, *arguments, **options)
    try:
        yield running
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()
        if running.process.stderr is not None:
            running.process.stderr.close()


def processes_in(root: Path) -> list[str]:
    """Command lines of the processes that work in a folder; those that just end are waited for."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "cwd").readlink().is_relative_to(root):
                    found.append((process / "cmdline").read_text().replace("\0", " "))
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def check_interrupted(project: Any, address: str) -> None:
    """It stands in the audit, nothing runs, and the lock is free."""
    newest = project.json("log")[0]
    assert (newest["address"], newest["outcome"]) == (address, "interrupted")
    assert processes_in(project.root) == []
    assert not list(project.root.rglob(".mlspec-*.tmp"))


def check_mended(project: Any) -> None:
    """What Git has is as it was before, and no stage has to run for that."""
    project.git("checkout", "--", ".")
    assert project.apply() == []
    project.mlspec("pull")
    project.check_settled()


# While a stage runs -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "whole_group", "code"),
    [
        (signal.SIGINT, True, POLITE),
        (signal.SIGINT, False, RUDE),
        (signal.SIGTERM, False, POLITE),
        (signal.SIGTERM, True, RUDE),
        (signal.SIGHUP, False, POLITE),
    ],
    ids=["ctrl-c", "int-rude", "term", "term-rude", "hangup"],
)
def test_a_signal_while_a_stage_runs(
    project: Any, number: signal.Signals, whole_group: bool, code: str
) -> None:
    lock = project.read("pipelines/loans/dvc.lock")
    project.write("src/prepare.py", code)
    with command(project, "mlspec", "apply", "--yes") as running:
        running.wait_for_a_line("working")
        (os.killpg if whole_group else os.kill)(running.process.pid, number)
        assert running.end() == 128 + number
        assert running.said().endswith("interrupted\n")
    check_interrupted(project, "stage.loans.prepare")
    assert project.read("pipelines/loans/dvc.lock") == lock
    assert project.plan()["stage.loans.prepare"]["action"] == "run"
    check_mended(project)


def test_a_second_signal_does_not_wait(project: Any) -> None:
    """The first one waits for a stage that does not obey."""
    project.write("src/prepare.py", DEAF)
    with command(project, sys.executable, "-P", "-c", PATIENT, "apply", "--yes") as running:
        running.wait_for_a_line("working")
        running.process.send_signal(signal.SIGINT)
        running.wait_for_a_line("asked")
        assert running.process.poll() is None
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 130
    assert processes_in(project.root) == []
    check_mended(project)


def test_a_stage_has_time_to_clean_up(project: Any) -> None:
    """Although the shell that started it ends at once."""
    code = "import signal, sys, time\nfrom pathlib import Path\n\n\ndef clean(*_):\n"
    code += "    time.sleep(0.5)\n    Path('cleaned').touch()\n    sys.exit(1)\n\n\n"
    project.write("src/prepare.py", f"{code}signal.signal(signal.SIGTERM, clean)\n{POLITE}")
    with command(project, sys.executable, "-P", "-c", PATIENT, "apply", "--yes") as running:
        running.wait_for_a_line("working")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == 130
    assert (project.root / "cleaned").exists()
    assert processes_in(project.root) == []


@pytest.mark.parametrize("left", ["in its group", "in a group of its own"])
def test_kill_9_leaves_no_stage_that_writes_beside_the_next_one(project: Any, left: str) -> None:
    away = "" if left == "in its group" else "import os\nif not os.fork(): os.setsid()\n"
    code = "import time\nprint('working', flush=True)\nwhile True:\n    time.sleep(0.01)\n"
    code += "    open('build/rows.csv', 'w').write('of the one that was killed')\n"
    before = project.read("src/prepare.py")
    project.write("src/prepare.py", away + code)
    with command(project, "mlspec", "apply", "--yes") as running:
        running.wait_for_a_line("working")
        running.process.kill()
        running.end()
    if not away:
        assert processes_in(project.root) == []
    project.write("src/prepare.py", before + "# again\n")
    assert project.apply() == ["prepare"]
    assert processes_in(project.root) == []
    project.check_settled()
    assert "killed" not in project.read("build/rows.csv")


def test_hanging_up_is_ignored_under_nohup(project: Any) -> None:
    code = project.read("src/prepare.py")
    project.write(
        "src/prepare.py", f"import time\nprint('working', flush=True)\ntime.sleep(1)\n{code}"
    )
    with command(project, "nohup", "mlspec", "apply", "--yes") as running:
        running.wait_for_a_line("working")
        running.process.send_signal(signal.SIGHUP)
        assert running.process.wait(PATIENCE) == 0
    project.check_settled()


@pytest.mark.parametrize(
    "delay",
    [0.0, 0.3, *(pytest.param(n, marks=pytest.mark.thorough) for n in (0.1, 0.2, 0.4, 0.6))],
)
def test_a_signal_at_any_time(project: Any, delay: float) -> None:
    """Whatever it was about to do, the next apply goes on from there."""
    project.edit("threshold: 45", "threshold: 46")
    with command(project, "mlspec", "apply", "--yes") as running:
        lock = project.root / ".git/mlspec.lock"
        running.wait_for(lambda: lock.stat().st_size or running.process.poll() is not None)
        time.sleep(delay)
        running.process.send_signal(signal.SIGTERM)
        assert running.end() in (143, 0, -15)  # the last: when nothing was left but to exit
        said = running.said()
        assert "Traceback" not in said
        assert "defect" not in said
    assert processes_in(project.root) == []
    project.apply()
    project.check_settled()
    assert project.json("status")["models"][0]["version"] == 2


# While a release is deployed ----------------------------------------------------------------------


def candidates(project: Any) -> list[Path]:
    return list(project.root.glob(".mlspec/run/*/metrics/private-*"))


def staged(project: Any) -> list[Path]:
    return list(project.root.glob(".mlspec/releases/.staging-*"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "number"),
    [
        (staged, signal.SIGINT),
        (candidates, signal.SIGTERM),
        pytest.param(staged, signal.SIGTERM, marks=pytest.mark.thorough),
        pytest.param(candidates, signal.SIGINT, marks=pytest.mark.thorough),
    ],
)
def test_a_signal_while_a_release_is_deployed(
    served: Any, moment: Callable[[Any], list[Path]], number: signal.Signals
) -> None:
    """The version that serves goes on serving, and nothing is left of the other."""
    before = len(moment(served))
    served.edit("threshold: 45", "threshold: 46")
    with command(served, "mlspec", "apply", "--yes") as running:
        running.wait_for(lambda: len(moment(served)) > before)
        os.killpg(running.process.pid, number)
        assert running.end() == 128 + number
    newest = served.json("log")[0]
    assert (newest["address"], newest["outcome"]) == ("deployment.loans@local", "interrupted")
    assert served.ask(70) == (1, 25.0)
    assert list(served.plan()) == ["deployment.loans@local"]
    assert served.apply() == []
    assert served.ask(70) == (2, 24.0)
    served.check_settled()
    assert not staged(served)
    assert len(candidates(served)) == 1


@pytest.mark.slow
def test_a_signal_while_the_first_release_is_deployed(served: Any) -> None:
    """Nothing serves, nothing stays behind, and the next apply serves."""
    served.mlspec("destroy", "--yes")
    with command(served, "mlspec", "apply", "--yes") as running:
        running.wait_for(lambda: candidates(served))
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 143
    deadline = time.monotonic() + PATIENCE
    while list(served.root.glob(".mlspec/run/*/state.json")):
        assert time.monotonic() < deadline, "the supervisor did not end"
        time.sleep(0.1)
    assert list(served.plan()) == ["deployment.loans@local"]
    served.apply()
    assert served.ask(70) == (1, 25.0)
    served.mlspec("plan", "--detailed-exitcode")


# Questions ----------------------------------------------------------------------------------------


def test_nobody_to_ask(project: Any) -> None:
    project.edit("threshold: 45", "threshold: 46")
    before = project.git("status", "--porcelain")
    said = project.mlspec("apply", code=1).stderr
    assert "error: nobody is here to confirm the plan" in said
    assert "= help: look at `mlspec plan`, then run `mlspec apply --yes`" in said
    assert project.git("status", "--porcelain") == before


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"no\n", 1),
        (b"\n", 1),
        (b"yep\n", 1),
        (b"\x04", 1),
        (b"\x03", 130),
        (b"yes\n", 0),
        (b"y\n", 0),
    ],
    ids=["no", "nothing", "yep", "end of file", "ctrl-c", "yes", "y"],
)
def test_the_answer_on_a_terminal(project: Any, answer: bytes, code: int) -> None:
    """Only `yes` and `y` are yes. The terminal makes a signal of Ctrl-C, as a real one does."""
    project.edit("threshold: 45", "threshold: 46")
    before = project.git("status", "--porcelain")
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(project.root)
        environment = {**project.environment, "STAGE_JOURNAL": str(project.journal)}
        os.execvpe("mlspec", ["mlspec", "apply"], environment)
    said = b""
    while b"[yes/no]" not in said:
        said += os.read(terminal, 4096)
    os.write(terminal, answer)
    with contextlib.suppress(OSError):  # how a terminal says that its other side is gone
        while more := os.read(terminal, 4096):
            said += more
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == code, said
    if code:
        assert project.git("status", "--porcelain") == before
        assert (b"not confirmed; nothing was changed" in said) is (code == 1)
    else:
        project.check_settled()


# Readers ------------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough(project: Any) -> None:
    project.edit("threshold: 45", "threshold: 46")
    script = "set -o pipefail; mlspec plan --explain | head -1 >/dev/null; echo ${PIPESTATUS[0]}"
    done = project.run("/bin/bash", "-c", script)
    assert done.stdout in ("0\n", "1\n")
    assert done.stderr == ""


def test_a_reader_that_goes_while_a_stage_runs(project: Any) -> None:
    """Progress that nobody can see any more ends the apply; what was not recorded is done again."""
    chatty = "import time\nprint('working', flush=True)\nwhile True:\n    print('x', flush=True)\n"
    project.write("src/prepare.py", f"{chatty}    time.sleep(0.05)\n")
    with command(project, "mlspec", "apply", "--yes") as running:
        running.wait_for_a_line("working")
        assert running.process.stderr is not None
        running.process.stderr.close()
        running.process.stderr = None
        assert running.process.wait(PATIENCE) == 1
    assert processes_in(project.root) == []
    check_mended(project)
