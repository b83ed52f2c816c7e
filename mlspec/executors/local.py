"""Runs a stage's command on this machine, as DVC would.

Comes in: a :class:`~mlspec.executors.Job`. Goes out: an outcome and the log. The command runs in a
process group of its own, which is ended whole: at the timeout, when mlspec is interrupted or
killed, and after the command, for what it left behind could still change what it wrote.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import FrameType
from typing import IO

from mlspec.children import withhold_credentials
from mlspec.errors import MlspecError, why_not_started
from mlspec.executors import Cause, Job, Outcome, Stop
from mlspec.executors.capacity import Machine, memory_groups
from mlspec.executors.devices import Devices
from mlspec.executors.interpreter import Interpreters
from mlspec.executors.orphans import GUARDIAN, OWNER

TAIL = 50
LINE_LIMIT = 4096
GRACE = 3.0
"""Seconds between SIGTERM and SIGKILL."""
POLL = 0.1
_KNOWN_CODES = {126: " (cannot execute a command)", 127: " (a command was not found)"}
_NO_STARTUP_FILES = {"zsh": ["--no-rcs"], "bash": ["--noprofile", "--norc"]}


class LocalExecutor:
    """Commands run in the repository, from whatever thread. `stop` ends all that run."""

    def __init__(self, stop: Stop | None = None, machine: Machine | None = None) -> None:
        self._stop = stop
        self._machine = machine or Machine()
        self._devices = Devices(self._machine)
        self._interpreters = Interpreters()
        self._environments: dict[Path, dict[str, str]] = {}

    def check(self, job: Job) -> None:
        self._machine.check(job.address, job.resources)
        if job.python:
            env = self._environment(job)
            self._interpreters.check(job.address, job.command, job.python, job.root, env)

    def run(self, job: Job) -> Outcome:
        with self._devices.lend(job.resources.gpus) as devices:
            return run_command(
                job.command,
                cwd=job.root,
                env={**self._environment(job), **devices},
                log=job.log,
                timeout=job.timeout,
                on_line=job.on_line,
                stop=self._stop,
            )

    def _environment(self, job: Job) -> dict[str, str]:
        """What :func:`make_environment` gives, for most of which this process is asked once."""
        kind, _, rest = job.address.partition(".")
        model, _, stage = rest.rpartition(".")
        address = f"pipelines/{model}/dvc.yaml:{stage}" if kind == "stage" else job.address
        if job.root not in self._environments:
            self._environments[job.root] = make_environment(job.root, address)
        return {**self._environments[job.root], "DVC_STAGE": address}


def make_environment(
    root: Path, stage: str, base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """The environment that DVC gives a stage, with the interpreter that runs mlspec first.

    An activated environment is left as it is. A CI job's own credentials are kept from training
    code.
    """
    env = {
        **withhold_credentials(base),
        "DVC_ROOT": str(root),
        "DVC_STAGE": stage,
        OWNER: str(root),
        "PYTHONUNBUFFERED": "1",
    }
    activated = "VIRTUAL_ENV" in env or "CONDA_PREFIX" in env
    if not activated and sys.prefix != sys.base_prefix:
        folder = str(Path(sys.executable).parent)
        env["PATH"] = os.pathsep.join(filter(None, (folder, env.get("PATH", os.defpath))))
    return env


def run_command(
    command: str,
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    timeout: float | None = None,
    on_line: Callable[[str], None] | None = None,
    stop: Stop | None = None,
) -> Outcome:
    """Run each line of `command` in the user's shell until one fails, or until `stop` asks.

    Output goes to `log` byte by byte and to `on_line` in lines. In the main thread: when this
    process is interrupted, or asked to terminate, the command is ended before the exception goes
    on. Other threads hear of no signal, so that whoever starts them has to give `stop`.
    """
    stop = stop or Stop()
    began = time.monotonic()
    deadline = None if timeout is None else began + timeout
    killed_before = _count_oom_kills()
    log.parent.mkdir(parents=True, exist_ok=True)
    GUARDIAN.start()
    with log.open("ab") as file, _terminable():
        printed = _Printed(file, on_line)
        ended = None
        code = 0
        for line in command.splitlines():
            if stop.asked.is_set():
                ended = Cause.INTERRUPTED
                break
            process = _Process([*_shell(env), "-c", line], cwd, env)
            with GUARDIAN.watch(process.group):
                ended = process.follow(printed, deadline, stop)
            code = process.code
            if ended is not None or code != 0:
                break
        printed.finish()
    cause, detail = _explain(code, ended, timeout, _count_oom_kills() > killed_before)
    return Outcome(cause, code, time.monotonic() - began, detail, tuple(printed.tail))


class _Process:
    """A shell in a process group of its own."""

    def __init__(self, arguments: list[str], cwd: Path, env: Mapping[str, str]) -> None:
        try:
            self._popen = subprocess.Popen(
                arguments,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise MlspecError(why_not_started(arguments[0], error)) from error
        assert self._popen.stdout is not None
        self._output = self._popen.stdout
        self._pipe = self._output.fileno()
        os.set_blocking(self._pipe, False)

    @property
    def group(self) -> int:
        return self._popen.pid

    @property
    def code(self) -> int:
        return self._popen.wait()

    def follow(self, printed: _Printed, deadline: float | None, stop: Stop) -> Cause | None:
        """Read until the process ends, or end it; says why, if it was not its own doing."""
        open_ = True
        try:
            with selectors.DefaultSelector() as selector:
                selector.register(self._pipe, selectors.EVENT_READ)
                while self._popen.poll() is None:
                    if stop.asked.is_set():
                        self._end(printed, stop)
                        return Cause.INTERRUPTED
                    if deadline is not None and time.monotonic() >= deadline:
                        self._end(printed, stop)
                        return Cause.TIMEOUT
                    if not open_:
                        with contextlib.suppress(subprocess.TimeoutExpired):
                            self._popen.wait(POLL)
                    elif selector.select(POLL):
                        open_ = printed.read(self._pipe)
            printed.read(self._pipe)
            return None
        except BaseException:
            self._end(printed, stop)
            raise
        finally:
            self._signal(signal.SIGKILL)
            self._popen.wait()
            self._output.close()

    def _end(self, printed: _Printed, stop: Stop) -> None:
        self._signal(signal.SIGTERM)
        limit = time.monotonic() + GRACE
        while self._alive() and time.monotonic() < limit and not stop.at_once.is_set():
            printed.read(self._pipe)
            time.sleep(0.02)
        self._signal(signal.SIGKILL)
        self._popen.wait()
        printed.read(self._pipe)

    def _alive(self) -> bool:
        """Whether any process of the group is: the shell may end before what it has started."""
        if self._popen.poll() is None:
            return True
        try:
            os.killpg(self._popen.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, number)


class _Printed:
    """What a command prints: raw to the log, by line to a listener, the last lines kept."""

    def __init__(self, file: IO[bytes], on_line: Callable[[str], None] | None) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._file = file
        self._on_line = on_line
        self._rest = b""

    def read(self, pipe: int) -> bool:
        """Take what is there, without waiting; false at the end."""
        while True:
            try:
                data = os.read(pipe, 1 << 16)
            except BlockingIOError:
                return True
            if not data:
                return False
            self._keep(data)
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._say(line)
            if len(self._rest) > 1 << 20:
                # a progress bar, or no text at all
                self._rest = self._rest[-LINE_LIMIT:]

    def finish(self) -> None:
        """A last line without an end is a line."""
        if self._rest:
            self._say(self._rest)
            self._rest = b""

    def _keep(self, data: bytes) -> None:
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise MlspecError(f"cannot write {self._file.name}: {error.strerror}") from error

    def _say(self, line: bytes) -> None:
        # of a line that was drawn again and again only the last drawing counts
        text = line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
        if len(text) > LINE_LIMIT:
            text = f"{text[: LINE_LIMIT - 1]}…"
        self.tail.append(text)
        if self._on_line is not None:
            self._on_line(text)


def _shell(env: Mapping[str, str]) -> list[str]:
    shell = env.get("SHELL") or "/bin/sh"
    return [shell, *_NO_STARTUP_FILES.get(Path(shell).name.lower(), [])]


def _explain(
    code: int, ended: Cause | None, timeout: float | None, oom_killed: bool
) -> tuple[Cause, str]:
    if ended is Cause.TIMEOUT:
        return ended, f"ended after its timeout of {timeout:g} s"
    if ended is not None:
        return ended, "interrupted"
    if code == 0:
        return Cause.OK, "ended well"
    number = -code if code < 0 else code - 128
    try:
        name = signal.Signals(number).name
    except ValueError:
        return Cause.EXIT, f"exit code {code}{_KNOWN_CODES.get(code, '')}"
    if number == signal.SIGKILL and oom_killed:
        # the kernel counts for all that run here: it may have been another command's process
        detail = "killed (SIGKILL), perhaps out of memory: the kernel ended a process for that"
        return Cause.OUT_OF_MEMORY, detail
    if number == signal.SIGKILL:
        return Cause.SIGNAL, "killed (SIGKILL), often out of memory"
    return Cause.SIGNAL, f"killed by {name}"


def _count_oom_kills() -> int:
    """How many processes of this control group the kernel has killed for memory, if it says so."""
    counter = _oom_counter()
    if counter is not None:
        with contextlib.suppress(OSError, ValueError):
            counts = dict(entry.split() for entry in counter.read_text().splitlines())
            return int(counts.get("oom_kill", 0))
    return 0


@cache
def _oom_counter() -> Path | None:
    names = ("memory.events", "memory.oom_control")
    files = (group / name for group in memory_groups() for name in names)
    return next((file for file in files if os.access(file, os.R_OK)), None)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is an exception meanwhile, unless somebody else handles it or this is a thread."""
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _terminate(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
