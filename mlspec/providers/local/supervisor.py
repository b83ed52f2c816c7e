"""`python -m mlspec.providers.local.supervisor RUN_DIR SETTINGS`: keeps one deployment running.

A daemon of its own session, so it outlives the command that starts it. It owns the port's socket,
starts workers, starts crashed ones again, and switches between releases. Commands are lines of JSON
on a Unix socket, each answered by one line with `ok`, and `problem` if that is false::

    {"do": "deploy", "launch": {...}, "port": 3000, "token": 7}
                                                      start a candidate beside what serves
    {"do": "await", "seconds": 60}                    until all workers of the candidate are ready
    {"do": "weigh", "share": 0.1}                     it gets this share of the port's requests
    {"do": "watch"}                                   where both can be asked, and how it is
    {"do": "discard"}                                 end it; what serves has all requests again
    {"do": "activate"}                                it takes the port, what served drains
    {"do": "settle"}                                  until what served before has ended
    {"do": "status"}                                  the state
    {"do": "stop"}                                    drain all workers and end

A candidate is discarded when the connection that asked for it closes, or after two minutes unless
it has a share: an apply that was killed leaves nothing behind. A token is that of the lock of the
apply that asks: a lower one than the highest so far is that of an apply that lost the lock, and is
refused; 0 is none.
Only the standard library is imported.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import signal
import socket
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mlspec.providers.local.group import Group, Launch, make_environment
from mlspec.providers.local.ports import PortTaken, bind_port
from mlspec.providers.local.rundir import (
    CAPTURE,
    CONTROL,
    METRICS,
    OWN_TOKEN,
    STATE,
    load_state,
    log_path,
    make_token,
    socket_folder,
    write_state,
)
from mlspec.providers.local.split import Contest, Split, SplitFailed

CANDIDATE_SECONDS = 120.0
LISTEN_SECONDS = 30.0
IDLE_SECONDS = 1.0
HANDOVER_SECONDS = 1.0
ORPHAN_SECONDS = 2.0
BACKLOG = 2048
MAX_LINE = 2**20
MAX_LOG = 10 * 2**20
log = logging.getLogger("mlspec.supervisor")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a supervisor is for; the port can change with a later release."""

    deployment: str
    target: str
    port: int


class Refused(Exception):
    """A command that can not be obeyed, and why."""


