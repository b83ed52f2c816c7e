"""What of a container is not as mlspec had it made: a service and what `inspect` tells in,
differences out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlspec.providers.compose.engine import plain_id

Difference = tuple[str, Any, Any]
"""A field; what was deployed, and what is there instead (`None`: nothing)."""


def compare_container(
    name: str, service: Mapping[str, Any], image_id: str, live: Mapping[str, Any] | None
) -> Iterator[Difference]:
    """What differs, field by field; `image_id` is that of the service's image, if it is known."""
    if live is None:
        yield name, "container", None
        return
    wanted, seen = _wanted(service), _seen(live)
    if image_id:
        wanted["image"] = image_id[:12]
    for key, value in wanted.items():
        if seen[key] != value:
            yield f"{name}.{key}", value, seen[key]


def compare_networks(document: Mapping[str, Any], live: Mapping[str, Any]) -> Iterator[Difference]:
    """Whether HAProxy of a challenger is where its champion finds it; the compose file says where.

    What `inspect` tells of its container has the networks in which it is.
    """
    if champion := document["networks"].get("champion"):
        joined = (live.get("NetworkSettings") or {}).get("Networks") or {}
        if champion["name"] not in joined:
            yield "proxy.network", champion["name"], None


def is_running(live: Mapping[str, Any]) -> bool:
    """Whether a container runs."""
    return bool(live.get("State", {}).get("Running"))


def restarts_of(live: Mapping[str, Any]) -> int:
    """How often a container began anew."""
    return int(live.get("RestartCount") or 0)


def _wanted(service: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "cpus": float(service.get("cpus") or 0),
        "environment": dict(service.get("environment") or {}),
        "memory": int(service.get("mem_limit") or 0),
        "ports": sorted(service.get("ports") or ()),
        "read_only": bool(service.get("read_only")),
        "user": service["user"],
    }


def _seen(live: Mapping[str, Any]) -> dict[str, Any]:
    config, host = live.get("Config") or {}, live.get("HostConfig") or {}
    environment = dict(each.partition("=")[::2] for each in config.get("Env") or ())
    return {
        "image": plain_id(str(live.get("Image")))[:12],
        "cpus": _cpus(host),
        "environment": {
            key: value for key, value in environment.items() if key.startswith("MLSPEC_")
        },
        "memory": int(host.get("Memory") or 0),
        "ports": sorted(_ports(host.get("PortBindings") or {})),
        "read_only": bool(host.get("ReadonlyRootfs")),
        "user": config.get("User"),
    }


def _cpus(host: Mapping[str, Any]) -> float:
    if nano := host.get("NanoCpus"):
        return round(float(nano) / 1e9, 4)
    quota, period = host.get("CpuQuota") or 0, host.get("CpuPeriod") or 100_000
    return round(float(quota) / float(period), 4) if quota > 0 else 0.0


def _ports(bindings: Mapping[str, Any]) -> Iterator[str]:
    for inner, places in bindings.items():
        for place in places or ():
            yield f"{place.get('HostIp', '')}:{place['HostPort']}:{inner.partition('/')[0]}"
