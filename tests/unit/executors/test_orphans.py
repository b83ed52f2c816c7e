"""What a killed mlspec leaves at work ends at once, or by the next apply."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlspec.executors.orphans import OWNER, Guardian, end_orphans

pytestmark = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
PATIENCE = 60.0
RUN = """\
import sys
from pathlib import Path
from mlspec.executors import Job
from mlspec.executors.local import LocalExecutor
root = Path(sys.argv[1])
LocalExecutor().run(Job("stage.m.train", sys.argv[2], root, root / "log"))
"""


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_for(path: Path) -> str:
    deadline = time.monotonic() + PATIENCE
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text().strip()


def wait_for_end(pid: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not alive(pid)


def start(root: Path, command: str) -> subprocess.Popen[bytes]:
    """A process that runs a command; what that prints is in the log once it is watched."""
    return subprocess.Popen([sys.executable, "-c", RUN, str(root), command])


@pytest.mark.parametrize(
    "command",
    [
        "sleep 300 & echo $$ $!; wait",
        "trap '' TERM HUP; sleep 300 & echo $$ $!; wait",
    ],
)
def test_kill_9_of_mlspec_ends_the_command_and_what_it_started(
    tmp_path: Path, command: str
) -> None:
    mlspec = start(tmp_path, command)
    shell, child = map(int, wait_for(tmp_path / "log").split())
    mlspec.kill()
    mlspec.wait()
    assert wait_for_end(shell)
    assert wait_for_end(child)


def test_what_left_its_group_is_ended_by_the_next_apply(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    root.mkdir()
    other.mkdir()
    command = "setsid sh -c 'echo $$ > pid; exec sleep 300' & wait"
    both = [start(root, command), start(other, command)]
    left, spared = (int(wait_for(each / "pid")) for each in (root, other))
    for mlspec in both:
        mlspec.kill()
        mlspec.wait()
    try:
        assert alive(left)
        assert left in end_orphans(root)
        assert wait_for_end(left)
        assert alive(spared), "it is of another worktree"
        assert end_orphans(root) == []
    finally:
        os.kill(spared, signal.SIGKILL)


def test_only_groups_that_are_watched_are_ended() -> None:
    sleepers = [subprocess.Popen(["sleep", "300"], start_new_session=True) for _ in range(3)]
    guardian = Guardian()
    first, second, third = (each.pid for each in sleepers)
    with guardian.watch(first):
        pass
    watching = guardian.watch(second)
    watching.__enter__()
    with guardian.watch(third):
        pass
    guardian.close()
    assert sleepers[1].wait(PATIENCE) == -signal.SIGKILL
    for each in (sleepers[0], sleepers[2]):
        assert each.poll() is None
        each.kill()
        each.wait()
    watching.__exit__(None, None, None)


def test_the_mark_is_in_the_environment_of_stages(tmp_path: Path) -> None:
    assert start(tmp_path, f'test "${OWNER}" = "{tmp_path}" && echo yes > said').wait(PATIENCE) == 0
    assert wait_for(tmp_path / "said") == "yes"
