"""`python -m mlspec.providers.local.daemon RUN_DIR SETTINGS`: starts a supervisor and returns.

Takes the lock and binds the port while the caller still listens, so that what can fail is said at
once: prints `{"ok": true, "pid": ...}` or `{"ok": false, "problem": ...}`.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

from mlspec.providers.local.ports import PortTaken, bind_door, bind_port
from mlspec.providers.local.rundir import DOOR, LOCK, SUPERVISOR_LOG, socket_folder

# Without it asyncio, for whose import a deploy waits, is there sooner: a supervisor has no TLS.
sys.modules["ssl"] = None  # type: ignore[assignment]

import asyncio  # noqa: E402

from mlspec.providers.local.supervisor import Settings, supervise  # noqa: E402

LOCK_TRIES = 40
LOCK_PAUSE = 0.025


def main() -> None:
    run_dir, settings = Path(sys.argv[1]), Settings(**json.loads(sys.argv[2]))
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        with os.fdopen(reading) as answer:
            sys.stdout.write(answer.read())
        return
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    _become_daemon(run_dir)
    # Held, by being open, until the process ends.
    lock = os.open(run_dir / LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    if not _take(lock):
        _answer(writing, {"ok": False, "problem": "another supervisor runs this deployment"})
        return
    try:
        door = socket_folder(run_dir) / DOOR
        listener = bind_port(settings.port) if settings.port else bind_door(door)
    except PortTaken as error:
        os.close(lock)  # before the answer, or the caller might still see a supervisor
        _answer(writing, {"ok": False, "problem": str(error)})
        return
    _answer(writing, {"ok": True, "pid": os.getpid()})
    asyncio.run(supervise(run_dir, settings, listener))


def _become_daemon(run_dir: Path) -> None:
    os.chdir("/")
    os.umask(0o077)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log_file = os.open(run_dir / SUPERVISOR_LOG, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(log_file, 1)
    os.dup2(log_file, 2)
    os.close(nothing)
    os.close(log_file)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )


def _take(lock: int) -> bool:
    """A status that is being read holds the lock for a moment."""
    for _ in range(LOCK_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE)
        else:
            return True
    return False


def _answer(pipe: int, answer: dict[str, Any]) -> None:
    os.write(pipe, json.dumps(answer).encode())
    os.close(pipe)


if __name__ == "__main__":
    main()
