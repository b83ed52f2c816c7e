"""A candidate beside the release that serves, on a cluster: a :class:`mlspec.rollouts` trial.

The candidate is a Deployment and a Service of its own; the gateway's route says which share of the
requests it gets. Metrics are read in the pods themselves, which no NetworkPolicy is in the way of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from mlspec.compilers.containerfile import PYTHON
from mlspec.errors import MlspecError
from mlspec.providers.inside import METRICS_CODE, METRICS_SECONDS
from mlspec.providers.kubernetes.kubectl import Kubectl, Refused
from mlspec.rollouts.counts import Counts, parse_counts
from mlspec.rollouts.driver import Reading, Told


@dataclass(slots=True)
class KubernetesTrial:
    """`stable` and `candidate` find the pods of both, whose container is `container`; `give`,
    `take` and `leave` are the target's."""

    kubectl: Kubectl
    stable: str
    candidate: str
    container: str
    give: Callable[[float], None]
    take: Callable[[], None]
    leave: Callable[[], None]
    _told: Told = field(default_factory=Told)

    def weigh(self, share: float) -> None:
        self.give(share)

    def read(self) -> Reading:
        self._told.take(self._counts(self.stable), self._counts(self.candidate))
        return Reading(self._told.champion, self._told.candidate, self._trouble())

    def promote(self) -> None:
        self.take()

    def abort(self) -> None:
        self.leave()

    def _counts(self, pods: str) -> Counts | None:
        """What these pods have counted together; nothing if none of them says."""
        texts = list(self._texts(pods))
        return parse_counts("\n".join(texts)) if texts else None

    def _texts(self, pods: str) -> Iterator[str]:
        for each in self.kubectl.get("pods", f"--selector={pods}"):
            pod, container = str(each["metadata"]["name"]), f"--container={self.container}"
            with suppress(Refused):
                call = ("exec", pod, container, "--", PYTHON, "-c", METRICS_CODE)
                yield self.kubectl.run(*call, seconds=METRICS_SECONDS)

    def _trouble(self) -> str:
        pods = self.kubectl.get("pods", f"--selector={self.candidate}")
        states = [
            state for pod in pods for state in pod.get("status", {}).get("containerStatuses") or ()
        ]
        if restarts := sum(int(state.get("restartCount") or 0) for state in states):
            return f"its pods began anew {restarts} times"
        return self._told.trouble


def needs_gateway(where: str) -> MlspecError:
    """Without a gateway nobody can give a share of the requests."""
    return MlspecError(
        f"{where}: a canary needs a gateway, which gives it its share of the requests",
        hint="add `gateway: {name: ..., host: ...}` to the target, or use the strategy blue-green",
    )
