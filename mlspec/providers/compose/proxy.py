"""HAProxy in its container, while it runs: how it is told something.

Its admin socket is on the volume where the service's containers listen, too, and only its own user
may ask it. A process of that user, in a container of the service, carries commands there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlspec.compilers.compose import ADMIN, PROXY_USER
from mlspec.compilers.containerfile import PYTHON
from mlspec.providers.compose.engine import Engine

CODE = f"""
import json, socket, sys
answers = []
for command in json.load(sys.stdin):
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(10)
        line.connect({ADMIN!r})
        line.sendall(command.encode() + b"\\n")
        answers.append(b"".join(iter(lambda: line.recv(65536), b"")).decode())
print(json.dumps(answers))
"""


def ask(engine: Engine, through: str, commands: Sequence[str]) -> list[str]:
    """What HAProxy answers to each command, asked in the container `through` of the service."""
    user = f"--user={PROXY_USER}:{PROXY_USER}"
    call = ("exec", "--interactive", user, through, PYTHON, "-c", CODE)
    return [str(each) for each in json.loads(engine.run(*call, stdin=json.dumps(list(commands))))]
