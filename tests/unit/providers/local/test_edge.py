"""Connections as a worker takes them: offers of other protocols, and heads that do not end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

pytest.importorskip("httptools")
uvicorn = pytest.importorskip("uvicorn")

from mlspec.providers.local import edge  # noqa: E402


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the path and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    content = scope["path"].encode() + b" " + body
    length = str(len(content)).encode()
    headers = [(b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


@asynccontextmanager
async def served() -> AsyncIterator[int]:
    from uvicorn.config import Config
    from uvicorn.server import ServerState

    config = Config(echo, http=edge.GuardedProtocol, ws="none", log_config=None)
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()

    def make() -> Any:
        return edge.GuardedProtocol(config=config, server_state=state, app_state={}, _loop=loop)

    server = await loop.create_server(make, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def exchange(*parts: bytes, pause: float = 0.01, until: Callable[[bytes], bool] = bool) -> bytes:
    """What is answered to bytes that come in parts, as soon as it is enough or at its end."""

    async def run() -> bytes:
        async with served() as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for part in parts:
                writer.write(part)
                await asyncio.sleep(pause)
            said = b""
            try:
                while not until(said) and (data := await asyncio.wait_for(reader.read(4096), 30)):
                    said += data
            except ConnectionError:
                pass
            writer.close()
            return said

    return asyncio.run(run())


OFFER = (
    b"POST /a HTTP/1.1\r\nhost: h\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    b"Upgrade: h2c\r\nHTTP2-Settings: AAE\r\ncontent-length: 4\r\n\r\n"
)


def test_an_offer_of_http_2_does_not_cost_the_body() -> None:
    assert exchange(OFFER + b"body").endswith(b"/a body")
    assert exchange(OFFER, b"body").endswith(b"/a body")
    chunked = OFFER.replace(b"content-length: 4", b"transfer-encoding: chunked")
    assert exchange(chunked + b"4\r\nbody\r\n0\r\n\r\n").endswith(b"/a body")


def test_a_connection_with_an_offer_goes_on() -> None:
    twice = exchange(OFFER + b"body", OFFER + b"next", until=lambda said: b"next" in said)
    assert twice.count(b"HTTP/1.1 200") == 2


def test_a_body_that_looks_like_an_offer_stays_as_it_is() -> None:
    body = b"x\r\nupgrade: h2c\r\n\r\n"
    head = b"POST /a HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % len(body)
    assert exchange(head + body).endswith(b"/a " + body)
    assert exchange(head, body).endswith(b"/a " + body)


def test_a_head_that_does_not_end_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "HEAD_SECONDS", 0.3)
    never = lambda _said: False  # noqa: E731
    assert exchange(until=never) == b""
    assert exchange(b"POST /a HTTP/1.1\r\n", until=never) == b""
    whole = b"POST /a HTTP/1.1\r\ncontent-length: 1\r\n\r\nx"
    said = exchange(whole, b"POST /b", until=never)
    assert said.count(b"HTTP/1.1") == 1


def test_a_slow_body_is_not_a_slow_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(edge, "HEAD_SECONDS", 0.3)
    head = b"POST /a HTTP/1.1\r\ncontent-length: 2\r\n\r\n"
    assert exchange(head + b"x", b"y", pause=0.6).endswith(b"/a xy")


def test_a_head_that_is_too_large_is_told_so() -> None:
    parts = [b"POST /a HTTP/1.1\r\nx: ", *[b"y" * 2**14] * 8]
    assert exchange(*parts).startswith(b"HTTP/1.1 431 ")
