"""Looks at two releases in containers: what both count, and whether the candidate runs.

What both count is read from the metrics of each container, from its inside.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from mlspec.compilers.compose import SLOT
from mlspec.compilers.containerfile import PYTHON
from mlspec.providers.compose.compare import is_running, restarts_of
from mlspec.providers.compose.engine import Engine, Refused
from mlspec.providers.inside import METRICS_CODE, METRICS_SECONDS
from mlspec.providers.slots import Look
from mlspec.rollouts.counts import Counts, parse_counts


@dataclass(frozen=True, slots=True)
class Looker:
    """`labels` find the containers of the deployment; `slots` are those of champion and
    candidate."""

    engine: Engine
    labels: Mapping[str, str]
    slots: tuple[str, str]

    def look(self) -> Look:
        found = self.engine.containers(self.labels)
        champion, candidate = (_of(slot, found) for slot in self.slots)
        before, after = (read_counts(self.engine, each) for each in (champion, candidate))
        return Look(before, after, _trouble(candidate))


def read_counts(engine: Engine, containers: Iterable[Mapping[str, Any]]) -> Counts | None:
    """What containers have counted together; nothing if none of them says."""
    texts: list[str] = []
    for each in containers:
        call = ("exec", str(each["Id"]), PYTHON, "-c", METRICS_CODE)
        with suppress(Refused):
            texts.append(engine.run(*call, seconds=METRICS_SECONDS))
    return parse_counts("\n".join(texts)) if texts else None


def _trouble(candidate: list[Mapping[str, Any]]) -> str:
    if restarts := sum(map(restarts_of, candidate)):
        return f"its containers began anew {restarts} times"
    if not all(map(is_running, candidate)) or not candidate:
        return "its containers do not run"
    return ""


def _of(slot: str, containers: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    return [each for each in containers if each["Config"]["Labels"].get(SLOT) == slot]
