"""A file behind an address comes whole and as it should be, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import ssl
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.fetching import Source, fetch
from mlspec.fetching import web as fetching
from mlspec.fetching.web import check_address, check_redirect
from tests.unit.fetching.conftest import Place, Web, digest_of

DATA = bytes(range(256)) * 20_000


def test_what_it_should_be(web: Web, place: Place) -> None:
    url = web.give("/model.onnx", DATA)
    got = place.fetch(digest_of(DATA), url=url)
    assert (got.digest, got.size) == (digest_of(DATA), len(DATA))
    assert place.files() == {"models/model.onnx": DATA}
    assert (place.root / "models/model.onnx").stat().st_mode & 0o777 == 0o644


def test_without_a_place_it_only_tells_the_digest(web: Web, place: Place) -> None:
    url = web.give("/model.onnx", DATA)
    got = fetch(Source(url=url), "", None, place.said.append, root=place.root)
    assert got.digest == digest_of(DATA)
    assert place.files() == {}


def test_anything_else_is_refused_and_what_was_there_stays(web: Web, place: Place) -> None:
    place.fetch(digest_of(DATA), url=web.give("/model.onnx", DATA))
    url = web.give("/model.onnx", b"x" + DATA[1:])
    with pytest.raises(MlspecError, match="is not what the spec names") as error:
        place.fetch(digest_of(DATA), url=url)
    assert digest_of(b"x" + DATA[1:]) in error.value.message
    assert place.files() == {"models/model.onnx": DATA}


def test_a_web_page_is_told_apart(web: Web, place: Place) -> None:
    url = web.give("/model.onnx", b"\n<!DOCTYPE html><html>Log in</html>")
    with pytest.raises(MlspecError) as error:
        place.fetch(digest_of(DATA), url=url)
    assert "web page" in error.value.hint


def test_a_pointer_of_lfs_is_told_apart(web: Web, place: Place) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0f\nsize 3\n"
    with pytest.raises(MlspecError, match="pointer of Git LFS"):
        place.fetch(digest_of(pointer), url=web.give("/model.onnx", pointer))


def test_nothing_is_no_model(web: Web, place: Place) -> None:
    with pytest.raises(MlspecError, match="empty"):
        place.fetch(digest_of(b""), url=web.give("/model.onnx", b""))


def test_what_is_said_to_be_too_large_is_not_read(web: Web, place: Place) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(1 << 50))
        request.end_headers()
        request.close_connection = True

    with pytest.raises(MlspecError, match="more than 1,000,000 bytes") as error:
        place.fetch(digest_of(DATA), url=web.tell("/huge", answer), most=1_000_000)
    assert "max_size" in error.value.hint
    assert place.files() == {}


def test_a_length_that_no_file_has_is_not_believed(web: Web, place: Place) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", "9" * 5000)
        request.end_headers()
        request.wfile.write(DATA)
        request.close_connection = True

    place.fetch(digest_of(DATA), url=web.tell("/odd", answer))
    assert place.files() == {"models/model.onnx": DATA}


def test_what_never_ends_is_ended(web: Web, place: Place) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.close_connection = True
        try:
            while True:
                request.wfile.write(b"\0" * 65536)
        except OSError:
            pass

    with pytest.raises(MlspecError, match="more than 1,000,000 bytes"):
        place.fetch(digest_of(DATA), url=web.tell("/endless", answer), most=1_000_000)
    assert place.files() == {}


def broken(data: bytes, after: int, *, etag: str = '"a"', ranges: bool = True) -> object:
    """A server whose connection breaks after so many bytes, each time."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        said = request.headers.get("Range", "") if ranges else ""
        begin = int(said.removeprefix("bytes=").rstrip("-")) if said else 0
        if said and request.headers.get("If-Range") == etag:
            request.send_response(206)
            request.send_header("Content-Range", f"bytes {begin}-{len(data) - 1}/{len(data)}")
        else:
            begin = 0
            request.send_response(200)
        request.send_header("ETag", etag)
        request.send_header("Content-Length", str(len(data) - begin))
        request.end_headers()
        request.wfile.write(data[begin : begin + after])
        request.close_connection = True

    return answer


