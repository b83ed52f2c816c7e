"""HAProxy in front of two releases, or of a champion and its challenger, that share a port.

It is given the listening socket of the port and the Unix sockets of both. Shares are changed while
it runs; a release that does not answer its readiness gets none. A request that a release lost
before it began to answer is sent once more, to the other one if need be.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlspec.compilers.haproxy import BACKEND, CHECK, DEFAULTS, WHOLE

PROGRAM = "haproxy"
FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where it is installed and a user's PATH may not look."""
START_SECONDS = 10.0
KILL_SECONDS = 5.0
_SET_PDEATHSIG = 1
log = logging.getLogger("mlspec.supervisor")

CONFIG = (
    """\
global
    stats socket unix@{admin} mode 600 level admin
    hard-stop-after {drain:.0f}s
    nbthread 1
"""
    + DEFAULTS
    + """\
frontend port
    bind fd@{listener}
    http-request set-header x-forwarded-for %[src]
    default_backend releases
"""
    + BACKEND
    + f"""\
{{rule}}    default-server {CHECK}
    server champion unix@{{champion}} weight {WHOLE}
    server {{second}} unix@{{beside}} weight 0
"""
)


class ProxyFailed(Exception):
    """Why it does not run, or does not do as it is told."""


def find_program() -> str | None:
    """Where HAProxy is, if it is installed."""
    return shutil.which(PROGRAM) or shutil.which(PROGRAM, path=os.pathsep.join(FOLDERS))


class Proxy:
    """HAProxy while it runs."""

    def __init__(self, process: Process, admin: Path, config: Path, drain_seconds: float) -> None:
        self._process = process
        self._admin = admin
        self._config = config
        self._drain_seconds = drain_seconds
        self._stopping = False
        self._watch: asyncio.Task[None] | None = None

    @classmethod
    async def start(
        cls,
        listener: socket.socket,
        base: Path,
        champion: Path,
        beside: Path,
        drain_seconds: float,
        on_lost: Callable[[], None],
        *,
        rule: str = "",
    ) -> Proxy:
        """Have it take connections from `listener`, all for the champion at first.

        `beside` is the socket of a candidate, or with a `rule` that of a challenger, which gets its
        requests by that. `base` is a path without suffix for the files that it needs; both sockets
        are in the same folder. `on_lost` is called when it ends unasked. Raises
        :class:`ProxyFailed`.
        """
        program = find_program()
        if program is None:
            raise ProxyFailed("HAProxy is not installed")
        # Names and not paths: HAProxy binds a socket under a longer name at first, and expands
        # variables in paths, quoted or not.
        admin, config = base.with_suffix(".adm"), base.with_suffix(".cfg")
        text = CONFIG.format(
            admin=admin.name,
            drain=drain_seconds,
            listener=listener.fileno(),
            champion=champion.name,
            beside=beside.name,
            second="challenger" if rule else "candidate",
            rule=rule,
        )
        config.write_text(text, encoding="utf-8")
        process = await asyncio.create_subprocess_exec(
            program,
            "-db",
            "-f",
            config.name,
            cwd=base.parent,
            stdin=asyncio.subprocess.DEVNULL,
            pass_fds=(listener.fileno(),),
            preexec_fn=_make_end_with_parent() if sys.platform == "linux" else None,
            process_group=0,
        )
        proxy = cls(process, admin, config, drain_seconds)
        try:
            await proxy._await_start()
        except BaseException:
            await proxy.stop()
            raise
        proxy._watch = asyncio.ensure_future(proxy._follow(on_lost))
        return proxy

    async def weigh(self, share: float) -> None:
        """Give the candidate this share of the requests that come from now on."""
        part = max(1, round(WHOLE * share)) if share > 0 else 0
        for server, weight in (("champion", WHOLE - part), ("candidate", part)):
            answer = await self._ask(f"set server releases/{server} weight {weight}")
            if answer.strip():
                raise ProxyFailed(f"HAProxy does not take a weight: {answer.strip()}")

    async def stop(self) -> None:
        """Take no more connections, answer those that there are, and end."""
        self._stopping = True
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGUSR1)
        # it ends itself after the time to drain; this is for one that does not
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), self._drain_seconds + KILL_SECONDS)
                break
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
        for path in (self._admin, self._config):
            path.unlink(missing_ok=True)

    async def _await_start(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_SECONDS
        while loop.time() < deadline:
            if self._process.returncode is not None:
                raise ProxyFailed(f"HAProxy ended with exit code {self._process.returncode}")
            with suppress(OSError):
                await self._ask("show info")
                return
            await asyncio.sleep(0.02)
        raise ProxyFailed(f"HAProxy does not answer within {START_SECONDS:.0f} s")

    async def _ask(self, command: str) -> str:
        reader, writer = await asyncio.open_unix_connection(self._admin)
        try:
            writer.write(command.encode() + b"\n")
            return (await reader.read()).decode()
        finally:
            writer.close()

    async def _follow(self, on_lost: Callable[[], None]) -> None:
        code = await self._process.wait()
        if not self._stopping:
            log.error("HAProxy ended by itself, with exit code %d", code)
            on_lost()


def _make_end_with_parent() -> Callable[[], None]:
    """A supervisor that is killed can not tell it to end; then the port would not be free."""
    import ctypes  # most supervisors never have a proxy

    library = ctypes.CDLL(None)
    return lambda: library.prctl(_SET_PDEATHSIG, signal.SIGTERM)
