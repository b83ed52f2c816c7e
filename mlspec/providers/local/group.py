"""The workers of one release: started together, started again when they crash, drained together.

Used by the supervisor; only the standard library is imported.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mlspec.children import make_command

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0
STEADY_SECONDS = 60.0
KILL_SECONDS = 5.0
log = logging.getLogger("mlspec.supervisor")

Event = Literal["ready", "listening"]


@dataclass(frozen=True, slots=True)
class Launch:
    """What a group runs and how."""

    digest: str
    folder: str
    bento: str
    model: str
    version: int
    workers: int
    memory: int | None
    capture: float | None
    drain_timeout: float
    tokens: str | None = None
    door: str = ""
    """The socket of its challenger, if it has one."""
    copied: float = 0.0
    """The share of requests that this gets copies of."""
    rule: str = ""
    """The line by which HAProxy gives it requests to answer."""


def make_environment(
    launch: Launch, metrics: Path, base: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What a worker finds in its environment, beside that of captures."""
    return {
        **base,
        "BENTOML_DO_NOT_TRACK": "True",
        "BENTOML_HOME": f"{launch.folder}/home",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "PROMETHEUS_MULTIPROC_DIR": str(metrics),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


class Worker:
    """A process and the line to it."""

    def __init__(
        self, process: Process, control: socket.socket, on_event: Callable[[], None]
    ) -> None:
        self.process = process
        self._on_event = on_event
        self.reached: dict[Event, asyncio.Event] = {
            "ready": asyncio.Event(),
            "listening": asyncio.Event(),
        }
        self._control = control

    async def follow(self) -> int:
        """Note what it reports until it ends; its exit code."""
        reader, writer = await asyncio.open_connection(sock=self._control)
        with suppress(ConnectionError):
            while line := await reader.readline():
                event = json.loads(line)["event"]
                if event == "left":
                    self.reached["listening"].clear()
                elif reached := self.reached.get(event):
                    reached.set()
                self._on_event()
        code = await self.process.wait()
        writer.close()
        return code

    def tell(self, command: str) -> None:
        """A command waits in the socket while the worker starts; one that has ended hears none."""
        with suppress(OSError):
            self._control.send(json.dumps({"do": command}).encode() + b"\n")

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            self.process.send_signal(number)


class Group:
    """`failed` holds why, if a worker ended before the group was ready."""

    def __init__(
        self,
        launch: Launch,
        listener: socket.socket,
        private: Path,
        log_file: Path,
        environment: Mapping[str, str],
        on_change: Callable[[], None],
    ) -> None:
        self.launch = launch
        self.listener = listener
        self.private = private
        self.log_file = log_file
        self.restarts = 0
        self.crashes = 0
        self.failed = ""
        self._environment = environment
        self._on_change = on_change
        self._workers: dict[int, Worker] = {}
        self._listening = False
        self._moved = asyncio.Event()
        self._ending = asyncio.Event()
        self._was_ready = False
        private.unlink(missing_ok=True)
        self._private = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._private.bind(str(private))
        private.chmod(0o600)
        self._private.listen(128)
        self._tasks = [
            asyncio.ensure_future(self._keep(number)) for number in range(launch.workers)
        ]

    @property
    def ready(self) -> list[int]:
        """Process ids of the workers that answer."""
        wanted: Event = "listening" if self._listening else "ready"
        return [
            worker.process.pid
            for worker in self._workers.values()
            if worker.reached[wanted].is_set()
        ]

    async def await_ready(self, timeout: float) -> str:
        """Empty when all workers are ready, else why not."""
        problem = await self._await("ready", timeout)
        self._was_ready = not problem
        return problem

    async def listen(self, timeout: float) -> str:
        """Let all workers take connections from the port; empty, or why not all do."""
        self._listening = True
        for worker in self._workers.values():
            worker.tell("listen")
        return await self._await("listening", timeout)

    async def leave(self, timeout: float) -> None:
        """Let no worker take connections from the port; all go on answering the private socket."""
        self._listening = False
        for worker in self._workers.values():
            worker.tell("leave")
        deadline = asyncio.get_running_loop().time() + timeout
        while asyncio.get_running_loop().time() < deadline:
            if not any(each.reached["listening"].is_set() for each in self._workers.values()):
                break
            await asyncio.sleep(0.02)

    async def _await(self, event: Event, timeout: float) -> str:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while loop.time() < deadline:
            reached = [worker.reached[event].is_set() for worker in self._workers.values()]
            if self.failed:
                return self.failed
            if len(reached) == self.launch.workers and all(reached):
                return ""
            self._moved.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._moved.wait(), deadline - loop.time())
        return f"not {event} within {timeout:.0f} s"

    async def _keep(self, number: int) -> None:
        """Run one worker, and again after each crash, with growing pauses."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE
        while not self._ending.is_set():
            started = loop.time()
            how = await self._run(number)
            self._on_change()
            if self._ending.is_set():
                return
            self.crashes += 1
            log.warning("a worker of %s %s", self._name, how)
            if not self._was_ready:
                self.failed = f"a worker {how} before it was ready"
                self._moved.set()
                return
            if loop.time() - started > STEADY_SECONDS:
                pause = FIRST_PAUSE
            with suppress(TimeoutError):
                await asyncio.wait_for(self._ending.wait(), pause)
            pause = min(2 * pause, LONGEST_PAUSE)
            self.restarts += 1

    async def _run(self, number: int) -> str:
        """Start a worker and wait for its end; how it ended."""
        try:
            worker = self._workers[number] = await self._start()
        except OSError as error:
            return f"did not start: {error.strerror}"
        if self._ending.is_set():
            worker.signal(signal.SIGTERM)
        welcome = asyncio.ensure_future(self._welcome(worker))
        code = await worker.follow()
        welcome.cancel()
        del self._workers[number]
        if code < 0:
            return f"was ended by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    async def _welcome(self, worker: Worker) -> None:
        """A worker that replaces a crashed one takes connections as soon as it can."""
        await worker.reached["ready"].wait()
        if self._listening:
            worker.tell("listen")
            await worker.reached["listening"].wait()
        self._on_change()

    async def _start(self) -> Worker:
        ours, theirs = socket.socketpair()
        settings = {
            "bento": self.launch.bento,
            "control": theirs.fileno(),
            "listener": self.listener.fileno(),
            "private": self._private.fileno(),
            "drain_timeout": self.launch.drain_timeout,
            "memory": self.launch.memory,
        }
        handle = os.open(self.log_file, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *make_command("mlspec.providers.local.worker", json.dumps(settings)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                env=dict(self._environment),
                cwd=self.launch.folder,
                pass_fds=(theirs.fileno(), self.listener.fileno(), self._private.fileno()),
                process_group=0,  # a terminal's Ctrl-C is for whoever started it, who drains it
            )
        finally:
            os.close(handle)
            theirs.close()
        return Worker(process, ours, self._moved.set)

    async def end(self) -> None:
        """Drain the workers that had connections; end those that do not end by themselves."""
        self._ending.set()
        if self._was_ready:
            for worker in self._workers.values():
                worker.tell("drain")
            await asyncio.wait(self._tasks, timeout=self.launch.drain_timeout + KILL_SECONDS)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for worker in self._workers.values():
                worker.signal(number)
            await asyncio.wait(self._tasks, timeout=KILL_SECONDS)
        self._private.close()
        self.private.unlink(missing_ok=True)
        log.info("%s has ended", self._name)

    @property
    def _name(self) -> str:
        return f"release {self.launch.digest[:12]} (version {self.launch.version})"

    def state(self) -> dict[str, Any]:
        """What a status shows of it."""
        return {
            "release": self.launch.digest,
            "folder": self.launch.folder,
            "model": self.launch.model,
            "version": self.launch.version,
            "workers": self.launch.workers,
            "ready": self.ready,
            "restarts": self.restarts,
            "log": str(self.log_file),
            "private": str(self.private),
        }
