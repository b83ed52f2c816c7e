"""HAProxy in its container, while it runs: what it is told and what it tells.

Its admin socket is on the loopback of its own container, where no client and no other user is. A
container that shares that network for a moment, of the service's image, carries commands there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlspec.compilers.compose import ADMIN_PORT, SERVERS, SLOTS
from mlspec.compilers.containerfile import PYTHON
from mlspec.compilers.haproxy import WHOLE
from mlspec.errors import MlspecError
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
STATE = "show servers state releases"
RUNNING = "2"
"""Among the states of a server: its checks are answered."""
STATISTICS = "show stat releases -1 -1"


@dataclass(frozen=True, slots=True)
class Seen:
    """What HAProxy has of a slot: the addresses that answer, requests that are not answered yet,
    and the weight of each of its containers."""

    addresses: frozenset[str]
    asked: int
    weight: int


@dataclass(frozen=True, slots=True)
class Proxy:
    """The container `name`; `image` is one with Python."""

    engine: Engine
    name: str
    image: str

    def look(self) -> Mapping[str, Seen]:
        """What it has of each slot."""
        state, statistics = self._ask([STATE, STATISTICS])
        return {slot: _seen(slot, state, statistics) for slot in SLOTS}

    def weigh(self, shares: Mapping[str, float], copies: Mapping[str, int]) -> None:
        """Give each slot its share of requests; `copies` are how many containers each has."""
        commands = [
            f"set server releases/{slot}{number} weight {weight}"
            for slot, weight in weights(shares, copies).items()
            for number in range(1, SERVERS + 1)
        ]
        [answer] = self._ask([";".join(commands)])
        if answer.strip():
            said = answer.strip().splitlines()[0]
            raise MlspecError(f"{self.engine.where}: HAProxy does not take a weight: {said}")

    def _ask(self, commands: Sequence[str]) -> list[str]:
        told = self.engine.run(
            "run",
            "--rm",
            "--interactive",
            f"--network=container:{self.name}",
            "--read-only",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            f"--entrypoint={PYTHON}",
            self.image,
            "-c",
            CODE,
            stdin=json.dumps(list(commands)),
        )
        return [str(each) for each in json.loads(told)]


def weights(shares: Mapping[str, float], copies: Mapping[str, int]) -> dict[str, int]:
    """What each container of a slot weighs so that the slot gets its share, up to `WHOLE`."""
    each = {slot: share / max(1, copies.get(slot, 1)) for slot, share in shares.items()}
    most = max(each.values())
    return {
        slot: max(1, round(WHOLE * part / most)) if part > 0 else 0 for slot, part in each.items()
    }


def _seen(slot: str, state: str, statistics: str) -> Seen:
    addresses, weight = set(), 0
    for line in state.splitlines():
        # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight ...
        words = line.split()
        if len(words) > 7 and _is_of(slot, words[3]):
            weight = max(weight, int(words[7]))
            if words[5] == RUNNING:
                addresses.add(words[4])
    head, *rows = [line.split(",") for line in statistics.splitlines() if line.strip()]
    names = [name.removeprefix("# ") for name in head]
    found = (dict(zip(names, row, strict=False)) for row in rows)
    asked = sum(int(each["scur"] or 0) for each in found if _is_of(slot, each.get("svname", "")))
    return Seen(frozenset(addresses), asked, weight)


def _is_of(slot: str, server: str) -> bool:
    return server.startswith(slot) and server.removeprefix(slot).isdecimal()
