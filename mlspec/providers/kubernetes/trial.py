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
        counts = (
            read_counts(self.kubectl, each, self.container)
            for each in (self.stable, self.candidate)
        )
        self._told.take(*counts)
        return Reading(self._told.champion, self._told.candidate, self._trouble())

    def promote(self) -> None:
        self.take()

    def abort(self) -> None:
        self.leave()

    def _trouble(self) -> str:
        pods = self.kubectl.get("pods", f"--selector={self.candidate}")
        states = [
            state for pod in pods for state in pod.get("status", {}).get("containerStatuses") or ()
        ]
        if restarts := sum(int(state.get("restartCount") or 0) for state in states):
            return f"its pods began anew {restarts} times"
        return self._told.trouble


def read_counts(kubectl: Kubectl, pods: str, container: str) -> Counts | None:
    """What the pods of a selector have counted together; nothing if none of them says."""
    texts = list(_texts(kubectl, pods, container))
    return parse_counts("\n".join(texts)) if texts else None


def _texts(kubectl: Kubectl, pods: str, container: str) -> Iterator[str]:
    for each in kubectl.get("pods", f"--selector={pods}"):
        call = ("exec", str(each["metadata"]["name"]), f"--container={container}")
        with suppress(Refused):
            yield kubectl.run(*call, "--", PYTHON, "-c", METRICS_CODE, seconds=METRICS_SECONDS)


def needs_gateway(where: str) -> MlspecError:
    """Without a gateway nobody can give a share of the requests."""
    return MlspecError(
        f"{where}: a canary needs a gateway, which gives it its share of the requests",
        hint="add `gateway: {name: ..., host: ...}` to the target, or use the strategy blue-green",
    )
