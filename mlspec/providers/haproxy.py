"""HAProxy in front of two slots, while it runs: the weights that it is told, and what it tells.

How a command reaches it is the target's: over the network of its container, or over a connection
to its host.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mlspec.compilers.haproxy import SLOTS, WHOLE
from mlspec.errors import MlspecError

STATE = "show servers state releases"
RUNNING = "2"
"""Among the states of a server: its checks are answered."""
STATISTICS = "show stat releases -1 -1"


@dataclass(frozen=True, slots=True)
class Seen:
    """What HAProxy has of a slot: the names of servers that answer, requests that are not answered
    yet, and the weight of each of its servers."""

    up: frozenset[str]
    asked: int
    weight: int


@dataclass(frozen=True, slots=True)
class Proxy:
    """`ask` gives the answer to each of some commands; `servers` are the places in each slot."""

    ask: Callable[[Sequence[str]], list[str]]
    where: str
    servers: int

    def look(self) -> Mapping[str, Seen]:
        """What it has of each slot."""
        state, statistics = self.ask([STATE, STATISTICS])
        return {slot: _seen(slot, state, statistics) for slot in SLOTS}

    def admit(self, servers: Iterable[str]) -> None:
        """Have it check servers, and ask them, that it began with as shut."""
        self.ask([";".join(f"set server releases/{name} state ready" for name in sorted(servers))])

    def weigh(self, shares: Mapping[str, float], copies: Mapping[str, int]) -> None:
        """Give each slot its share of requests; `copies` are how many servers answer in each."""
        [answer] = self.ask([self.command(shares, copies)])
        if answer.strip():
            said = answer.strip().splitlines()[0]
            raise MlspecError(f"{self.where}: HAProxy does not take a weight: {said}")

    def command(self, shares: Mapping[str, float], copies: Mapping[str, int]) -> str:
        """What tells it to do that."""
        return ";".join(
            f"set server releases/{slot}{number} weight {weight}"
            for slot, weight in weights(shares, copies).items()
            for number in range(1, self.servers + 1)
        )


def weights(shares: Mapping[str, float], copies: Mapping[str, int]) -> dict[str, int]:
    """What each server of a slot weighs so that the slot gets its share, up to `WHOLE`."""
    each = {slot: share / max(1, copies.get(slot, 1)) for slot, share in shares.items()}
    most = max(each.values())
    return {
        slot: max(1, round(WHOLE * part / most)) if part > 0 else 0 for slot, part in each.items()
    }


def _seen(slot: str, state: str, statistics: str) -> Seen:
    up, weight = set(), 0
    for line in state.splitlines():
        # be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight ...
        words = line.split()
        if len(words) > 7 and _is_of(slot, words[3]):
            weight = max(weight, int(words[7]))
            if words[5] == RUNNING:
                up.add(words[3])
    lines = [line.split(",") for line in statistics.splitlines() if line.strip()]
    head, *rows = lines or [[]]  # one that is just ending says nothing
    names = [name.removeprefix("# ") for name in head]
    found = (dict(zip(names, row, strict=False)) for row in rows)
    asked = sum(int(each["scur"] or 0) for each in found if _is_of(slot, each.get("svname", "")))
    return Seen(frozenset(up), asked, weight)


def _is_of(slot: str, server: str) -> bool:
    return server.startswith(slot) and server.removeprefix(slot).isdecimal()
