"""HAProxy itself, asked with and without a certificate that its authority signed."""

from __future__ import annotations

import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlspec.compilers.haproxy import DEFAULTS, tls_options
from mlspec.providers.local.proxy import find_program

PATIENCE = 60.0


class Backend(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *_: object) -> None:
        pass


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two authorities, and what they signed: `server` and `client`; `stranger` is another one's."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("papers")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc")
    for name in ("ca", "other"):
        openssl(
            folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.pem",
            "-subj", f"/CN={name}", "-days", "2",
        )  # fmt: skip
    for name, authority in (("server", "ca"), ("client", "ca"), ("stranger", "other")):
        openssl(
            folder, "req", "-x509", *key, "-keyout", f"{name}.key", "-out", f"{name}.crt",
            "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2",
            "-addext", "basicConstraints=critical,CA:FALSE",
            "-CA", f"{authority}.pem", "-CAkey", f"{authority}.key",
        )  # fmt: skip
        texts = [(folder / f"{name}.{ending}").read_text() for ending in ("crt", "key")]
        (folder / f"{name}.pem").write_text("".join(texts))
    return folder


@pytest.fixture
def port(papers: Path, tmp_path: Path) -> Iterator[int]:
    """Where HAProxy asks its clients for certificates."""
    program = find_program()
    if program is None:
        pytest.skip("HAProxy is not installed")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        tls = tls_options(str(papers / "server.pem"), str(papers / "ca.pem"))
        config = tmp_path / "haproxy.cfg"
        config.write_text(
            f"{DEFAULTS}frontend port\n    bind fd@{listener.fileno()}{tls}\n"
            f"    default_backend releases\nbackend releases\n"
            f"    server one 127.0.0.1:{server.server_port}\n"
        )
        process = subprocess.Popen(
            [program, "-db", "-f", str(config)], pass_fds=(listener.fileno(),)
        )
        try:
            yield listener.getsockname()[1]
        finally:
            process.terminate()
            process.wait(PATIENCE)
            server.shutdown()
            server.server_close()


def ask(port: int, papers: Path, client: str = "") -> str:
    """The first line of what is answered to a client with this certificate."""
    context = ssl.create_default_context(cafile=str(papers / "ca.pem"))
    if client:
        context.load_cert_chain(papers / f"{client}.pem")
    with (
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line,
        context.wrap_socket(line, server_hostname="127.0.0.1") as secured,
    ):
        secured.sendall(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
        return secured.recv(4096).partition(b"\r\n")[0].decode()


def test_only_clients_of_the_authority_are_answered(port: int, papers: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            assert ask(port, papers, "client").endswith(" 200 OK")
            break
        except (ConnectionError, ssl.SSLEOFError):  # HAProxy is just starting
            assert time.monotonic() < deadline
            time.sleep(0.1)
    for client in ("", "stranger"):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(port, papers, client)
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as line:
        line.sendall(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
        assert b"200" not in line.recv(4096)


def test_without_an_authority_no_client_needs_a_certificate() -> None:
    options = tls_options("/etc/a.pem", None)
    assert options.startswith(" ssl crt /etc/a.pem ")
    assert "verify" not in options
