"""A job in a worker of Dask: handed on to a process that has a clone.

Comes in: a message for :mod:`mlspec.executors.worker`, as text. Goes out: its answer, as text. The
process is kept for the next job. It ends its command when this worker dies, however it does, and
when nobody wants the answer any more: the client is gone, or it has cancelled the task.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import threading
import time
from typing import Any

from distributed import Status, Worker, get_worker

from mlspec.children import NEUTRAL_FOLDER, make_command
from mlspec.executors.messages import Answer, Trouble

POLL = 0.5
"""Seconds between two looks at whether the answer is still wanted."""
EVERY = 0.25
"""Seconds for which printed lines are collected."""
MOST_LINES = 200
"""That are shown of each such time; the log has all."""
FAREWELL = 30.0
"""Seconds for a process to end its command and itself."""
_ENDED: dict[str, Any] = {}

_idle: list[Runner] = []
_turn = threading.Lock()


def run(asked: str, key: str, topic: str) -> str:
    """Have a message answered; `key` is the task's, printed lines go to `topic`."""
    worker = get_worker()
    runner = _take()
    try:
        answer = _follow(runner, asked, worker, key, topic)
    except BaseException:
        runner.close()
        raise
    if answer is None:
        code = runner.close()
        how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        message = f"the process that does the job ended ({how}), perhaps out of memory"
        trouble = Trouble(message=message, hint="look at the worker's own log")
        return Answer(worker=worker.address, trouble=trouble).model_dump_json()
    with _turn:
        _idle.append(runner)
    return json.dumps({**answer, "worker": worker.address})


def _take() -> Runner:
    """A process that is idle, else a new one."""
    with _turn:
        while _idle:
            runner = _idle.pop()
            if runner.alive:
                return runner
    return Runner()


def _follow(
    runner: Runner, asked: str, worker: Worker, key: str, topic: str
) -> dict[str, Any] | None:
    """The answer; none when the process ended, of itself or because nobody waits for it."""
    printed = _Printed(worker, topic, key)
    runner.ask(asked)
    looked = time.monotonic()
    while True:
        said = runner.read(EVERY)
        if said is _ENDED:
            return None
        if said is not None and "answer" in said:
            printed.flush()
            answer: dict[str, Any] = said["answer"]
            return answer
        if said is not None:
            printed.add(said["line"])
        printed.flush_if_due()
        if time.monotonic() - looked >= POLL:
            looked = time.monotonic()
            if not _wanted(worker, key):
                return None


def _wanted(worker: Worker, key: str) -> bool:
    """Whether the scheduler still waits for this task here."""
    if worker.status not in (Status.running, Status.paused, Status.closing_gracefully):
        return False
    task = worker.state.tasks.get(key)
    return task is not None and task.state in ("executing", "long-running")


class Runner:
    """A process of :mod:`mlspec.executors.worker`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            make_command("mlspec.executors.worker"),
            cwd=NEUTRAL_FOLDER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            encoding="utf-8",
        )
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, text: str) -> None:
        """Send a message, which is one line."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(text + "\n")
            self._process.stdin.flush()

    def read(self, timeout: float) -> dict[str, Any] | None:
        """What it says next; none if nothing within `timeout` seconds."""
        try:
            return self._said.get(timeout=timeout)
        except queue.Empty:
            return None

    def close(self) -> int:
        """Have it end its command and itself; its exit code."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            return self._process.wait(FAREWELL)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                self._said.put(json.loads(line))
        self._process.stdout.close()
        self._said.put(_ENDED)


class _Printed:
    """Printed lines on their way to the client, some at a time."""

    def __init__(self, worker: Worker, topic: str, key: str) -> None:
        self._worker = worker
        self._topic = topic
        self._key = key
        self._lines: list[str] = []
        self._left_out = 0
        self._sent = time.monotonic()

    def add(self, line: str) -> None:
        if len(self._lines) < MOST_LINES:
            self._lines.append(line)
        else:
            self._left_out += 1

    def flush_if_due(self) -> None:
        if time.monotonic() - self._sent >= EVERY:
            self.flush()

    def flush(self) -> None:
        self._sent = time.monotonic()
        lines, self._lines = self._lines, []
        if self._left_out:
            lines.append(f"... {self._left_out} lines are only in the log")
            self._left_out = 0
        if lines:
            self._worker.log_event(self._topic, {"key": self._key, "lines": lines})
