"""What a worker does at the edge that uvicorn does not: heads that are too large, never end, or ask
for another protocol.

A head may have 64 KiB and 30 s. An offer to speak HTTP/2, which every stock Java client makes, is
left unheard: httptools would take the body for the other protocol, and lose it.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from mlspec.providers.local.cork import Corked

MAX_HEAD = 64 * 2**10
HEAD_SECONDS = 30.0
FAREWELL_SECONDS = 2.0
"""How long the rest of what was refused is read, so that its sender can read the answer."""
_OFFER = re.compile(rb"(?i)\r\nupgrade(?=[ \t]*:)")
_TOO_LARGE = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-length: 0\r\nconnection: close\r\n\r\n"
)


class GuardedProtocol(HttpToolsProtocol):  # type: ignore[misc]
    """A connection; on the way of each request it does little more than look at its state."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Corked(transport, self.loop))
        self._head = 0
        self._refused = False
        self._waiting: asyncio.TimerHandle | None = None
        self._wait(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if b"pgrade" in data and not (self.cycle and self.cycle.more_body):
            data = _decline(data)
        super().data_received(data)
        if self.scope is not None and "path" in self.scope:  # the head is whole
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None
                self._head = 0
            return
        self._head += len(data)
        if self._head > MAX_HEAD:
            self._refuse()
        elif self._waiting is None:
            self._wait(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = self.loop.call_later(seconds, self.transport.close)

    def _refuse(self) -> None:
        self._refused = True
        self.transport.write(_TOO_LARGE)
        self.transport.write_eof()
        self._wait(FAREWELL_SECONDS)


def _decline(data: bytes) -> bytes:
    """The same bytes, if they begin with a head, with its `upgrade` under a name of no meaning."""
    end = data.find(b"\r\n\r\n")
    head = data if end < 0 else data[:end]
    return _OFFER.sub(b"\r\nx-grade", head) + data[len(head) :]
