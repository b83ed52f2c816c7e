"""Binds the port of a target; if it is in use, says by whom where the system tells.

What has no port, as the deployment of a challenger, answers on a Unix socket.
"""

from __future__ import annotations

import errno
import socket
from pathlib import Path

HOST = "127.0.0.1"


class PortTaken(Exception):
    """Another process has the port; the message names both."""


def bind_port(port: int) -> socket.socket:
    """A bound socket that does not listen yet: until it does, connections are refused."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((HOST, port))
    except OSError as error:
        bound.close()
        if error.errno != errno.EADDRINUSE:
            raise PortTaken(f"port {port} can not be used: {error.strerror}") from None
        holder = find_holder(port)
        raise PortTaken(f"port {port} is in use{f' by {holder}' if holder else ''}") from None
    return bound


def bind_door(path: Path) -> socket.socket:
    """A bound Unix socket that does not listen yet, for this user alone."""
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        bound.bind(str(path))
    except OSError as error:
        bound.close()
        raise PortTaken(f"{path} can not be used: {error.strerror}") from None
    path.chmod(0o600)
    return bound


def find_holder(port: int) -> str:
    """`process 4711 (python)` for who listens on a port, where Linux shows it; else nothing."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").glob("[0-9]*") if inodes else ():
        try:
            if any(str(file.readlink()) in inodes for file in (process / "fd").iterdir()):
                name = (process / "comm").read_text().strip()
                return f"process {process.name} ({name})"
        except OSError:
            continue
    return ""