def test_a_broken_connection_is_taken_up(web: Web, place: Place) -> None:
    url = web.tell("/model.onnx", broken(DATA, len(DATA) // 2))  # type: ignore[arg-type]
    assert place.fetch(digest_of(DATA), url=url).size == len(DATA)
    assert [headers.get("Range") for _, headers in web.asked] == [
        None,
        f"bytes={len(DATA) // 2}-",
    ]
    assert any("broke" in line for line in place.said)


def test_a_server_that_cannot_go_on_begins_anew(web: Web, place: Place) -> None:
    halves = iter((len(DATA) // 2, len(DATA)))

    def answer(request: BaseHTTPRequestHandler) -> None:
        broken(DATA, next(halves), ranges=False)(request)  # type: ignore[operator]

    assert place.fetch(digest_of(DATA), url=web.tell("/model.onnx", answer)).size == len(DATA)


def test_a_file_that_changed_meanwhile_begins_anew(web: Web, place: Place) -> None:
    old, new = DATA, DATA[::-1]
    answers = iter((broken(old, 1000, etag='"old"'), broken(new, len(new), etag='"new"')))

    def answer(request: BaseHTTPRequestHandler) -> None:
        next(answers)(request)  # type: ignore[operator]

    place.fetch(digest_of(new), url=web.tell("/model.onnx", answer))
    assert place.files() == {"models/model.onnx": new}


def test_what_always_breaks_leaves_nothing(web: Web, place: Place) -> None:
    url = web.tell("/model.onnx", broken(DATA, 10))  # type: ignore[arg-type]
    with pytest.raises(RemoteUnreachable, match="ended after"):
        place.fetch(digest_of(DATA), url=url)
    assert len(web.asked) == fetching.TRIES
    assert place.files() == {}


@pytest.mark.parametrize(("code", "hint"), [(401, "token_env"), (403, "token_env"), (404, "look")])
def test_what_a_server_refuses(web: Web, place: Place, code: int, hint: str) -> None:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_error(code)

    with pytest.raises(MlspecError, match=f"HTTP {code}") as error:
        place.fetch(digest_of(DATA), url=web.tell("/model.onnx", answer))
    assert hint in error.value.hint


def test_a_full_disk(web: Web, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.fetch(digest_of(DATA), url=web.give("/model.onnx", DATA))
    url = web.give("/newer.onnx", DATA[::-1])

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("mlspec.fetching.sink.os.fsync", full)
    with pytest.raises(MlspecError, match="No space left"):
        place.fetch(digest_of(DATA[::-1]), url=url)
    assert place.files() == {"models/model.onnx": DATA}


def test_a_drip_is_given_up(web: Web, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "PATIENCE", 0.05)
    monkeypatch.setattr(fetching, "TRIES", 1)
    over = threading.Event()

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(DATA)))
        request.end_headers()
        with contextlib.suppress(OSError):
            while not over.wait(0.01):
                request.wfile.write(b"x")
        request.close_connection = True

    try:
        with pytest.raises(RemoteUnreachable, match=r"bytes a second|timed out"):
            place.fetch(digest_of(DATA), url=web.tell("/drip", answer))
    finally:
        over.set()
    assert place.files() == {}


def test_a_certificate_that_nobody_vouches_for(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pem = tmp_path / "server.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", pem, "-out",
         tmp_path / "cert.pem", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost"],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", pem)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(DATA)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        url = f"https://localhost:{server.server_port}/model.onnx"
        try:
            with pytest.raises(RemoteUnreachable, match=r"(?i)certificate"):
                place.fetch(digest_of(DATA), url=url)
            monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
            place.fetch(digest_of(DATA), url=url)
        finally:
            server.shutdown()
            thread.join()
    assert place.files() == {"models/model.onnx": DATA}


def test_nobody_there(place: Place) -> None:
    with pytest.raises(RemoteUnreachable, match="cannot be reached"):
        place.fetch(digest_of(DATA), url="http://127.0.0.1:9/model.onnx")


# redirects and credentials ------------------------------------------------------------------------


def test_a_redirect_of_this_machine_is_followed(web: Web, place: Place) -> None:
    web.give("/there", DATA)
    url = web.send("/here", f"{web.address}/there")
    assert place.fetch(digest_of(DATA), url=url).size == len(DATA)


@pytest.mark.parametrize(
    "to",
    [
        "http://example.org/model.onnx",
        "file:///etc/passwd",
        "ftp://example.org/model.onnx",
        "https://169.254.169.254/latest/meta-data",
        "https://metadata.google.internal/",
        "https://ada:secret@example.org/",
    ],
)
def test_a_redirect_elsewhere_is_not(web: Web, place: Place, to: str) -> None:
    with pytest.raises(MlspecError) as error:
        place.fetch(digest_of(DATA), url=web.send("/here", to))
    assert "secret" not in error.value.message
    assert place.files() == {}


def test_a_circle_of_redirects_ends(web: Web, place: Place) -> None:
    with pytest.raises(MlspecError, match="again and again"):
        place.fetch(digest_of(DATA), url=web.send("/here", f"{web.address}/here"))


@pytest.mark.parametrize("to", ["https://127.0.0.1/", "https://10.0.0.5/", "https://[::1]/"])
def test_nobody_outside_sends_into_this_network(to: str) -> None:
    with pytest.raises(MlspecError, match="inside this network"):
        check_redirect("https://93.184.215.14/model.onnx", to)
    check_redirect("https://192.168.0.2/model.onnx", to)


def test_what_is_a_machines_own_is_not_asked() -> None:
    for url in ("https://169.254.169.254/", "https://[fe80::1]/", "https://2852039166/"):
        with pytest.raises(MlspecError, match="not asked"):
            check_address(url)


def test_a_token_goes_to_that_server_and_no_further(web: Web, place: Place) -> None:
    web.give("/there", DATA)
    url = web.send("/here", f"{web.address}/there")
    place.fetch(digest_of(DATA), url=url, token="hunter2-hunter2")
    (_, first), (_, second) = web.asked
    assert first["Authorization"] == "Bearer hunter2-hunter2"
    assert "Authorization" not in second


# files of this machine ----------------------------------------------------------------------------


def test_a_file_of_this_machine(tmp_path: Path, place: Place) -> None:
    file = tmp_path / "model.onnx"
    file.write_bytes(DATA)
    place.fetch(digest_of(DATA), url=f"file://{file}")
    assert place.files() == {"models/model.onnx": DATA}


def test_what_is_no_file_does_not_make_it_wait(tmp_path: Path, place: Place) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", "not a file"), ("none", "No such file"), (".", "not a file")):
        with pytest.raises(MlspecError, match=why):
            place.fetch(digest_of(DATA), url=f"file://{tmp_path}/{name}")
