"""Commands are run as DVC runs them, and end for a reason that is told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.executors import Cause, Job, Outcome, Stop, local
from mlspec.executors.local import LocalExecutor, make_environment, run_command


def run(root: Path, command: str, **options: object) -> Outcome:
    env = {"PATH": os.environ["PATH"], "SHELL": "/bin/sh"}
    return run_command(command, cwd=root, env=env, log=root / "logs/x.log", **options)  # type: ignore[arg-type]


def gone(pid: int) -> bool:
    """Whether the process ended, waiting for the kernel to do it."""
    for _ in range(3000):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("command", "cause", "code", "detail"),
    [
        ("true", Cause.OK, 0, "ended well"),
        ("exit 3", Cause.EXIT, 3, "exit code 3"),
        ("no-such-command-here", Cause.EXIT, 127, "exit code 127 (a command was not found)"),
        ("exit 255", Cause.EXIT, 255, "exit code 255"),
        ("kill -SEGV $$", Cause.SIGNAL, -11, "killed by SIGSEGV"),
        ("sh -c 'kill -SEGV $$'; exit $?", Cause.SIGNAL, 139, "killed by SIGSEGV"),
        ("kill -KILL $$", Cause.SIGNAL, -9, "killed (SIGKILL), often out of memory"),
        ("false\ntrue", Cause.EXIT, 1, "exit code 1"),
        ("cd /\ntest $(pwd) != /", Cause.OK, 0, "ended well"),
    ],
)
def test_why_a_command_ended(
    tmp_path: Path, command: str, cause: Cause, code: int, detail: str
) -> None:
    outcome = run(tmp_path, command)
    assert (outcome.cause, outcome.exit_code, outcome.detail) == (cause, code, detail)


def test_output_goes_raw_to_the_log_and_in_lines_to_the_listener(tmp_path: Path) -> None:
    lines: list[str] = []
    outcome = run(
        tmp_path, r"printf 'one\n10%%\r20%%\n\033[31m\377'; echo two >&2", on_line=lines.append
    )
    assert lines == ["one", "20%", "\x1b[31m�two"]
    assert (tmp_path / "logs/x.log").read_bytes() == b"one\n10%\r20%\n\x1b[31m\xfftwo\n"
    assert outcome.tail == tuple(lines)


def test_the_tail_is_short_and_so_is_each_line(tmp_path: Path) -> None:
    outcome = run(tmp_path, "seq 1000; head -c 3000000 /dev/zero | tr '\\0' x; echo; printf end")
    assert len(outcome.tail) == local.TAIL
    assert outcome.tail[-1] == "end"
    assert max(map(len, outcome.tail)) <= local.LINE_LIMIT
    assert (tmp_path / "logs/x.log").stat().st_size > 3_000_000


def test_the_log_of_a_second_try_follows_the_first(tmp_path: Path) -> None:
    run(tmp_path, "echo one")
    run(tmp_path, "echo two")
    assert (tmp_path / "logs/x.log").read_text() == "one\ntwo\n"


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    outcome = run(tmp_path, "sleep 60 & echo $!; wait", timeout=2)
    assert (outcome.cause, outcome.detail) == (Cause.TIMEOUT, "ended after its timeout of 2 s")
    assert gone(int(outcome.tail[0]))


def test_a_command_that_ignores_the_polite_signal_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "GRACE", 0.2)
    outcome = run(tmp_path, "trap '' TERM; echo $$; while :; do sleep 1; done", timeout=2)
    assert outcome.cause is Cause.TIMEOUT
    assert gone(int(outcome.tail[0]))


def test_what_a_command_leaves_behind_is_ended(tmp_path: Path) -> None:
    outcome = run(tmp_path, "sleep 60 & echo $!")
    assert outcome.cause is Cause.OK
    assert gone(int(outcome.tail[0]))


def test_a_command_may_close_its_output(tmp_path: Path) -> None:
    outcome = run(tmp_path, "exec >&- 2>&-; sleep 0.3; exit 4")
    assert outcome.exit_code == 4


def test_it_has_no_input_to_wait_for(tmp_path: Path) -> None:
    assert run(tmp_path, "cat").cause is Cause.OK


def test_another_thread_can_stop_it(tmp_path: Path) -> None:
    stop = Stop()
    outcome = run(tmp_path, "echo $$; sleep 60", on_line=lambda _: stop.asked.set(), stop=stop)
    assert outcome.cause is Cause.INTERRUPTED
    assert gone(int(outcome.tail[0]))


def test_after_it_was_stopped_nothing_starts(tmp_path: Path) -> None:
    stop = Stop()
    outcome = run(tmp_path, "echo one\necho two", on_line=lambda _: stop.asked.set(), stop=stop)
    assert (outcome.cause, outcome.tail) == (Cause.INTERRUPTED, ("one",))
    outcome = run(tmp_path, "echo three", stop=stop)
    assert (outcome.cause, outcome.tail) == (Cause.INTERRUPTED, ())


def test_all_threads_are_stopped(tmp_path: Path) -> None:
    """Each in its own command; those that do not obey are killed when they are to end at once."""
    stop = Stop()
    executor = LocalExecutor(stop)
    running = threading.Barrier(4)
    outcomes: list[Outcome] = []

    def work(number: int) -> None:
        job = Job(
            f"stage.m{number}.train",
            "trap '' TERM; echo $$; while :; do sleep 1; done",
            tmp_path,
            tmp_path / f"{number}.log",
            on_line=lambda _: running.wait(30) and None,
        )
        outcomes.append(executor.run(job))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    running.wait(30)
    stop.asked.set()
    stop.at_once.set()
    for thread in threads:
        thread.join(30)
    assert [outcome.cause for outcome in outcomes] == [Cause.INTERRUPTED] * 3
    assert all(gone(int(outcome.tail[0])) for outcome in outcomes)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, -2)])
def test_a_signal_to_mlspec_ends_the_command(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    script = f"""
import os, pathlib
from mlspec.executors.local import run_command
root = pathlib.Path({str(tmp_path)!r})
run_command("echo $$; sleep 60", cwd=root, env=os.environ, log=root / "log",
            on_line=lambda line: print(line, flush=True))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        command = int(process.stdout.readline())
        process.send_signal(number)
        assert process.wait(60) == code
    assert gone(command)


