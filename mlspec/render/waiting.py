"""A line on a terminal while something takes long, which is gone when it ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

PAUSE = 1.0
"""Seconds before the line, and from one to the next."""


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on standard error what takes so long, and how long it did, if a person may read it."""
    if not sys.stderr.isatty():
        yield
        return
    ended = threading.Event()
    thread = threading.Thread(target=_tell, args=(what, ended), name="waiting", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _tell(what: str, ended: threading.Event) -> None:
    started = time.monotonic()
    line = ""
    with suppress(OSError):  # the terminal is gone: its signal ends what is waited for
        while not ended.wait(PAUSE):
            line = f"{what}: {time.monotonic() - started:.0f} s"
            sys.stderr.write(f"\r{line}")
            sys.stderr.flush()
        if line:
            sys.stderr.write(f"\r{' ' * len(line)}\r")
            sys.stderr.flush()
