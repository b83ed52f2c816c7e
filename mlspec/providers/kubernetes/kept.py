"""What is kept of a deployment in its namespace, and what the cluster shows of it: objects in,
plain data out.

What was last applied and found good is in a ConfigMap `mlspec-<deployment>`, beside what it is of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from mlspec.compilers import kserve
from mlspec.compilers.kubernetes import MANAGER, RELEASE, Object
from mlspec.plan import canonical_json
from mlspec.providers.target import Running

DATA = "record.json"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept in the namespace of what was applied last."""

    release: str
    model: str
    version: int
    status: str
    token: int
    image: str
    settings: Mapping[str, Any]
    objects: Sequence[Object]

    @property
    def expected(self) -> Sequence[Object]:
        """What should be there: as applied, but without pods if it was stopped."""
        if self.status != "stopped":
            return self.objects
        return [_stopped(each) for each in self.objects]


def _stopped(item: Object) -> Object:
    match item["kind"]:
        case "Deployment":
            return {**item, "spec": {**item["spec"], "replicas": 0}}
        case kserve.KIND:
            return kserve.stopped(item)
        case _:
            return item


def record_name(deployment: str) -> str:
    """Of the ConfigMap."""
    return f"mlspec-{deployment}"


def make_record(deployment: str, namespace: str, labels: Mapping[str, str], kept: Kept) -> Object:
    """The ConfigMap of a deployment."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": record_name(deployment),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": MANAGER, **labels},
            "annotations": {RELEASE: kept.release},
        },
        "data": {DATA: canonical_json(asdict(kept))},
    }


def load_kept(live: Sequence[Mapping[str, Any]]) -> Kept | None:
    """What the ConfigMap among these objects says; nothing if nobody can read it."""
    for each in live:
        if each.get("kind") == "ConfigMap":
            with suppress(ValueError, KeyError, TypeError):
                return Kept(**json.loads(each["data"][DATA]))
    return None


def describe_running(
    url: str,
    kept: Kept | None,
    main: Mapping[str, Any] | None,
    live: Sequence[Mapping[str, Any]],
    differs: tuple[tuple[str, Any, Any], ...],
    *,
    workers: int,
    ready: int,
) -> Running:
    """What runs, by what is kept of it, the object that makes its pods and all that is there."""
    pods = [each for each in live if each.get("kind") == "Pod"]
    restarts = sum(
        int(container.get("restartCount") or 0)
        for pod in pods
        for container in pod.get("status", {}).get("containerStatuses") or ()
    )
    stopped = kept is not None and kept.status == "stopped"
    return Running(
        status="stopped" if stopped else "serving" if ready else "down",
        release=kept.release if kept else "",
        model=kept.model if kept else "",
        version=kept.version if kept else 0,
        url=url,
        since=str((main or {}).get("metadata", {}).get("creationTimestamp") or ""),
        workers=workers,
        ready=ready,
        restarts=restarts,
        differs=differs,
        image=kept.image if kept else "",
    )


def describe_trouble(pod: Mapping[str, Any]) -> list[str]:
    """Why a pod is not ready, in its own words."""
    name, status = pod.get("metadata", {}).get("name"), pod.get("status", {})
    lines = [
        f"{name}: {each.get('reason', '')}: {each.get('message', '')}"
        for each in status.get("conditions") or ()
        if each.get("status") == "False" and each.get("message")
    ]
    for container in status.get("containerStatuses") or ():
        lines += [
            f"{name}: {state['reason']}: {state.get('message', '')}".rstrip(": ")
            for state in (container.get("state") or {}).values()
            if state.get("reason")
        ]
    return lines
