"""Requests that are not as they should be, over raw sockets: each is refused, and nothing else.

Each case is the bytes that a client sends and the status that it must get. After each, a good
request is answered; at the end the same worker lives, and its log holds nothing of any request.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlspec.compilers.bento import compile_bento
from mlspec.formats import inspect_artifact
from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.release import stage_release
from mlspec.spec.models import Artifact, Deployment, Model, Stage
from tests.e2e.test_local_target import write_columns

pytestmark = pytest.mark.slow
NAME = "columns"
PATIENCE = 20.0
SECRET = "s3cr3t-4711"
"""In the values of requests, and never in a log."""
GOOD = '{"amount":1.5,"count":2,"grade":"A","new":true}'
LARGEST = 10 * 2**20


@dataclass(frozen=True)
class Case:
    """`parts` are sent one after the other with `pause` seconds between; `leave` says how to go.

    `statuses` are those of the answers, one for each request that is in the bytes.
    """

    name: str
    parts: tuple[bytes, ...]
    statuses: tuple[int, ...]
    pause: float = 0.0
    leave: str = ""


def post(body: str | bytes, *headers: str, path: str = "/predict", method: str = "POST") -> bytes:
    """A whole request, whose length is as it says unless a header says otherwise."""
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    named = "".join(f"{header}\r\n" for header in headers)
    if "content-length" not in named.lower() and "transfer-encoding" not in named.lower():
        named += f"content-length: {len(data)}\r\n"
    return f"{method} {path} HTTP/1.1\r\nhost: h\r\n{named}\r\n".encode("latin-1") + data


def chunks(*sizes_and_data: tuple[str, bytes]) -> bytes:
    return b"".join(size.encode() + b"\r\n" + data + b"\r\n" for size, data in sizes_and_data)


def chunked(body: bytes, *headers: str) -> bytes:
    return post(body, "transfer-encoding: chunked", *headers)


def rows(*each: str) -> str:
    return '{"rows":[' + ",".join(each) + "]}"


def row(**changed: str) -> str:
    """The good row with the JSON of some of its values replaced."""
    values = {"amount": "1.5", "count": "2", "grade": '"A"', "new": "true", **changed}
    return "{" + ",".join(f'"{name}":{value}' for name, value in values.items()) + "}"


def bodies() -> Iterator[tuple[str, str | bytes, int]]:
    """Whole requests whose bodies are wrong."""
    yield from wrong_values()
    yield from wrong_shapes()
    yield from wrong_json()


def wrong_values() -> Iterator[tuple[str, str | bytes, int]]:
    text = f'"{SECRET}"'
    everywhere = ["null", "[]", "{}", "[1]", '{"a":1}', "NaN", "Infinity", "-Infinity"]
    wrong = {
        "amount": [text, '"1"', '""', "true", "1e400", "-1e400", "1e39", "1" + "0" * 400],
        "count": [text, '"1"', "true", "1.5", "1e400", str(2**31), str(2**63), str(-(2**63) - 1)],
        "grade": ["1", "1.5", "true", "false"],
        "new": [text, "1", "0", "0.0", '"true"', '""'],
    }
    for column, values in wrong.items():
        for value in (*everywhere, *values):
            yield f"{column} = {value[:30]}", rows(row(), row(**{column: value})), 422
    yield "a number of 5,000 digits", rows(row(amount="1" * 5000)), 400
    yield "a number of 9 MB", rows(row(amount="1" * 9 * 2**20)), 400
    yield "a text that is half a character", rows(row(grade=r'"\ud800"')), 400
    yield "two halves in the wrong order", rows(row(grade=r'"\udc00\ud800"')), 400
    yield "a text with an unknown escape", rows(row(grade=r'"\x41"')), 400
    yield "a text with half an escape", rows(row(grade=r'"\u12"')), 400
    yield "a text with a line end", rows(row(grade='"a\nb"')), 400
    yield "a text with a zero", rows(row(grade='"a\x00b"')), 400
    yield "a text that does not end", rows(row(grade='"A')), 400
    for bad in (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"):
        yield f"not UTF-8: {bad.hex()}", rows(row(grade='"?"')).encode().replace(b"?", bad), 400


def wrong_shapes() -> Iterator[tuple[str, str | bytes, int]]:
    for column in ("amount", "count", "grade", "new"):
        values = json.loads(GOOD)
        del values[column]
        yield f"without {column}", rows(row(), json.dumps(values)), 422
    yield "a column too many", rows(row(**{SECRET: "1"})), 422
    yield "a column that is no text", rows(row(**{r"\ud800": "1"})), 422
    yield "a column with a long name", rows(row(**{"x" * 10**6: "1"})), 422
    yield "100,000 columns too many", rows(row(**{f"x{n}": "1" for n in range(100_000)})), 422
    for value in ("null", "1", "true", f'"{SECRET}"', "[]", "[[]]", "{}", "[{}]"):
        yield f"the second row is {value}", rows(row(), value), 422
    for value in ("null", "1", "true", f'"{SECRET}"', "{}", "[]", GOOD):
        yield f"the rows are {value[:9]}", '{"rows":' + value + "}", 422
    for value in ("null", "1", "true", f'"{SECRET}"', "[]", "{}", f"[{GOOD}]", GOOD):
        yield f"the request is {value[:9]}", value, 422
    yield "1,001 rows", rows(*[GOOD] * 1001), 422
    yield "100,000 rows", rows(*["{}"] * 100_000), 422
    yield "another key", '{"rows":[' + GOOD + f'],"{SECRET}":1}}', 422
    yield "another key that is no text", '{"rows":[' + GOOD + r'],"\ud800":1}', 422
    yield "rows by another name", '{"Rows":[' + GOOD + "]}", 422
    for depth in (500, 10_000, 1_000_000):
        yield f"lists, {depth} deep", "[" * depth + "]" * depth, 400 if depth > 900 else 422
        yield f"lists without an end, {depth} deep", "[" * depth, 400
    yield "objects, 10,000 deep", '{"a":' * 10_000 + "1" + "}" * 10_000, 400
    yield "a value, 10,000 deep", rows(row(amount="[" * 10_000 + "]" * 10_000)), 400
    yield "rows, 10,000 deep", '{"rows":' + "[" * 10_000 + "]" * 10_000 + "}", 400


def wrong_json() -> Iterator[tuple[str, str | bytes, int]]:
    good = rows(GOOD)
    for end in range(1, len(good), 3):
        yield f"cut after {end} bytes", good[:end], 400
    yield "nothing", "", 400
    yield "a space", " ", 400
    yield "a comma too many", rows(GOOD, ""), 400
    yield "single quotes", good.replace('"', "'"), 400
    yield "a comment", good + "// x", 400
    yield "two requests", good + good, 400
    yield "more behind it", good + SECRET, 400
    yield "a zero in front", "\x00" + good, 400
    yield "a mark of order in front", "\ufeff" + good, 400
    yield "UTF-16", good.encode("utf-16"), 400
    yield "UTF-32", good.encode("utf-32"), 400
    yield "a hexadecimal number", rows(row(count="0x10")), 400
    yield "a zero before a number", rows(row(count="012")), 400
    yield "a plus before a number", rows(row(count="+1")), 400
    yield "a number without digits behind the point", rows(row(amount="1.")), 400
    yield "an exponent without digits", rows(row(amount="1e")), 400
    yield "a word", rows(row(new="True")), 400
    yield "YAML", "rows:\n- {amount: 1}\n", 400
    yield "bytes of all kinds", bytes(range(256)) * 40, 400
    yield "a pickle", b"\x80\x04N.", 400
    yield "zeros", b"\x00" * 10_000, 400


def contents() -> Iterator[Case]:
    """Bodies that are not JSON, and say so, or say the contrary."""
    good = rows(GOOD).encode()
    bomb = gzip.compress(b" " * 50 * 2**20)
    yield Case("a gzip bomb", (post(bomb, "content-encoding: gzip"),), (415,))
    yield Case("a gzip bomb in secret", (post(bomb),), (400,))
    for coding, data in (
        ("gzip", gzip.compress(good)),
        ("deflate", zlib.compress(good)),
        ("br", b"\x0b\x02\x80good"),
        ("zstd", b"\x28\xb5\x2f\xfd\x00"),
    ):
        yield Case(coding, (post(data, f"content-encoding: {coding}"),), (415,))
    form = f'--b\r\ncontent-disposition: form-data; name="rows"\r\n\r\n{SECRET}\r\n--b--\r\n'
    for kind, body in (
        ("multipart/form-data; boundary=b", form),
        ("application/x-www-form-urlencoded", f"rows={SECRET}"),
        ("text/csv", f"amount,count\n1,{SECRET}\n"),
        ("text/plain", SECRET),
        ("application/xml", "<rows/>"),
        ("application/vnd.bentoml+pickle", "\x80N."),
        ("application/octet-stream", "\x00\x01"),
        ("application/x-ndjson", f"{GOOD}\n{GOOD}\n"),
    ):
        yield Case(kind, (post(body, f"content-type: {kind}"),), (415,))
    yield Case("JSON that is none", (post("x", "content-type: application/json"),), (400,))
    large = b" " * (LARGEST + 1)
    yield Case("a body that is too large", (post(large),), (413,))
    in_chunks = chunks((f"{len(large):x}", large), ("0", b""))
    yield Case("chunks that are too large", (chunked(in_chunks),), (413,))
    many = chunks(*[("1", b" ")] * 200_000, ("0", b""))
    yield Case("200,000 chunks", (chunked(many),), (400,))


def methods() -> Iterator[Case]:
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        yield Case(f"{method} /predict", (post("", method=method),), (405,))
    yield Case("GET with a body", (post(rows(GOOD), method="GET"),), (405,))
    for method in ("post", "FOO", "P0ST", ""):
        yield Case(f"the method {method!r}", (post(rows(GOOD), method=method),), (400,))
    for path in ("/metrics", "/schema.json"):
        for method in ("POST", "PUT", "DELETE"):
            yield Case(f"{method} {path}", (post("", method=method, path=path),), (405,))
    for path in (
        "/PREDICT",
        "//predict",
        "/predict%00",
        "/predict;a=b",
        "/nothing",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/%ff%fe",
        "/" + "a" * 8000,
    ):
        yield Case(f"POST {path[:40]}", (post(rows(GOOD), path=path),), (404,))
    yield Case("the target '*'", (post(rows(GOOD), path="*"),), (404,))
    for path in ("predict", "http://", "/pre\xffdict", "/pre dict", "/pre\x00dict"):
        yield Case(f"the target {path!r}", (post(rows(GOOD), path=path),), (400,))


def protocols() -> Iterator[Case]:
    """What is no HTTP, or is it in a way that two who read it could take differently."""
    good = rows(GOOD)
    size = len(good)
    whole = {
        "nonsense": b"nonsense\r\n\r\n",
        "zeros instead of a request": b"\x00" * 1000,
        "TLS": bytes.fromhex("160301020001000001fc0303") + b"\x11" * 60,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "HTTP/9.9": post(good).replace(b"HTTP/1.1", b"HTTP/9.9"),
        "no version": b"POST /predict\r\n\r\n",
        "no name of a header": post(good, ": x"),
        "no colon in a header": post(good, "header"),
        "a space before the colon": post(good, "content-type : application/json"),
        "a space in a name": post(good, "content type: x"),
        "a zero in a header": post(good, f"x: {SECRET}\x00"),
        "a control character in a header": post(good, "x: a\x01b"),
        "a folded first header": b"POST /predict HTTP/1.1\r\n x: y\r\n\r\n",
        "two lengths": post(good, f"content-length: {size}", "content-length: 3"),
        "two equal lengths": post(good, f"content-length: {size}", f"content-length: {size}"),
        "a list of lengths": post(good, f"content-length: {size}, {size}"),
        "a negative length": post(good, "content-length: -1"),
        "a length with a plus": post(good, f"content-length: +{size}"),
        "a length in words": post(good, "content-length: all"),
        "a length in hexadecimal": post(good, "content-length: 0x10"),
        "an empty length": post(good, "content-length: "),
        "a length of 40 digits": post(good, "content-length: " + "9" * 40),
        "length and chunks": chunked(chunks(("0", b"")), f"content-length: {size}"),
        "chunks and length": post(good, f"content-length: {size}", "transfer-encoding: chunked"),
        "chunks twice": post(chunks(("0", b"")), "transfer-encoding: chunked, chunked"),
        "chunks, then gzip": post(chunks(("0", b"")), "transfer-encoding: chunked, gzip"),
        "an unknown transfer": post(good, "transfer-encoding: xchunked"),
        "a transfer with a space": post(chunks(("0", b"")), "transfer-encoding : chunked"),
        "a chunk without a size": chunked(chunks(("", b"a"))),
        "a chunk of size zz": chunked(chunks(("zz", b"a"))),
        "a chunk of size -1": chunked(chunks(("-1", b"a"))),
        "a chunk of size 0x1": chunked(chunks(("0x1", b"a"))),
        "a chunk of 2^80": chunked(chunks(("1" + "0" * 20, b"a"))),
        "a chunk that is longer": chunked(chunks(("1", b"abc"))),
        "a zero in a chunk's extension": chunked(chunks(("1;a=\x00", b"a"))),
    }
    for name, sent in whole.items():
        yield Case(name, (sent,), (400,))
    smuggled = b"GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n"
    yield Case(
        "a request within one with both lengths",
        (chunked(chunks(("0", b"")) + smuggled, "content-length: 5"),),
        (400,),
    )
    yield Case("more than the length", (post(good) + b"rest\r\n\r\n",), (400,))
    yield Case(
        "a bad one behind a good one", (post(good) + post("x") + post("{"),), (200, 400, 400)
    )
    yield Case("30 good ones at once", (post(good) * 30,), (200,) * 30)
    yield Case("30 bad ones at once", (post("[]") * 30,), (422,) * 30)
    yield Case("half a request", (post(good)[:-5],), (408,))
    yield Case("a body, byte by byte", tuple(post("[]")[n : n + 1] for n in range(60)), (422,))
    yield Case("a body that takes too long", (post(" " * 15)[:-15], *[b" "] * 15), (408,), 0.1)
    yield Case("a chunk that never comes", (chunked(b"ff\r\n"),), (408,))
    yield Case("an announced body that never comes", (post("", "content-length: 99"),), (408,))
    yield Case("an announced body of a terabyte", (post("", f"content-length: {10**12}"),), (408,))
    waited = post("[]", "expect: 100-continue")
    yield Case("one that waits for leave", (waited,), (100, 422))
    yield Case("one to be upgraded", (post("[]", "connection: upgrade", "upgrade: h2c"),), (422,))
    yield Case(
        "one for a websocket",
        (post("", "connection: upgrade", "upgrade: websocket", method="GET"),),
        (405,),
    )


def floods() -> Iterator[Case]:
    head = b"POST /predict HTTP/1.1\r\nhost: h\r\n"
    many = b"".join(b"x%d: %s\r\n" % (n, SECRET.encode()) for n in range(100_000))
    yield Case("100,000 headers", (head + many,), (431,))
    yield Case("a header of 8 MB", (head + b"x: " + b"y" * 2**23,), (431,))
    yield Case("a name of 8 MB", (head + b"x" * 2**23,), (431,))
    yield Case("a target of 8 MB", (b"POST /" + b"x" * 2**23,), (431,))


def goers() -> Iterator[Case]:
    """Those who go before they have an answer."""
    good = post(rows(GOOD))
    for leave in ("reset", "half", "close"):
        yield Case(f"nothing, {leave}", (), (), leave=leave)
        yield Case(f"half a line, {leave}", (b"POST /pre",), (), leave=leave)
        yield Case(f"half a head, {leave}", (good[:40],), (), leave=leave)
        yield Case(f"half a body, {leave}", (good[:-9],), (), leave=leave)
        yield Case(f"all but the answer, {leave}", (good,), (), leave=leave)
        yield Case(f"half a chunk, {leave}", (chunked(b"ff\r\nabc"),), (), leave=leave)
    yield Case("a large body, reset", (post(b" " * 2**20)[: 2**19],), (), leave="reset")


CASES = (
    *(Case(name, (post(body),), (status,)) for name, body, status in bodies()),
    *contents(),
    *methods(),
    *protocols(),
    *floods(),
    *goers(),
)


def test_there_are_enough_cases():
    assert len(CASES) >= 200
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.fixture(scope="module", params=["bentoml", "asgi"])
def target(request, tmp_path_factory, free_port):
    """A service with a column of each type, which waits a second for a body."""
    root = tmp_path_factory.mktemp("malformed")
    write_columns(root / "m.onnx")

    artifact = Artifact(path="m.onnx", format="onnx")
    model = Model(stages={"train": Stage(command="true")}, artifact=artifact)
    deployment = Deployment(model="m", targets=("here",), runtime=request.param)
    folder = root / "services" / NAME
    folder.mkdir(parents=True)
    files = compile_bento(NAME, deployment, "m", model, {})
    for file in files:
        text = file.text.replace("BODY_SECONDS = 30", "BODY_SECONDS = 1")
        (root / file.path).write_text(text)
    description = {
        "model": "m",
        "version": 1,
        "digest": hashlib.md5((root / "m.onnx").read_bytes()).hexdigest(),
        "commit": "0123456789abcdef",
        "signature": inspect_artifact(root / "m.onnx", "onnx"),
    }
    settings = {"cpus": 1, "memory": None, "capture": None}
    names = tuple(file.path.rpartition("/")[2] for file in files)
    release = stage_release(
        root, folder, root / "m.onnx", description, settings, 10**9, names=names
    )
    target = LocalTarget(root, "here", free_port())
    target.deploy(NAME, replace(release, capture=1.0), [json.loads(GOOD)])
    yield target
    target.destroy(NAME)


def send(port: int, case: Case) -> list[int]:
    """The statuses of the answers, once there are as many as expected or no more will come."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line:
        try:
            for part in case.parts:
                line.sendall(part)
                if case.pause:
                    time.sleep(case.pause)
        except ConnectionError:
            pass  # it has answered, and listens no more
        if case.leave == "half":
            line.shutdown(socket.SHUT_WR)
            return []
        if case.leave:
            if case.leave == "reset":
                line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return []
        return read_statuses(line, len(case.statuses))


