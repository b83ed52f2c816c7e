"""The folder of one running deployment, `.mlspec/run/<deployment>@<target>/`: names and state file.

::

    lock              held by the supervisor as long as it lives
    state.json        what it runs, replaced whole at every change
    control.sock      where it takes commands (elsewhere if the path is too long for a socket)
    door.sock         where it answers, if it has no port (likewise)
    supervisor.log    its own log
    logs/<release>.log  what the workers of a release wrote
    capture/          predictions, as lines of JSON, if the spec asks for them
    own.token         lets mlspec itself in, if clients need a token; made by the service
    capture.token     with it a request, such as one of a measurement, is not captured
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlspec.held import is_held

RUNS = ".mlspec/run"
LOCK = "lock"
STATE = "state.json"
CONTROL = "control.sock"
DOOR = "door.sock"
SUPERVISOR_LOG = "supervisor.log"
LOGS = "logs"
CAPTURE = "capture"
CAPTURE_TOKEN = "capture.token"
METRICS = "metrics"
OWN_TOKEN = "own.token"
MAX_SOCKET_PATH = 100
"""A Unix socket's path has 108 bytes on Linux and 104 on macOS, with its closing zero."""


def run_folder(root: Path, deployment: str, target: str) -> Path:
    """Where a deployment has its folder, whether it is there or not."""
    return root.resolve() / RUNS / f"{deployment}@{target}"


def list_runs(root: Path) -> Iterator[Path]:
    """The folders of all deployments of this checkout."""
    yield from sorted((root.resolve() / RUNS).glob("?*@?*"))


def socket_folder(run_dir: Path) -> Path:
    """The run folder, or one with a short name that belongs to this user alone."""
    if _holds_sockets(run_dir):
        return run_dir
    # A supervisor, for whose start a deploy waits, does without them as a rule.
    import hashlib
    import tempfile

    name = f"mlspec-{os.getuid()}-{hashlib.sha256(os.fsencode(run_dir)).hexdigest()[:12]}"
    folder = Path(tempfile.gettempdir()) / name
    if not _holds_sockets(folder):  # TMPDIR may be long, too
        folder = Path("/tmp") / name
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o077 or folder.is_symlink():
        raise PermissionError(f"{folder} can be written by others")
    return folder


def _holds_sockets(folder: Path) -> bool:
    return len(os.fsencode(folder / "private-00000.sock")) <= MAX_SOCKET_PATH


def make_token(run_dir: Path) -> Path:
    """The file of a token that only who may read the run folder knows; made if it is not there."""
    path = run_dir / CAPTURE_TOKEN
    if not path.exists():
        draft = path.with_suffix(f".{os.getpid()}")
        with os.fdopen(os.open(draft, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(os.urandom(16).hex())
        draft.replace(path)
    return path


def log_path(run_dir: Path, release: str) -> Path:
    """The log of a release's workers."""
    return run_dir / LOGS / f"{release[:12]}.log"


def own_headers(run_dir: Path) -> dict[str, str]:
    """What a request says that is mlspec's own, to be let in; nothing where anyone is."""
    try:
        token = (run_dir / OWN_TOKEN).read_text(encoding="ascii").strip()
    except OSError:
        return {}
    return {"authorization": f"Bearer {token}"}


def load_state(run_dir: Path) -> dict[str, Any] | None:
    """What the supervisor last wrote; nothing if there is no such file."""
    try:
        state: dict[str, Any] = json.loads((run_dir / STATE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return state


def write_state(run_dir: Path, state: Mapping[str, Any]) -> None:
    """Replace the state file; a reader sees the old one or the new one."""
    draft = run_dir / f"{STATE}.new"
    draft.write_text(json.dumps(state), encoding="utf-8")
    draft.replace(run_dir / STATE)


def is_alive(run_dir: Path) -> bool:
    """Whether a supervisor holds the lock."""
    return is_held(run_dir / LOCK)
