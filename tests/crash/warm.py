"""mlspec run in a process that has it loaded already, which takes a third of the time.

A server (`python tests/crash/warm.py`) is told on its standard input what to run, in lines of JSON,
and forks for each; what it forks is `faulty.py`, so it is mlspec with or without something wrong.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

Done = subprocess.CompletedProcess[str]
_servers = threading.local()


def run_warm(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], patience: int
) -> Done:
    """`mlspec ARGUMENTS`; each thread has a server of its own."""
    server = getattr(_servers, "process", None)
    if server is None:
        command = [sys.executable, __file__]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        server = _servers.process = subprocess.Popen(command, **pipes)
    with tempfile.TemporaryDirectory(prefix="mlspec-warm-") as folder:
        asked = {
            "arguments": [*arguments],
            "cwd": str(cwd),
            "environment": dict(environment),
            "patience": patience,
            "folder": folder,
        }
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        said = [Path(folder, name).read_text(errors="replace") for name in ("out", "err")]
    return Done([*arguments], code, *said)


def _serve() -> None:
    """Fork for each line, and answer with the exit code. What one needed, all later ones have."""
    import faulty

    for line in sys.stdin:
        asked = json.loads(line)
        gc.freeze()
        child = os.fork()
        if not child:
            _become(asked, faulty)
        _, status = os.waitpid(child, 0)
        needed = Path(asked["folder"], "modules")
        for name in needed.read_text().split() if needed.exists() else ():
            with suppress(ImportError):
                import_module(name)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


def _become(asked: Mapping[str, Any], faulty: Any) -> None:
    """Be mlspec, and end with its exit code."""
    code = 1
    try:
        os.setsid()
        signal.alarm(asked["patience"])
        os.chdir(asked["cwd"])
        os.environ.clear()
        os.environ.update(asked["environment"])
        nothing = os.open(os.devnull, os.O_RDWR)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(Path(asked["folder"], name), os.O_WRONLY | os.O_CREAT), number)
        os.dup2(nothing, 0)
        sys.stdin = os.fdopen(0)
        faulty.run(asked["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    finally:
        Path(asked["folder"], "modules").write_text("\n".join(sys.modules.keys() - {"__main__"}))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
