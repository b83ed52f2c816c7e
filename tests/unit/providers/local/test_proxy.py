"""HAProxy as the supervisor starts it: wherever it is asked to, and with an end of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from mlspec.providers.local import proxy as module
from mlspec.providers.local.proxy import Proxy, ProxyFailed, find_program

needs_haproxy = pytest.mark.skipif(find_program() is None, reason="HAProxy is not installed")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, for sockets, that must be quoted."""
    made = Path(tempfile.mkdtemp(prefix='a "$b" #\\', dir="/tmp"))
    yield made
    shutil.rmtree(made)


async def start(folder: Path, listener: socket.socket, lost: list[bool]) -> Proxy:
    return await Proxy.start(
        listener,
        folder / "p1",
        folder / "champion.sock",
        folder / "candidate.sock",
        5.0,
        lambda: lost.append(True),
    )


async def answering(folder: Path, name: str) -> asyncio.Server:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {len(name)}\r\n\r\n"
        writer.write(f"{head}{name}".encode())
        await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer, folder / f"{name}.sock")


async def ask(port: int) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    return answer.rpartition(b"\r\n")[2].decode()


@needs_haproxy
def test_requests_go_by_weight(folder: Path) -> None:
    async def go() -> None:
        lost: list[bool] = []
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            async with await answering(folder, "champion"), await answering(folder, "candidate"):
                proxy = await start(folder, listener, lost)
                assert {await ask(port) for _ in range(8)} == {"champion"}
                await proxy.weigh(0.25)
                answers = [await ask(port) for _ in range(40)]
                assert answers.count("candidate") == 10
                await proxy.weigh(1.0)
                assert {await ask(port) for _ in range(8)} == {"candidate"}
                await proxy.stop()
        assert lost == []
        assert sorted(path.suffix for path in folder.iterdir() if path.suffix != ".sock") == []
        with pytest.raises(OSError):
            await proxy.weigh(0.5)

    asyncio.run(go())


@needs_haproxy
def test_an_end_by_itself_is_told(folder: Path) -> None:
    async def go() -> None:
        lost: list[bool] = []
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            proxy = await start(folder, listener, lost)
            os.kill(proxy._process.pid, signal.SIGKILL)
            for _ in range(1000):
                if lost:
                    break
                await asyncio.sleep(0.02)
            assert lost == [True]
            with suppress(ProxyFailed):
                await proxy.stop()

    asyncio.run(go())


def test_without_the_program_it_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_program", lambda: None)
    with socket.socket() as listener, pytest.raises(ProxyFailed, match="HAProxy is not installed"):
        asyncio.run(start(folder, listener, []))
