"""Runs the service of a release as long as a command wants it, on a Unix socket, and no longer.

The workers are those of a deployment (`group.py`), without its supervisor: they end with this
process, however it ends. Used for a quick look and for scoring files.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from mlspec.errors import Interrupted, MlspecError
from mlspec.providers.local.client import KEPT_ENVIRONMENT, READY_SECONDS, make_launch
from mlspec.providers.local.group import Group, Launch, make_environment
from mlspec.providers.local.rundir import socket_folder
from mlspec.providers.target import Release

SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
FOLLOW_PAUSE = 0.1
LOG_TAIL = 20


def run_until_signal(main: Coroutine[Any, Any, None]) -> None:
    """Run to the end. A signal cancels it, and :class:`Interrupted` follows when all is cleaned up.

    A second one ends the process at once.
    """
    seen: list[int] = []

    async def guarded() -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def interrupt(number: int) -> None:
            seen.append(number)
            loop.remove_signal_handler(number)
            task.cancel()

        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
                loop.add_signal_handler(number, interrupt, number)
        await main

    with suppress(asyncio.CancelledError):
        asyncio.run(guarded())
    if seen:
        raise Interrupted(seen[0])


@asynccontextmanager
async def serve_release(
    release: Release, folder: Path, on_line: Callable[[str], None] = lambda _line: None
) -> AsyncIterator[Path]:
    """The Unix socket on which a release answers; `on_line` gets what its workers then write.

    `folder` takes what they need. Raises :class:`MlspecError` if they are not ready in time.
    """
    launch = Launch(**make_launch(release, 0.0))
    metrics, log_file = folder / "metrics", folder / "log"
    metrics.mkdir()
    log_file.touch(mode=0o600)
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in KEPT_ENVIRONMENT or key.startswith(("LC_", "PYTHON"))
    }
    # That a worker ended is told here as an error, or was asked for.
    logging.getLogger("mlspec.supervisor").setLevel(logging.CRITICAL)
    sockets = socket_folder(folder)
    private = sockets / "private.sock"
    with socket.socket() as unused:
        environment = make_environment(launch, metrics, kept)
        group = Group(launch, unused, private, log_file, environment, lambda: None)
        try:
            if problem := await group.await_ready(READY_SECONDS):
                lines = log_file.read_text(encoding="utf-8", errors="replace").splitlines()
                said = "\n".join(lines[-LOG_TAIL:])
                raise MlspecError(
                    f"the service of {release.model} did not start: {problem}\n{said}"
                )
            started = log_file.stat().st_size  # what it says while it starts is of no interest
            following = asyncio.ensure_future(_follow(log_file, started, on_line))
            try:
                yield private
            finally:
                following.cancel()
        finally:
            await group.end()
            if sockets != folder:
                shutil.rmtree(sockets, ignore_errors=True)


async def _follow(log_file: Path, start: int, on_line: Callable[[str], None]) -> None:
    with log_file.open(encoding="utf-8", errors="replace") as file:
        file.seek(start)
        rest = ""
        while True:
            *lines, rest = (rest + file.read()).split("\n")
            for line in lines:
                on_line(line)
            await asyncio.sleep(FOLLOW_PAUSE)
