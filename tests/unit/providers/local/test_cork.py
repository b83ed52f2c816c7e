"""What is written in one turn of the loop leaves together, in order and before the end."""

from __future__ import annotations

import asyncio
import socket
import sys

import pytest

from mlspec.providers.local.cork import Corked

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="has no packets on such a socket")


def received(write):
    """What the other side of a connection reads, piece by piece, of what `write` does."""

    async def run():
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=_stream(ours))
        await write(Corked(transport, loop))
        await asyncio.sleep(0.05)
        transport.close()
        await asyncio.sleep(0.05)
        with theirs:
            theirs.setblocking(False)
            pieces = []
            while piece := theirs.recv(100):
                pieces.append(piece)
            return pieces

    return asyncio.run(run())


def _stream(line):
    """Asyncio takes streams only; packets show what was sent at once."""

    class Stream(socket.socket):
        type = socket.SOCK_STREAM

    return Stream(line.family, socket.SOCK_SEQPACKET, fileno=line.detach())


def test_one_turn_is_sent_at_once():
    async def write(transport):
        transport.write(b"head ")
        transport.write(b"body")
        await asyncio.sleep(0)
        transport.write(b"next")

    assert received(write) == [b"head body", b"next"]


def test_what_was_written_leaves_before_the_end():
    async def write(transport):
        transport.write(b"head ")
        transport.write(b"body")
        transport.close()

    assert received(write) == [b"head body"]