class Supervisor:
    """`serving` has the port, `candidate` waits for it, `ending` are those that drain."""

    def __init__(self, run_dir: Path, settings: Settings, listener: socket.socket) -> None:
        self._run_dir = run_dir
        self._settings = settings
        self._port = settings.port
        self._listener = listener
        self._serving: Group | None = None
        self._candidate: Group | None = None
        self._split: Split | None = None
        self._contest: Contest | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._sockets = socket_folder(run_dir)
        self._started = 0
        self._since = ""
        self._before = load_state(run_dir) or {}
        self._token = int(self._before.get("token", 0))
        self._candidate_token = 0
        self._stopping = False
        self._orphaned: asyncio.Task[None] | None = None
        self._done = asyncio.Event()

    async def run(self) -> None:
        """Obey commands until there is nothing to keep running."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, lambda: loop.create_task(self._stop()))
        control = self._sockets / CONTROL
        control.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._converse, control, limit=MAX_LINE)
        control.chmod(0o600)
        self._write_state("starting")
        log.info("process %d has port %d", os.getpid(), self._port)
        loop.call_later(CANDIDATE_SECONDS, self._end_if_idle)
        self._end_if_orphaned()
        await self._done.wait()
        server.close()
        control.unlink(missing_ok=True)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        candidate: Group | None = None
        try:
            while line := await reader.readline():
                command = json.loads(line)
                try:
                    answer = {"ok": True, **await self._obey_while_asked(command, reader)}
                except Refused as refused:
                    answer = {"ok": False, "problem": str(refused)}
                if command["do"] == "deploy" and answer["ok"]:
                    candidate = self._candidate
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass  # the other side has ended, or this one does
        finally:
            writer.close()
            if candidate and candidate is self._candidate:
                self._discard(candidate)

    async def _obey_while_asked(
        self, command: Mapping[str, Any], reader: asyncio.StreamReader
    ) -> Mapping[str, Any]:
        """Nobody waits for a candidate to be ready once the one who asked is gone."""
        if command["do"] != "await":
            return await self._obey(command)
        obeyed = asyncio.ensure_future(self._obey(command))
        left = asyncio.ensure_future(reader.read(1))  # nothing is sent before the answer
        await asyncio.wait({obeyed, left}, return_when=asyncio.FIRST_COMPLETED)
        for task in (obeyed, left):
            task.cancel()
        await asyncio.wait({obeyed, left})
        if obeyed.cancelled():
            raise ConnectionResetError
        return obeyed.result()

    async def _obey(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        match command["do"]:
            case "deploy":
                token = command.get("token", 0)
                self._check_token(token)
                answer = await self._deploy(Launch(**command["launch"]), command["port"])
                self._candidate_token = token
                return answer
            case "await":
                return await self._await_candidate(command["seconds"])
            case "weigh":
                return await self._weigh(command["share"])
            case "watch":
                return self._watch()
            case "discard":
                if self._candidate:
                    await self._discard(self._candidate)
                return {}
            case "activate":
                return await self._activate()
            case "settle":
                if self._ending:
                    await asyncio.wait(self._ending)
                return {}
            case "status":
                return self._state("serving" if self._serving else "starting")
            case "stop":
                await self._stop()
                return {}
            case unknown:
                raise Refused(f"there is no command {unknown!r}")

    async def _deploy(self, launch: Launch, port: int) -> Mapping[str, Any]:
        await self._hear_who_left()
        if self._stopping:
            raise Refused("it is being stopped")
        if self._candidate:
            raise Refused(
                f"another apply is deploying version {self._candidate.launch.version} here"
            )
        try:
            listener = self._listener if port == self._port else bind_port(port)
        except PortTaken as error:
            raise Refused(str(error)) from None
        self._started += 1
        name = f"private-{self._started:05d}"
        metrics = self._run_dir / METRICS / name
        metrics.mkdir(parents=True)
        log_file = self._open_log(launch)
        log_start = log_file.stat().st_size
        self._candidate = Group(
            launch,
            listener,
            self._sockets / f"{name}.sock",
            log_file,
            {
                **make_environment(launch, metrics),
                **self._own_environment(launch),
                **_mirror_environment(launch),
            },
            self._changed,
        )
        candidate = self._candidate
        asyncio.get_running_loop().call_later(CANDIDATE_SECONDS, self._expire, candidate)
        log.info("candidate: version %d, release %s", launch.version, launch.digest[:12])
        return {
            "private": str(candidate.private),
            "log": str(candidate.log_file),
            "log_start": log_start,
        }

    def _check_token(self, token: int) -> None:
        if 0 < token < self._token:
            raise Refused(
                f"an apply has lost the lock: its token is {token}, and {self._token} was seen"
            )
        self._token = max(self._token, token)

    async def _hear_who_left(self) -> None:
        """An apply that was killed takes its candidate along, but that may not be heard yet."""
        limit = time.monotonic() + HANDOVER_SECONDS
        while self._candidate and time.monotonic() < limit:
            await asyncio.sleep(0.02)

    def _own_environment(self, launch: Launch) -> Mapping[str, str]:
        """Where it captures, and whose requests it answers."""
        environment = {"MLSPEC_CAPTURE_TOKEN": str(make_token(self._run_dir))}
        if launch.capture is not None:
            environment["MLSPEC_CAPTURE_DIR"] = str(self._run_dir / CAPTURE)
            environment["MLSPEC_CAPTURE_SAMPLE"] = str(launch.capture)
        if launch.tokens is not None:
            environment["MLSPEC_TOKENS"] = launch.tokens
            environment["MLSPEC_OWN_TOKEN"] = str(self._run_dir / OWN_TOKEN)
        return environment

    def _open_log(self, launch: Launch) -> Path:
        path = log_path(self._run_dir, launch.digest)
        path.parent.mkdir(exist_ok=True)
        if path.exists() and path.stat().st_size > MAX_LOG:
            path.replace(path.with_suffix(".log.1"))
        path.touch(mode=0o600)
        return path

    async def _await_candidate(self, seconds: float) -> Mapping[str, Any]:
        candidate = self._candidate
        if not candidate:
            raise Refused("there is no candidate")
        if problem := await candidate.await_ready(seconds):
            await self._discard(candidate)
            raise Refused(problem)
        return {}

    async def _weigh(self, share: float) -> Mapping[str, Any]:
        """Let the candidate have a share of what serves has."""
        candidate, serving = self._candidate, self._serving
        if not candidate or not serving:
            raise Refused("there are no two releases to share the port")
        if candidate.listener is not serving.listener:
            raise Refused("a release on another port can not share it")
        self._check_token(self._candidate_token)
        if self._split is None:
            base = self._sockets / f"p{self._started}"
            drain = candidate.launch.drain_timeout
            self._split = Split(serving, candidate, self._listener, base, drain)
        try:
            await self._split.weigh(share)
        except SplitFailed as failed:
            await self._discard(candidate)
            raise Refused(str(failed)) from None
        log.info("version %d gets %.3g%%", candidate.launch.version, share * 100)
        return {}

    def _watch(self) -> Mapping[str, Any]:
        """Where to ask both for their metrics; how many workers answer, and how many crashed."""
        candidate, serving = self._candidate, self._serving
        if not candidate or not serving:
            raise Refused("there is no candidate")
        return {
            "champion": str(serving.private),
            "candidate": str(candidate.private),
            "crashes": candidate.crashes,
            "lost": self._split.lost if self._split else "",
        }

    async def _activate(self) -> Mapping[str, Any]:
        candidate = self._candidate
        if not candidate:
            raise Refused("there is no candidate; one is kept for two minutes")
        self._check_token(self._candidate_token)
        try:
            candidate.listener.listen(BACKLOG)
        except OSError as error:
            await self._discard(candidate)
            raise Refused(f"the port can not be listened on: {error.strerror}") from None
        if problem := await candidate.listen(LISTEN_SECONDS):
            await self._discard(candidate)
            raise Refused(problem)
        before, self._serving, self._candidate = self._serving, candidate, None
        split, self._split = self._split, None
        contest, self._contest = self._contest, None
        if candidate.listener is not self._listener:
            old, self._listener = self._listener, candidate.listener
            self._port = self._listener.getsockname()[1]
            old.close()
        self._since = datetime.now(UTC).isoformat(timespec="seconds")
        self._changed()
        if candidate.launch.rule:
            base = self._sockets / f"c{self._started}"
            self._contest = Contest(candidate, self._listener, base)
        if before and contest:
            self._end(before, contest.end())
        elif before:
            self._end(before, split.end(candidate) if split else None)
        log.info("version %d serves on port %d", candidate.launch.version, self._port)
        return self._state("serving")

    def _expire(self, candidate: Group) -> None:
        if candidate is self._candidate and self._split is None:
            log.warning("a candidate was not activated within two minutes")
            self._discard(candidate)

    def _discard(self, candidate: Group) -> asyncio.Task[None]:
        self._candidate = None
        split, self._split = self._split, None
        back = split.end(self._serving) if split and self._serving else None
        ending = self._end(candidate, back)
        ending.add_done_callback(lambda _: self._forget(candidate))
        return ending

    def _forget(self, candidate: Group) -> None:
        if candidate.listener is not self._listener:
            candidate.listener.close()
        asyncio.get_running_loop().call_later(IDLE_SECONDS, self._end_if_idle)

    def _end(
        self, group: Group, first: Coroutine[Any, Any, None] | None = None
    ) -> asyncio.Task[None]:
        """End a group, after what must be done `first` so that no request comes to it."""
        task = asyncio.ensure_future(self._finish(group, first))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
        return task

    async def _finish(self, group: Group, first: Coroutine[Any, Any, None] | None) -> None:
        try:
            if first is not None:
                await first
        finally:
            await group.end()
            shutil.rmtree(self._run_dir / METRICS / group.private.stem, ignore_errors=True)

    def _end_if_idle(self) -> None:
        if not (self._serving or self._candidate or self._stopping):
            log.info("nothing to keep running")
            self._restore_state()
            self._done.set()

    def _end_if_orphaned(self) -> None:
        """Whoever deletes a checkout has no other way to say that its services shall end."""
        loop = asyncio.get_running_loop()
        if self._run_dir.exists():
            loop.call_later(ORPHAN_SECONDS, self._end_if_orphaned)
        else:
            log.info("the folder is gone")
            self._orphaned = loop.create_task(self._stop())

    async def _stop(self) -> None:
        self._stopping = True
        if self._serving:
            self._write_state("stopped")
        else:
            self._restore_state()
        groups = [group for group in (self._candidate, self._serving) if group]
        split, self._split = self._split, None
        contest, self._contest = self._contest, None
        self._candidate = self._serving = None
        if split:
            await split.stop()
        if contest:
            await contest.end()
        for group in groups:
            self._end(group)
        self._listener.close()
        if self._ending:
            await asyncio.wait(self._ending)
        log.info("stopped")
        # The answer to the command goes out first.
        asyncio.get_running_loop().call_later(0.1, self._done.set)

    def _restore_state(self) -> None:
        """What ran before this supervisor is still what `start` starts."""
        if self._before and self._run_dir.exists():
            write_state(self._run_dir, self._before)
        else:
            (self._run_dir / STATE).unlink(missing_ok=True)

    def _changed(self) -> None:
        if self._serving:
            self._write_state("serving")

    def _state(self, status: Literal["starting", "serving", "stopped"]) -> dict[str, Any]:
        return {
            **(self._serving.state() if self._serving else self._before),
            "format": 1,
            "status": status,
            "pid": os.getpid(),
            "port": self._port,
            "token": self._token,
            "deployment": self._settings.deployment,
            "target": self._settings.target,
            "control": str(self._sockets / CONTROL),
            "since": self._since,
        }

    def _write_state(self, status: Literal["starting", "serving", "stopped"]) -> None:
        try:
            write_state(self._run_dir, self._state(status))
        except OSError as error:
            log.error("the state was not written: %s", error)


def _mirror_environment(launch: Launch) -> Mapping[str, str]:
    if not launch.copied:
        return {}
    return {"MLSPEC_MIRROR": f"unix:{launch.door}", "MLSPEC_MIRROR_SHARE": str(launch.copied)}


async def supervise(run_dir: Path, settings: Settings, listener: socket.socket) -> None:
    """Run a supervisor in this process until it is told to stop."""
    shutil.rmtree(run_dir / METRICS, ignore_errors=True)
    await Supervisor(run_dir, settings, listener).run()
