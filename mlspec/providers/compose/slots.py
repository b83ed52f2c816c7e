"""A release in its slot: it comes up and is asked, HAProxy finds it, it answers its last and ends.

Words that say why something is not good, or none, come from what is only tried.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from mlspec.compilers.compose import CHALLENGER, CHAMPION, IMAGE, PREPARE, PROXY, copies_of
from mlspec.compilers.containerfile import PYTHON
from mlspec.compilers.haproxy import DRAIN_SECONDS, GRACE_SECONDS
from mlspec.errors import MlspecError
from mlspec.providers.compose.compare import (
    compare_container,
    compare_networks,
    is_running,
    restarts_of,
)
from mlspec.providers.compose.engine import Refused
from mlspec.providers.compose.site import Kept, Site, label_of, part_of
from mlspec.providers.inside import (
    READY_CODE,
    SMOKE_CODE,
    SMOKE_SECONDS,
    judge_smoke,
    smoke_input,
)
from mlspec.providers.slots import NotUp, share_out

LOOK_SECONDS = 0.5
UP_SECONDS = 30.0
"""Until HAProxy has found containers that are ready."""
LAST_WORDS_TRIES = 5


def bring_up(
    site: Site, kept: Kept, smoke: Sequence[Mapping[str, Any]], ready_seconds: float
) -> str | None:
    """Run the release's containers, wait, and ask them; why they are not good, or nothing."""
    document = site.document(kept)
    site.prepare(document)
    site.engine.complete(document, PREPARE, site.folder)
    names = [name for name in document["services"] if name.startswith(kept.slot)]
    for name in names:
        site.engine.create(document, name, site.folder)
    containers = [site.container(name) for name in names]
    return _await_ready(site, containers, ready_seconds) or _ask(site, containers, smoke)


def run_kept(site: Site, kept: Kept, ready_seconds: float) -> None:
    """Have what was taken into service last run, made anew."""
    site.engine.remove(site.live())
    failed = bring_up(site, kept, (), ready_seconds)
    if failed:
        raise MlspecError(f"{site.address} did not start: {failed}")
    ensure_proxy(site, kept, None)
    try:
        await_up(site, kept)
    except NotUp as late:
        raise MlspecError(f"{site.address}: {late}") from None


def ensure_proxy(site: Site, wanted: Kept, serving: Kept | None) -> None:
    """Have HAProxy run as the release wants it, with all requests for what serves.

    One that is as wanted stays. Another one is replaced, which takes a moment: the port is another
    one, or the image has another name.
    """
    document = site.document(wanted)
    name = site.container(PROXY)
    service: Mapping[str, Any] = document["services"][PROXY]
    live = site.live().get(name)
    if live is not None:
        same = label_of(live, IMAGE) == service["image"]
        changed = [*compare_container(name, service, "", live), *compare_networks(document, live)]
        if is_running(live) and same and not changed:
            return
        site.engine.stop([name], GRACE_SECONDS)
        site.engine.remove([name])
    site.configure(wanted, serving or wanted)
    try:
        site.engine.create(document, PROXY, site.folder)
        if champion := document["networks"].get(CHAMPION):
            site.engine.join(name, str(champion["name"]), CHALLENGER)
    except Refused:
        site.engine.remove([name])  # it was made and could not start
        raise


def await_up(site: Site, kept: Kept) -> None:
    """Wait until HAProxy reaches each container of the release, and nothing else, in its slot."""
    wanted = {f"{kept.slot}{number}" for number in range(1, copies_of(kept.settings) + 1)}
    deadline = time.monotonic() + UP_SECONDS
    while True:
        with suppress(Refused):  # it is just starting
            site.proxy.admit(wanted)
            if site.proxy.look()[kept.slot].up == wanted:
                return
        if time.monotonic() > deadline:
            tail = site.tail(site.container(PROXY))
            raise NotUp(f"HAProxy does not reach it within {UP_SECONDS:.0f} s\n{tail}".rstrip())
        time.sleep(LOOK_SECONDS)


def take(site: Site, kept: Kept, before: Kept | None) -> None:
    """All requests for the release; what served before ends when it has answered its own."""
    ensure_proxy(site, kept, before)
    await_up(site, kept)
    weigh(site, kept, before, 1.0)
    site.settle(kept)
    if before is not None:
        drain(site, before)


def leave(site: Site, kept: Kept, before: Kept | None) -> None:
    """All requests for what served before; if nothing did, nothing is left."""
    if before is None:
        site.remove_all()
        return
    with suppress(Refused):  # it may be what is wrong
        weigh(site, kept, before, 0.0)
    # that of another port, or none, if the release was to have another one
    ensure_proxy(site, before, None)
    drain(site, kept)


def weigh(site: Site, kept: Kept, before: Kept | None, share: float) -> None:
    """A share of the requests for the release, the others for what serves."""
    copies = {each.slot: copies_of(each.settings) for each in (kept, before) if each}
    site.proxy.weigh(share_out(kept.slot, share), copies)


def drain(site: Site, kept: Kept) -> None:
    """Wait until a slot that gets no requests has answered its last ones, and end it."""
    deadline = time.monotonic() + DRAIN_SECONDS
    with suppress(Refused):  # what nobody can ask has no requests
        while site.proxy.look()[kept.slot].asked and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    site.remove_slot(kept.slot)


def clear(site: Site, before: Kept | None) -> None:
    """Have only what is settled: all requests for what serves, and nothing in a free slot."""
    live = site.live()
    stays = {PROXY, before.slot} if before else set()
    proxy = live.get(site.container(PROXY))
    left = [name for name, each in live.items() if part_of(each) not in stays]
    if before is not None and left and proxy is not None and is_running(proxy):
        with suppress(Refused):  # nothing runs that could be asked for an answer, either
            site.proxy.weigh(share_out(before.slot, 1.0), {})
    if before is not None:
        site.configure(before, before)  # one that was killed may have settled half
    site.engine.remove(left)


def _await_ready(site: Site, names: Sequence[str], seconds: float) -> str | None:
    deadline = time.monotonic() + seconds
    waiting = list(names)
    while waiting:
        live = site.live()
        for name in names:
            container = live.get(name)
            if container is None or restarts_of(container) or not is_running(container):
                return f"its container ended by itself\n{_last_words(site, name)}".rstrip()
        waiting = [name for name in waiting if not _is_ready(site, name)]
        if waiting and time.monotonic() > deadline:
            late = f"it was not ready within {seconds:.0f} s"
            return f"{late}\n{site.tail(waiting[0])}".rstrip()
        if waiting:
            time.sleep(LOOK_SECONDS)
    return None


def _last_words(site: Site, name: str) -> str:
    """What a container says that begins anew again and again, and its log with it."""
    for _ in range(LAST_WORDS_TRIES):
        if said := site.tail(name):
            return said
        time.sleep(LOOK_SECONDS)
    return ""


def _is_ready(site: Site, name: str) -> bool:
    with suppress(Refused):
        site.engine.run("exec", name, PYTHON, "-c", READY_CODE)
        return True
    return False


def _ask(site: Site, names: Sequence[str], smoke: Sequence[Mapping[str, Any]]) -> str | None:
    for name in names if smoke else ():
        call = ("exec", "--interactive", name, PYTHON, "-c", SMOKE_CODE)
        try:
            told = site.engine.run(*call, stdin=smoke_input(smoke), seconds=SMOKE_SECONDS)
        except Refused as refused:
            return f"{refused.said}\n{site.tail(name)}".rstrip()
        if failed := judge_smoke(told, len(smoke)):
            return failed
    return None
