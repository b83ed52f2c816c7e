"""In front of a service: the page at `/`, and one request for each connection behind it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from mlspec.providers.local.front import MOST_HEAD, Page, stand_in_front
from mlspec.providers.local.ports import bind_port

PAGE = Page(b"<p>page</p>", "default-src 'none'")
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"


class Service:
    """Notes what it is sent and answers it once, as one that closes each connection."""

    def __init__(self) -> None:
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.split(b"\r\n") if line.startswith(b"content-length:")),
            0,
        )
        self.heads.append(head)
        self.bodies.append(await reader.readexactly(length))
        writer.write(ANSWER)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def front(tmp_path: Path, service: Service | None) -> AsyncIterator[int]:
    private = tmp_path / "s"
    server = await asyncio.start_unix_server(service.meet, private) if service else None
    listener = bind_port(0)
    listener.listen()
    async with stand_in_front(listener, private, PAGE):
        yield listener.getsockname()[1]
    if server:
        server.close()


async def ask(port: int, *parts: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()


@pytest.mark.parametrize("target", ["/", "/?x=1"])
def test_the_page(tmp_path: Path, target: str) -> None:
    async def run() -> None:
        service = Service()
        async with front(tmp_path, service) as port:
            said = await ask(port, f"GET {target} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
            head, _, body = said.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"content-security-policy: default-src 'none'" in head
            assert body == PAGE.html
            assert b"page" not in await ask(port, b"HEAD / HTTP/1.1\r\n\r\n")
        assert service.heads == []

    asyncio.run(run())


def test_all_else_is_passed_on(tmp_path: Path) -> None:
    async def run() -> None:
        service = Service()
        async with front(tmp_path, service) as port:
            head = (
                b"POST /predict HTTP/1.1\r\nhost: h\r\nConnection: keep-alive\r\n"
                b"upgrade: h2c\r\ncontent-length: 200000\r\n\r\n"
            )
            body = b"x" * 200_000
            assert await ask(port, head, body[:9], body[9:]) == ANSWER
            assert await ask(port, b"POST / HTTP/1.1\r\n\r\n") == ANSWER
        assert service.heads[0].lower().count(b"connection:") == 1
        assert b"connection: close" in service.heads[0]
        assert b"upgrade" not in service.heads[0]
        assert service.bodies[0] == body

    asyncio.run(run())


def test_a_second_request_on_a_connection_is_not_heard(tmp_path: Path) -> None:
    async def run() -> None:
        service = Service()
        async with front(tmp_path, service) as port:
            one = b"POST /predict HTTP/1.1\r\ncontent-length: 1\r\n\r\nx"
            assert await ask(port, one + b"GET / HTTP/1.1\r\n\r\n") == ANSWER
        assert len(service.heads) == 1

    asyncio.run(run())


def test_a_head_that_is_too_large_and_one_that_ends_early(tmp_path: Path) -> None:
    async def run() -> None:
        async with front(tmp_path, Service()) as port:
            said = await ask(port, b"GET / HTTP/1.1\r\nx: " + b"y" * (2 * MOST_HEAD))
            assert said[:12] in (b"HTTP/1.1 431", b"")  # what is unread may reset the connection
            with socket.create_connection(("127.0.0.1", port)) as line:
                line.sendall(b"GET / HT")
            assert PAGE.html in await ask(port, b"GET / HTTP/1.1\r\n\r\n")

    asyncio.run(run())


def test_a_service_that_is_gone(tmp_path: Path) -> None:
    async def run() -> None:
        async with front(tmp_path, None) as port:
            said = await ask(port, b"POST /predict HTTP/1.1\r\n\r\n")
            assert said.startswith(b"HTTP/1.1 503 ")

    asyncio.run(run())
