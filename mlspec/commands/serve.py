"""`mlspec serve MODEL`: a quick look at a model on this machine, until Ctrl-C.

What answers is the service that a deployment would have, from a release that is gone afterwards.
Nothing is recorded, and nothing is captured.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from mlspec.commands.staging import UNREGISTERED, Staged, Wanted, stage_wanted
from mlspec.compilers.page import compile_page, page_policy
from mlspec.errors import Interrupted, MlspecError
from mlspec.providers.local.foreground import run_until_signal, serve_release
from mlspec.providers.local.front import Page, stand_in_front
from mlspec.providers.local.ports import HOST, PortTaken, bind_port
from mlspec.providers.local.scratch import make_scratch
from mlspec.reconcile import open_project
from mlspec.render.console import Console
from mlspec.render.style import escape

BACKLOG = 128


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """What is served; a port of 0 is any that is free."""

    wanted: Wanted
    port: int


def serve(start: Path, console: Console, options: ServeOptions) -> int:
    """Serve until a signal: :class:`Interrupted` is how it ends."""
    with closing(_bind(options.port)) as listener, make_scratch() as folder:
        with open_project(start) as project:
            project.ledger.refresh(console.note)
            staged = stage_wanted(project, options.wanted, folder)
        try:
            run_until_signal(_serve(console, staged, folder, listener))
        except Interrupted:
            console.note("Nothing of it is left.")
            raise
    return 0


def _bind(port: int) -> socket.socket:
    """Before anything takes time: who has the port is told at once."""
    try:
        return bind_port(port)
    except PortTaken as error:
        raise MlspecError(str(error), hint="without --port, any that is free is taken") from None


async def _serve(console: Console, staged: Staged, folder: Path, listener: socket.socket) -> None:
    def tell(line: str) -> None:
        console.note(escape(line))

    page = _make_page(staged)
    async with serve_release(staged.release, folder, tell) as private:
        listener.listen(BACKLOG)
        async with stand_in_front(listener, private, page):
            port = listener.getsockname()[1]
            console.say(f"{staged.title} answers at http://{HOST}:{port} (Ctrl-C ends it).")
            await asyncio.Event().wait()


def _make_page(staged: Staged) -> Page:
    number = staged.release.version
    version = "not registered" if number == UNREGISTERED else f"version {number}"
    nonce = secrets.token_urlsafe(16)
    html = compile_page(staged.release.model, version, staged.signature, nonce)
    return Page(html.encode(), page_policy(nonce))
