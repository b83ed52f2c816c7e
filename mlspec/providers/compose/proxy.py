"""HAProxy in its container, while it runs: how it is told something.

Its admin socket is on the loopback of its own container, where no client and no other user is. A
container that shares that network for a moment, of the service's image, carries commands there.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from mlspec.compilers.compose import ADMIN_PORT
from mlspec.compilers.containerfile import PYTHON
from mlspec.providers.compose.engine import Engine

CODE = f"""
import json, socket, sys
answers = []
for command in json.load(sys.stdin):
    with socket.create_connection(("127.0.0.1", {ADMIN_PORT}), 10) as line:
        line.sendall(command.encode() + b"\\n")
        answers.append(b"".join(iter(lambda: line.recv(65536), b"")).decode())
print(json.dumps(answers))
"""


def ask(engine: Engine, name: str, image: str, commands: Sequence[str]) -> list[str]:
    """What the container `name` answers to each command; `image` is one with Python."""
    told = engine.run(
        "run",
        "--rm",
        "--interactive",
        f"--network=container:{name}",
        "--read-only",
        "--cap-drop=ALL",
        "--security-opt=no-new-privileges",
        f"--entrypoint={PYTHON}",
        image,
        "-c",
        CODE,
        stdin=json.dumps(list(commands)),
    )
    return [str(each) for each in json.loads(told)]
