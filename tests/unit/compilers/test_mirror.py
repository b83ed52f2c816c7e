"""What sends copies to a challenger: it has nobody wait, and counts what is lost."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import asynccontextmanager
from zlib import crc32

import pytest

from mlspec.compilers.templates import render_template

PATIENCE = 30.0


@pytest.fixture
def mirrored():
    """The names that the generated code defines."""
    names = {
        "asyncio": asyncio,
        "Counter": Counter,
        "Sequence": Sequence,
        "deque": deque,
        "NAME": "churn",
        "is_chosen": lambda identity, share: crc32(identity.encode()) < share * 2**32,
    }
    exec(render_template("service/mirror.py.jinja"), names)
    names["COPY_PAUSE"] = 0.01
    return names


@asynccontextmanager
async def challenger(path, answer):
    """A service on a socket; `answer` gets each request, and writes what it likes."""
    seen, lines = [], []

    async def serve(reader, writer):
        lines.append(writer)
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                writer.close()
                return
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            seen.append((head, await reader.readexactly(length)))
            await answer(writer, len(seen))

    server = await asyncio.start_unix_server(serve, path)
    try:
        yield seen
    finally:
        server.close()
        for line in lines:
            line.close()


def reply(status, *, close=False):
    async def answer(writer, _):
        more = b"connection: close\r\n" if close else b""
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: 2\r\n%b\r\n{}" % (status, more))
        if close:
            writer.close()

    return answer


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    ("status", "close", "result"),
    [
        (200, False, "answered"),
        (200, True, "answered"),
        (422, False, "refused"),
        (500, False, "failed"),
    ],
)
def test_copies_are_sent_and_counted(mirrored, tmp_path, status, close, result):
    async def main():
        async with challenger(tmp_path / "c", reply(status, close=close)) as seen:
            mirror = mirrored["Mirror"](f"unix:{tmp_path / 'c'}", 1.0)
            for number in range(20):
                mirror.put(b'{"rows": []}', str(number), [(b"authorization", b"Bearer t")])
            await until(lambda: mirror.counts() == {result: 20})
            mirror.close()
        heads = [head for head, _ in seen]
        assert {body for _, body in seen} == {b'{"rows": []}'}
        assert {h.partition(b"x-request-id: ")[2].split(b"\r\n")[0] for h in heads} == {
            str(number).encode() for number in range(20)
        }
        assert all(b"authorization: Bearer t\r\n" in head for head in heads)

    asyncio.run(main())


def test_a_challenger_that_does_not_answer_costs_copies_and_no_time(mirrored, tmp_path):
    """What may wait is bounded; the rest is dropped at once."""

    async def never(*_):
        await asyncio.sleep(PATIENCE)

    async def main():
        async with challenger(tmp_path / "c", never):
            mirror = mirrored["Mirror"](f"unix:{tmp_path / 'c'}", 1.0)
            for number in range(1500):
                mirror.put(b"{}", str(number), [])
            assert mirror.counts() == {"dropped": 500}
            await asyncio.sleep(0.05)
            big = b"x" * (33 * 2**20)
            mirror.put(big, "big", [])
            assert mirror.counts() == {"dropped": 501}
            mirror.close()

    asyncio.run(main())


def test_one_that_is_away_is_tried_again(mirrored, tmp_path):
    async def main():
        mirror = mirrored["Mirror"](f"unix:{tmp_path / 'c'}", 1.0)
        mirror.put(b"{}", "lost", [])
        await until(lambda: mirror.counts() == {"failed": 1})
        async with challenger(tmp_path / "c", reply(200)) as seen:
            mirror.put(b"{}", "found", [])
            await until(lambda: mirror.counts() == {"failed": 1, "answered": 1})
            assert len(seen) == 1
        mirror.close()

    asyncio.run(main())


def test_an_answer_that_is_none_is_counted(mirrored, tmp_path):
    async def nonsense(writer, _):
        writer.write(b"220 smtp\r\n\r\n")

    async def main():
        async with challenger(tmp_path / "c", nonsense):
            mirror = mirrored["Mirror"](f"unix:{tmp_path / 'c'}", 1.0)
            mirror.put(b"{}", "one", [])
            await until(lambda: mirror.counts() == {"failed": 1})
            mirror.close()

    asyncio.run(main())


def test_a_share_is_of_the_same_requests(mirrored, tmp_path):
    async def main():
        async with challenger(tmp_path / "c", reply(200)) as seen:
            mirror = mirrored["Mirror"](f"unix:{tmp_path / 'c'}", 0.25)
            wanted = {
                f"id-{n}".encode() for n in range(400) if mirrored["is_chosen"](f"id-{n}", 0.25)
            }
            for number in range(400):
                mirror.put(b"{}", f"id-{number}", [])
            await until(lambda: mirror.counts() == {"answered": len(wanted)})
            mirror.close()
        sent = {head.partition(b"x-request-id: ")[2].split(b"\r\n")[0] for head, _ in seen}
        assert sent == wanted
        assert 60 < len(wanted) < 140

    asyncio.run(main())
