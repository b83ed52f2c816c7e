"""A transport that sends in one go what is written in one turn of the loop.

uvicorn writes the head of an answer and its body one after the other, and the system is asked twice
and the client woken twice, which is more than half of what a small model costs.
"""

from __future__ import annotations

import asyncio
from typing import Any


class Corked:
    """Does what the transport does, but that it waits for the rest of the turn."""

    def __init__(self, transport: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._written: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._written:
            self._loop.call_soon(self._flush)
        self._written.append(data)

    def write_eof(self) -> None:
        self._flush()
        self._transport.write_eof()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        closing: bool = self._transport.is_closing()
        return closing

    def _flush(self) -> None:
        if self._written:
            data = self._written[0] if len(self._written) == 1 else b"".join(self._written)
            self._written.clear()
            self._transport.write(data)
