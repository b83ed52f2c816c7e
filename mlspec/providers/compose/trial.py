"""A candidate beside the release that serves, in containers: a :class:`mlspec.rollouts` trial.

HAProxy's weights say which share of the requests it gets. What both count is read from the metrics
of each container, from its inside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mlspec.compilers.compose import SLOT
from mlspec.compilers.containerfile import PYTHON
from mlspec.providers.compose.compare import is_running, restarts_of
from mlspec.providers.compose.engine import Engine, Refused
from mlspec.providers.inside import METRICS_CODE, METRICS_SECONDS
from mlspec.rollouts.counts import Counts, parse_counts
from mlspec.rollouts.driver import Reading, Told


@dataclass(slots=True)
class ComposeTrial:
    """`labels` find the containers of the deployment; `slots` are those of champion and candidate.
    `give`, `take` and `leave` are the target's ways to weigh, promote and abort."""

    engine: Engine
    labels: Mapping[str, str]
    slots: tuple[str, str]
    give: Callable[[float], None]
    take: Callable[[], None]
    leave: Callable[[], None]
    _told: Told = field(default_factory=Told)

    def weigh(self, share: float) -> None:
        self.give(share)

    def read(self) -> Reading:
        found = self.engine.containers(self.labels)
        champion, candidate = (_of(slot, found) for slot in self.slots)
        self._told.take(self._counts(champion), self._counts(candidate))
        return Reading(self._told.champion, self._told.candidate, self._trouble(candidate))

    def promote(self) -> None:
        self.take()

    def abort(self) -> None:
        self.leave()

    def _counts(self, containers: list[Mapping[str, Any]]) -> Counts | None:
        """What containers have counted together; nothing if none of them says."""
        texts: list[str] = []
        for each in containers:
            call = ("exec", str(each["Id"]), PYTHON, "-c", METRICS_CODE)
            with suppress(Refused):
                texts.append(self.engine.run(*call, seconds=METRICS_SECONDS))
        return parse_counts("\n".join(texts)) if texts else None

    def _trouble(self, candidate: list[Mapping[str, Any]]) -> str:
        if restarts := sum(map(restarts_of, candidate)):
            return f"its containers began anew {restarts} times"
        if not all(map(is_running, candidate)) or not candidate:
            return "its containers do not run"
        return self._told.trouble


def _of(slot: str, containers: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    return [each for each in containers if each["Config"]["Labels"].get(SLOT) == slot]
