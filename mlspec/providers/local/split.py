"""Two on one port: a release and the one that is tried beside it, or champion and challenger.

While the candidate gets a part of the requests, HAProxy has the port and the workers of both answer
their private sockets. While it gets all, its workers have the port. Changes lose no request: who
takes the port does so before the other leaves it.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

from mlspec.providers.local.group import Group
from mlspec.providers.local.proxy import Proxy, ProxyFailed

LISTEN_SECONDS = 30.0
AGAIN_SECONDS = 1.0
log = logging.getLogger("mlspec.supervisor")


class SplitFailed(Exception):
    """Why the port can not be shared."""


class Split:
    """`lost` says why the champion has all requests although it should not."""

    def __init__(
        self,
        champion: Group,
        candidate: Group,
        listener: socket.socket,
        base: Path,
        drain_seconds: float,
    ) -> None:
        self._champion = champion
        self._candidate = candidate
        self._listener = listener
        self._base = base
        self._drain_seconds = drain_seconds
        self._proxy: Proxy | None = None
        self._mending: asyncio.Task[str] | None = None
        self.lost = ""

    async def weigh(self, share: float) -> None:
        """Give the candidate this share of requests, from 0 to 1; raises :class:`SplitFailed`."""
        if share >= 1:
            if problem := await self._candidate.listen(LISTEN_SECONDS):
                raise SplitFailed(problem)
            await self._leave(self._champion)
            return
        try:
            if self._proxy is None:
                self._proxy = await Proxy.start(
                    self._listener,
                    self._base,
                    self._champion.private,
                    self._candidate.private,
                    self._drain_seconds,
                    self._lose,
                )
            await self._proxy.weigh(share)
        except (ProxyFailed, OSError) as error:
            raise SplitFailed(str(error)) from None
        for group in (self._champion, self._candidate):
            await group.leave(LISTEN_SECONDS)

    async def end(self, winner: Group) -> None:
        """Give the port to one of both for good; the other one has nothing to do afterwards."""
        loser = self._champion if winner is self._candidate else self._candidate
        await self._favour(winner)
        if problem := await winner.listen(LISTEN_SECONDS):
            # its workers take the port as soon as they can
            log.error("version %d: %s", winner.launch.version, problem)
        await self._leave(loser)

    async def stop(self) -> None:
        """Nobody takes connections any more."""
        if self._proxy is not None:
            await self._proxy.stop()

    async def _favour(self, winner: Group) -> None:
        """Have HAProxy send all requests to one, at once."""
        if self._proxy is not None and not self.lost:
            try:
                await self._proxy.weigh(1.0 if winner is self._candidate else 0.0)
            except (ProxyFailed, OSError) as error:
                log.error("HAProxy: %s", error)

    async def _leave(self, loser: Group) -> None:
        """Have neither the loser nor HAProxy take connections, now that the winner does."""
        await loser.leave(LISTEN_SECONDS)
        proxy, self._proxy = self._proxy, None
        if proxy is not None:
            await proxy.stop()

    def _lose(self) -> None:
        self.lost = "HAProxy ended by itself"
        self._mending = asyncio.ensure_future(self._champion.listen(LISTEN_SECONDS))


class Contest:
    """A champion and its challenger, another deployment, on the port of the champion.

    HAProxy has the port. Where it can not, the champion has it, and HAProxy is tried again.
    """

    def __init__(self, champion: Group, listener: socket.socket, base: Path) -> None:
        self._champion = champion
        self._listener = listener
        self._base = base
        self._proxy: Proxy | None = None
        self._task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        """Keep HAProxy running until the end."""
        launch, lost = self._champion.launch, asyncio.Event()
        door = self._base.with_suffix(".door")
        door.unlink(missing_ok=True)
        door.symlink_to(launch.door)  # where HAProxy looks, a path may not be long
        while True:
            lost.clear()
            try:
                self._proxy = await Proxy.start(
                    self._listener,
                    self._base,
                    self._champion.private,
                    door,
                    launch.drain_timeout,
                    lost.set,
                    rule=launch.rule,
                )
                await self._champion.leave(LISTEN_SECONDS)
                await lost.wait()
                await self._champion.listen(LISTEN_SECONDS)
            except (ProxyFailed, OSError) as error:
                log.error("the challenger has no requests: %s", error)
            await asyncio.sleep(AGAIN_SECONDS)

    async def end(self) -> None:
        """Have HAProxy answer its last requests; somebody else takes connections already."""
        self._task.cancel()
        await asyncio.wait([self._task])
        if self._proxy is not None:
            await self._proxy.stop()
        self._base.with_suffix(".door").unlink(missing_ok=True)
