"""What serves in containers, and what differs from what was deployed; nothing runs for that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Literal

from mlspec.compilers.compose import CHALLENGER, PREPARE, PROXY, copies_of
from mlspec.compilers.containerfile import PORT
from mlspec.providers.compose.compare import (
    Difference,
    compare_container,
    compare_networks,
    is_running,
    restarts_of,
)
from mlspec.providers.compose.engine import Refused
from mlspec.providers.compose.site import Container, Kept, Site, part_of
from mlspec.providers.target import Running


def observe_site(site: Site) -> Running | None:
    """What was taken into service last, as it is now; nothing if nothing was."""
    kept = site.kept()
    if kept is None:
        return None
    live = site.live()
    own = [each for each in live.values() if part_of(each) == kept.slot]
    ready = sum(map(is_running, own))
    proxied = any(part_of(each) == PROXY and is_running(each) for each in live.values())
    status: Literal["serving", "stopped", "down"] = (
        "stopped" if kept.status == "stopped" else "serving" if ready and proxied else "down"
    )
    listen, port = str(kept.settings["compose"]["listen"]), kept.settings["port"]
    scheme = "https" if kept.settings["compose"].get("tls") else "http"
    url = f"{scheme}://{'127.0.0.1' if listen == '0.0.0.0' else listen}:{port}"
    if kept.settings.get("challenges"):
        url = f"{CHALLENGER}:{PORT} in the network of its champion"
    return Running(
        status=status,
        release=kept.release,
        model=kept.model,
        version=kept.version,
        url=url,
        since=kept.since,
        workers=copies_of(kept.settings),
        ready=ready,
        restarts=sum(map(restarts_of, own)),
        differs=tuple(_differences(site, kept, live)),
        image=kept.image,
    )


def _differences(site: Site, kept: Kept, live: Mapping[str, Container]) -> Iterator[Difference]:
    if kept.status == "stopped":
        return
    document = site.document(kept)
    services: Mapping[str, Any] = document["services"]
    expected = {
        str(each["container_name"]): (name, each)
        for name, each in services.items()
        if name != PREPARE
    }
    for full, (name, service) in expected.items():
        container = live.get(full)
        image_id = "" if name == PROXY else kept.image_id
        yield from compare_container(name, service, image_id, container)
        if container is not None and not is_running(container):
            yield f"{name}.running", True, False
    more = sorted(live.keys() - expected.keys())
    for name in more:
        yield name.removeprefix(f"{site.stack}-"), None, "container"
    proxy = live.get(site.container(PROXY))
    if proxy is None or not is_running(proxy):
        return
    yield from compare_networks(document, proxy)
    if more:  # weights are as they were settled unless a command ended before it had cleared up
        yield from _weights(site, kept)


def _weights(site: Site, kept: Kept) -> Iterator[Difference]:
    with suppress(Refused):
        for slot, seen in site.proxy.look().items():
            if bool(seen.weight) != (slot == kept.slot):
                was = "requests" if slot == kept.slot else "no requests"
                yield f"{PROXY}.{slot}", was, f"weight {seen.weight}"
