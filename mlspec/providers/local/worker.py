"""`python -m mlspec.providers.local.worker SETTINGS`: answers requests with one service.

Started by the supervisor with three sockets: the shared listener of the port, the private listener
of its release, and a control socket with lines of JSON. It serves the private one first and says
`ready`. Told `listen`, it also takes connections from the port. Told `leave`, it takes none from
there until it is told again, and closes those that it has after their next answer. Told `drain`, it
does so and ends when none is left. It ends too when the
supervisor does.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import resource
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from uvicorn.config import Config

BUSY_PAUSE = 0.5
ORPHAN_DRAIN = 5.0
FORWARDED = b"x-forwarded-for"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the supervisor passes as JSON: file descriptors, what to run, limits.

    `bento` is the folder of a Bento, or of a service without BentoML that is laid out like one.
    """

    bento: str
    control: int
    listener: int
    private: int
    drain_timeout: float
    memory: int | None


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    if settings.memory:
        resource.setrlimit(resource.RLIMIT_DATA, (settings.memory, settings.memory))
    app = Draining(_load_app(Path(settings.bento)))
    config = Config(
        app=app,
        loop="auto",  # uvloop and httptools, if they are installed: half of the cost of a request
        http=_find_protocol(),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # nothing asks for the client's address
        server_header=False,
    )
    private = socket.socket(fileno=settings.private)
    Worker(config, app, settings).run(sockets=[private])


def _find_protocol() -> Any:
    try:
        from mlspec.providers.local.edge import GuardedProtocol
    except ImportError:  # httptools is not installed; h11 has limits of its own
        return "h11"
    return GuardedProtocol


def _load_app(bento: Path) -> Any:
    """The ASGI application of a service."""
    return _load_bento(bento) if (bento / "bento.yaml").is_file() else _load_plain(bento)


def _load_plain(bento: Path) -> Any:
    """A service that runs without BentoML."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s [%(levelname)s] %(message)s")
    sys.path.insert(0, str(bento / "src"))
    return importlib.import_module("service").app


def _load_bento(bento: Path) -> Any:
    """BentoML's application, prepared as BentoML's own worker does."""
    from _bentoml_impl.loader import load
    from bentoml._internal.container import BentoMLContainer
    from bentoml._internal.context import server_context
    from bentoml._internal.log import configure_server_logging

    configure_server_logging()
    service = load(str(bento), standalone_load=True)
    BentoMLContainer.development_mode.set(False)
    server_context.service_type = "entry_service"
    server_context.service_name = service.name
    server_context.service_routes = [api.route for api in service.apis.values()]
    server_context.worker_index = 1
    server_context.bento_name = service.bento.tag.name
    server_context.bento_version = service.bento.tag.version
    return service.to_asgi(is_main=True)


class Draining:
    """ASGI middleware: while `active`, each answer tells its client to close the connection.

    A request that comes over the private socket has no client, unless a proxy says whose it is.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.active = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_last(message: Any) -> None:
            if self.active and message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"connection", b"close")]
                message = {**message, "headers": headers}
            await send(message)

        if scope.get("client") is None and scope["type"] == "http":
            scope = {**scope, "client": _find_client(scope["headers"])}
        await self.app(scope, receive, send_last if scope["type"] == "http" else send)


def _find_client(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int] | None:
    """Whom a proxy answers for."""
    for name, value in headers:
        if name == FORWARDED:
            return value.decode("ascii", "replace"), 0
    return None


class Worker(uvicorn.Server):  # type: ignore[misc]
    """A uvicorn server whose public listener comes and goes on command."""

    def __init__(self, config: Config, app: Draining, settings: Settings) -> None:
        super().__init__(config)
        self._app = app
        self._drain_timeout = settings.drain_timeout
        self._listener = socket.socket(fileno=settings.listener)
        self._listener.setblocking(False)
        self._control = socket.socket(fileno=settings.control)
        self._joining: set[asyncio.Task[Any]] = set()
        self._commands: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._commands = asyncio.create_task(self._follow_commands())

    async def _follow_commands(self) -> None:
        reader, writer = await asyncio.open_connection(sock=self._control)

        def report(event: str) -> None:
            writer.write(json.dumps({"event": event}).encode() + b"\n")

        report("ready")
        while line := await reader.readline():
            command = json.loads(line)["do"]
            if command == "listen":
                self._app.active = False
                asyncio.get_running_loop().add_reader(self._listener, self._accept)
                report("listening")
            elif command == "leave":
                self._app.active = True
                asyncio.get_running_loop().remove_reader(self._listener)
                report("left")
            elif command == "drain":
                report("draining")
                await self._drain(self._drain_timeout)
                return
        await self._drain(ORPHAN_DRAIN)

    def _accept(self) -> None:
        """Take one connection, so that other workers get the next.

        Not `loop.create_server`: when its server closes, connections that it has accepted and not
        yet set up are lost. Here they are tasks, and draining waits for them.
        """
        loop = asyncio.get_running_loop()
        try:
            connection, _ = self._listener.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError:  # no file descriptors left
            loop.remove_reader(self._listener)
            loop.call_later(BUSY_PAUSE, self._resume)
            return
        connection.setblocking(False)
        joining = loop.create_task(loop.connect_accepted_socket(self._make_protocol, connection))
        self._joining.add(joining)
        joining.add_done_callback(self._joined)

    def _resume(self) -> None:
        if not self._app.active:
            asyncio.get_running_loop().add_reader(self._listener, self._accept)

    def _joined(self, task: asyncio.Task[Any]) -> None:
        self._joining.discard(task)
        if not task.cancelled():
            task.exception()

    def _make_protocol(self) -> asyncio.Protocol:
        protocol: asyncio.Protocol = self.config.http_protocol_class(
            config=self.config,
            server_state=self.server_state,
            app_state=self.lifespan.state,
            _loop=asyncio.get_running_loop(),
        )
        return protocol

    async def _drain(self, timeout: float) -> None:
        """Idle connections are left to their clients or to the keep-alive timeout: closing one
        could cross with a request on its way."""
        loop = asyncio.get_running_loop()
        self._app.active = True
        loop.remove_reader(self._listener)
        # Only this process's descriptor; the socket lives on in the others.
        self._listener.close()
        deadline = loop.time() + timeout
        while (self._joining or self.server_state.connections) and loop.time() < deadline:
            await asyncio.sleep(0.02)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets=sockets)
        if self._commands:
            self._commands.cancel()


if __name__ == "__main__":
    os.environ.setdefault("BENTOML_DO_NOT_TRACK", "True")
    main()
