"""A table at the bottom of a terminal, and lines that pass above it.

Comes in: lines, from any thread, and a function that makes the table. Both are drawn a few times a
second by a thread of its own, so that to write a line costs next to nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.text import Text

PAUSE = 0.2
"""Seconds from one drawing to the next."""


class Screen:
    """Draws on standard error from `start` to `stop`, which leaves the lines and no table."""

    def __init__(self, table: Callable[[], Any]) -> None:
        self._live = Live(
            get_renderable=table,
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
        )
        self._lines: list[str] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="screen", daemon=True)

    def start(self) -> None:
        self._live.start()
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):
            self._draw()
            self._live.stop()

    def write(self, line: str) -> None:
        """Show a line, which may be coloured, soon."""
        with self._lock:
            self._lines.append(line)

    def _run(self) -> None:
        with suppress(OSError):  # the terminal is gone: its signal ends what is shown here
            while not self._ended.wait(PAUSE):
                self._draw()

    def _draw(self) -> None:
        with self._lock:
            lines, self._lines = self._lines, []
        if lines:
            self._live.console.print(Text.from_ansi("\n".join(lines)), soft_wrap=True)
        self._live.refresh()
