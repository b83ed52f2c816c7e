"""A web server that does what a test tells it, and a way to fetch."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mlspec.fetching import Source, fetch
from mlspec.fetching.sink import Got

Answer = Callable[[BaseHTTPRequestHandler], None]


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


@dataclass
class Web:
    """A server of this machine: what it answers, by path, and what it was asked."""

    address: str
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)

    def give(self, path: str, data: bytes, **headers: str) -> str:
        """Have `path` answer with `data`; its address."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(200)
            request.send_header("Content-Length", str(len(data)))
            for name, value in headers.items():
                request.send_header(name.replace("_", "-"), value)
            request.end_headers()
            request.wfile.write(data)

        return self.tell(path, answer)

    def send(self, path: str, to: str, code: int = 302) -> str:
        """Have `path` redirect."""

        def answer(request: BaseHTTPRequestHandler) -> None:
            request.send_response(code)
            request.send_header("Location", to)
            request.send_header("Content-Length", "0")
            request.end_headers()

        return self.tell(path, answer)

    def tell(self, path: str, answer: Answer) -> str:
        self.answers[path] = answer
        return f"{self.address}{path}"


@pytest.fixture
def web() -> Iterator[Web]:
    told = Web("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            told.asked.append((self.path, dict(self.headers)))
            answer = told.answers.get(self.path.partition("?")[0])
            if answer is None:
                self.send_error(404)
            else:
                answer(self)

        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        told.address = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield told
        server.shutdown()
        thread.join()


@dataclass
class Place:
    """A repository's folder to fetch into."""

    root: Path
    said: list[str] = field(default_factory=list)

    def fetch(self, digest: str = "", *, to: str = "models/model.onnx", **source: Any) -> Got:
        return fetch(Source(**source), digest, self.root / to, self.said.append, root=self.root)

    def files(self) -> dict[str, bytes]:
        """All that there is, but for what says that `.mlspec` is not for Git."""
        return {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file() and path.name != ".gitignore"
        }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    root = tmp_path / "repository"
    root.mkdir()
    return Place(root)
