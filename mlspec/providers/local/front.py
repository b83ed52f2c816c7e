"""In front of a service on a Unix socket: answers `/` with a page, and passes all else on.

Comes in: a bound socket, the service's socket, a page. For `mlspec serve` alone: a deployment's
workers have their port themselves. Each connection carries one request and its answer, so that what
was passed on as one cannot hold another.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

MOST_HEAD = 64 * 2**10
HEAD_SECONDS = 30.0
CHUNK = 64 * 2**10
_PAGE_LINE = re.compile(rb"(GET|HEAD) /(\?\S*)? HTTP/1\.[01]")
_DROPPED = (b"connection:", b"keep-alive:", b"upgrade:")


@dataclass(frozen=True, slots=True)
class Page:
    """HTML, and the policy that says what it may load and run."""

    html: bytes
    policy: str

    @property
    def head(self) -> bytes:
        lines = (
            "HTTP/1.1 200 OK",
            "content-type: text/html; charset=utf-8",
            f"content-length: {len(self.html)}",
            f"content-security-policy: {self.policy}",
            "x-content-type-options: nosniff",
            "referrer-policy: no-referrer",
            "cache-control: no-store",
            "connection: close",
        )
        return "\r\n".join((*lines, "", "")).encode("ascii")


@asynccontextmanager
async def stand_in_front(listener: socket.socket, private: Path, page: Page) -> AsyncIterator[None]:
    """Take connections as long as the block runs."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.CancelledError):
            await _answer(reader, writer, private, page)
        writer.close()

    server = await asyncio.start_server(meet, sock=listener, limit=MOST_HEAD)
    try:
        yield
    finally:
        server.close()


async def _answer(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, private: Path, page: Page
) -> None:
    try:
        async with asyncio.timeout(HEAD_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        writer.write(_refusal(b"431 Request Header Fields Too Large"))
        return await writer.drain()
    except (asyncio.IncompleteReadError, TimeoutError):
        return None
    first, *fields = head[:-4].split(b"\r\n")
    if matched := _PAGE_LINE.fullmatch(first):
        writer.write(page.head if matched[1] == b"HEAD" else page.head + page.html)
        return await writer.drain()
    kept = [field for field in fields if not field.lower().startswith(_DROPPED)]
    passed = b"\r\n".join([first, *kept, b"connection: close", b"", b""])
    try:
        their_reader, their_writer = await asyncio.open_unix_connection(str(private))
    except OSError:
        writer.write(_refusal(b"503 Service Unavailable"))
        return await writer.drain()
    their_writer.write(passed)
    sending = asyncio.ensure_future(_pump(reader, their_writer))
    try:
        await _pump(their_reader, writer)
    finally:
        sending.cancel()
        their_writer.close()
    return None


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


def _refusal(status: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: 0\r\nconnection: close\r\n\r\n" % status