def test_an_exception_of_the_listener_ends_the_command(tmp_path: Path) -> None:
    heard: list[str] = []

    def fail(line: str) -> None:
        heard.append(line)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        run(tmp_path, "echo $$; sleep 60", on_line=fail)
    assert gone(int(heard[0]))


def test_memory_is_named_when_the_kernel_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = iter((4, 5))
    monkeypatch.setattr(local, "_count_oom_kills", lambda: next(counts))
    outcome = run(tmp_path, "sh -c 'kill -KILL $$'; exit $?")
    assert (outcome.cause, outcome.exit_code) == (Cause.OUT_OF_MEMORY, 137)
    assert "perhaps out of memory" in outcome.detail


def test_a_shell_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MlspecError, match="cannot start /no/shell"):
        run_command("true", cwd=tmp_path, env={"SHELL": "/no/shell"}, log=tmp_path / "log")


def test_the_environment_is_dvcs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELL", "/bin/sh")
    job = Job("stage.m.train", "echo $DVC_ROOT $DVC_STAGE", tmp_path, tmp_path / "log")
    outcome = LocalExecutor().run(job)
    assert outcome.tail == (f"{tmp_path} pipelines/m/dvc.yaml:train",)


def test_the_interpreter_of_mlspec_comes_first_unless_one_is_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", "/venv")
    monkeypatch.setattr(sys, "executable", "/venv/bin/python")
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    assert make_environment(tmp_path, "s", {"PATH": "/bin"})["PATH"] == "/venv/bin:/bin"
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX"):
        assert make_environment(tmp_path, "s", {"PATH": "/bin", name: "/x"})["PATH"] == "/bin"
    monkeypatch.setattr(sys, "base_prefix", "/venv")
    assert make_environment(tmp_path, "s", {"PATH": "/bin"})["PATH"] == "/bin"


def test_a_ci_jobs_own_credentials_are_kept_from_stages(tmp_path: Path) -> None:
    base = {
        "PATH": "/bin",
        "GIT_TOKEN": "secret",
        "GIT_CONFIG_VALUE_0": "secret",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "secret",
        "AWS_PROFILE": "training",
    }
    env = make_environment(tmp_path, "train", base)
    assert "secret" not in env.values()
    assert env["AWS_PROFILE"] == "training"