def read_statuses(line: socket.socket, expected: int) -> list[int]:
    statuses: list[int] = []
    received = b""
    while len(statuses) < expected:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = content_length(head)
        if rest[length:] or (received and b"\r\n\r\n" in received and len(rest) >= length):
            statuses.append(int(head[9:12]))
            received = rest[length:]
            continue
        try:
            data = line.recv(2**16)
        except (ConnectionError, TimeoutError):
            data = b""
        if not data:
            return statuses
        received += data
    assert b"Traceback" not in received
    return statuses


def content_length(head: bytes) -> int:
    for header in head.lower().split(b"\r\n"):
        if header.startswith(b"content-length:"):
            return int(header.partition(b":")[2])
    return 0


def test_what_is_wrong_is_refused_and_nothing_else_happens(target):
    state = json.loads((target.run_dir(NAME) / "state.json").read_text())
    good = Case("good", (post(rows(GOOD)),), (200,))
    wrong = []
    for case in CASES:
        statuses = tuple(send(target.port, case))
        if statuses != case.statuses:
            wrong.append(f"{case.name}: {statuses} instead of {case.statuses}")
        if send(target.port, good) != [200]:
            wrong.append(f"{case.name}: no answer to a good request afterwards")
    assert wrong == []

    now = json.loads((target.run_dir(NAME) / "state.json").read_text())
    assert (now["ready"], now["restarts"]) == (state["ready"], 0)
    assert all(Path(f"/proc/{pid}").exists() for pid in now["ready"]) or os.name != "posix"
    log = Path(now["log"]).read_text()
    assert SECRET not in log
    assert "Traceback" not in log
