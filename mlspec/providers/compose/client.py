"""What a command does with a deployment in containers of this machine.

A folder of its own holds what was last taken into service::

    .mlspec/compose/<deployment>@<target>/
        compose.yaml         the containers; what `docker compose up` would start, too
        proxy/haproxy.cfg    HAProxy's configuration, with the weights that are settled
        record.json          the release, its slot, and what it was made with

A new release comes up in the slot that is free and is asked there. HAProxy then gives it all
requests, the record is written, and the containers of the other slot end when they have answered
what they were asked. Whatever stands in a free slot is left of a command that was killed.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from mlspec.atomic import make_own_folder, write_atomic
from mlspec.compilers.compose import (
    CHALLENGER,
    CONFIG_FILE,
    CONFIG_FOLDER,
    FOLDER,
    PREPARE,
    PROXY,
    SERVERS,
    SLOT,
    TOKEN,
    Track,
    Workload,
    compile_compose,
    copies_of,
    render_compose,
    render_haproxy,
    rule_of,
    selector,
    stack_name,
)
from mlspec.compilers.containerfile import PORT, PYTHON
from mlspec.compilers.haproxy import DRAIN_SECONDS, GRACE_SECONDS
from mlspec.errors import MlspecError, RolledBack
from mlspec.plan import canonical_json
from mlspec.providers.compose.compare import (
    Difference,
    compare_container,
    compare_networks,
    is_running,
    restarts_of,
)
from mlspec.providers.compose.engine import Engine, Refused
from mlspec.providers.compose.proxy import ask
from mlspec.providers.compose.trial import Looker
from mlspec.providers.haproxy import Proxy
from mlspec.providers.images.build import image_of
from mlspec.providers.inside import SMOKE_CODE, SMOKE_SECONDS, judge_smoke, smoke_input
from mlspec.providers.secrets import find_secret
from mlspec.providers.slots import NotUp, SlotTrial, other_slot, share_out, trying
from mlspec.providers.target import Release, Running
from mlspec.spec.models import challenger_name

COMPOSE, RECORD = "compose.yaml", "record.json"
LOG_LINES = 2000
TROUBLE_LINES = 20
LOOK_SECONDS = 0.5
UP_SECONDS = 30.0
"""Until HAProxy has found containers that are ready."""
READY_CODE = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/readyz', timeout=4)"


@dataclass(frozen=True, slots=True)
class Kept:
    """What is in the record of what was taken into service last."""

    release: str
    model: str
    version: int
    status: str
    token: int
    slot: str
    image: str
    image_id: str
    since: str
    volume: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ComposeTarget:
    """A target of kind `compose`. `place` is what the spec says of it, and the project."""

    root: Path
    name: str
    port: int
    place: Mapping[str, Any]

    @property
    def engine(self) -> Engine:
        return Engine(self.place.get("engine"), f"target {self.name}")

    @property
    def ready_seconds(self) -> float:
        return float(self.place.get("ready") or 300.0)

    def folder(self, deployment: str) -> Path:
        return self.root / ".mlspec" / "compose" / f"{deployment}@{self.name}"

    def observe(self, deployment: str) -> Running | None:
        kept = self._kept(deployment)
        if kept is None:
            return None
        live = self._live(deployment)
        return self._running(kept, live, tuple(self._differences(deployment, kept, live)))

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None  # its files are in an image

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        with self._tried(deployment, release, smoke) as trial:
            trial.promote()
        return self._observed(deployment)

    @contextmanager
    def try_out(
        self,
        deployment: str,
        release: Release,
        smoke: Sequence[Mapping[str, Any]],
        *,
        splits: bool,  # noqa: ARG002 HAProxy is there in any case
    ) -> Iterator[SlotTrial]:
        if self._kept(deployment) is None:
            where = self._address(deployment)
            raise MlspecError(f"{where}: nothing serves there, beside which to try a release")
        with self._tried(deployment, release, smoke) as trial:
            yield trial

    def stop(self, deployment: str) -> None:
        kept = self._kept(deployment)
        if kept is None or kept.status == "stopped":
            return
        names = sorted(self._live(deployment), key=lambda name: not name.endswith(PROXY))
        self.engine.stop(names, GRACE_SECONDS)
        self._keep(deployment, replace(kept, status="stopped"))

    def start(self, deployment: str) -> Running:
        kept = self._kept(deployment)
        if kept is None:
            raise MlspecError(
                f"{self._address(deployment)} was never deployed here", hint="run `mlspec apply`"
            )
        self._run_kept(deployment, kept)
        self._keep(deployment, replace(kept, status="serving"))
        return self._observed(deployment)

    def rename(self, deployment: str, name: str) -> None:
        kept = self._kept(deployment)
        if kept is None or self._kept(name) is not None:
            return
        self._remove_all(deployment)
        self.folder(deployment).rename(self.folder(name))
        self._write(name, kept)
        if kept.status != "stopped":
            self._run_kept(name, kept)

    def destroy(self, deployment: str) -> None:
        kept = self._kept(deployment)
        if kept is None and not self.folder(deployment).exists():
            return
        self._remove_all(deployment)
        if kept is not None:
            self.engine.forget("volume", kept.volume)
        shutil.rmtree(self.folder(deployment), ignore_errors=True)

    def logs(self, deployment: str) -> tuple[Path, ...]:
        """What its containers said lately, fetched into files."""
        if self._kept(deployment) is None:
            return ()
        folder = make_own_folder(self.root, "logs", "containers", f"{deployment}@{self.name}")
        paths = []
        for name in sorted(self._live(deployment)):
            text = self.engine.run("logs", f"--tail={LOG_LINES}", name, errors=True)
            path = folder / f"{name}.log"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        return tuple(paths)

    @contextmanager
    def _tried(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Iterator[SlotTrial]:
        """A candidate in the free slot, that is ready and has answered. What served before has all
        requests when the block ends without a promotion."""
        before = self._kept(deployment)
        self._unless_later(deployment, release, before)
        # before anything changes: nothing may be built for an engine that is not there
        self.engine.run("version")
        if auth := release.settings.get("auth"):
            find_secret(auth["file"], self.root, self._address(deployment))
        program = Path(self.engine.program).name
        image = image_of(self.root, deployment, release, "compose", program)
        kept = Kept(
            release=release.digest,
            model=release.model,
            version=release.version,
            status="serving",
            token=release.token,
            slot=other_slot(before.slot if before else None),
            image=image,
            image_id=self.engine.image_id(image),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            volume=before.volume if before else f"{self._stack(deployment)}-captures",
            settings=dict(release.settings),
        )
        self._clear(deployment, before)
        where = self._address(deployment)
        not_taken = f"version {release.version} of {release.model} was not taken into service"
        failed = self._bring_up(deployment, kept, smoke)
        if failed:
            self._remove_slot(deployment, kept.slot)
            raise RolledBack(f"{where}: {not_taken}: {failed}")

        def prepare() -> None:
            if before is not None:
                self._ensure_proxy(deployment, kept, before)
                self._await_up(deployment, kept)

        slots = (before.slot if before else kept.slot, kept.slot)
        trial = SlotTrial(
            Looker(self.engine, self._labels(deployment), slots).look,
            give=lambda share: self._weigh(deployment, kept, before, share),
            take=lambda: self._take(deployment, kept, before),
            leave=lambda: self._leave(deployment, kept, before),
        )
        with trying(
            trial, prepare, lambda: self._kept(deployment) == kept, f"{where}: {not_taken}"
        ):
            yield trial

    def _unless_later(self, deployment: str, release: Release, before: Kept | None) -> None:
        """Raise if a later apply than this one was here, or one of another checkout."""
        where = self._address(deployment)
        containers = self._live(deployment).values()
        tokens = [int(_label(each, TOKEN) or 0) for each in containers]
        if max([before.token if before else 0, *tokens]) > release.token:
            raise MlspecError(
                f"{where}: a later apply deployed here meanwhile", hint="plan again and apply"
            )
        folder = str(self.folder(deployment))
        other = next((f for each in containers if (f := _label(each, FOLDER)) != folder), None)
        if other is not None:
            raise MlspecError(
                f"{where}: another checkout runs it on this machine, from {other}",
                hint="`mlspec destroy` there takes it away",
            )

    def _clear(self, deployment: str, before: Kept | None) -> None:
        """Have only what is settled: all requests for what serves, and nothing in a free slot."""
        live = self._live(deployment)
        stays = {PROXY, before.slot} if before else set()
        proxy = live.get(self._container(deployment, PROXY))
        left = [name for name, each in live.items() if _part(each) not in stays]
        if before is not None and left and proxy is not None and is_running(proxy):
            self._proxy(deployment, before).weigh(share_out(before.slot, 1.0), {})
        self.engine.remove(left)

    def _bring_up(
        self, deployment: str, kept: Kept, smoke: Sequence[Mapping[str, Any]]
    ) -> str | None:
        """Run the release's containers, wait, and ask them; why they are not good, or nothing."""
        document = self._document(deployment, kept)
        folder, volumes = self.folder(deployment), document.get("volumes") or {}
        network = str(document["networks"]["default"]["name"])
        make_own_folder(self.root, "compose", folder.name, CONFIG_FOLDER)
        self.engine.ensure_network(network, self._labels(deployment))
        services: Mapping[str, Any] = document["services"]
        if PREPARE in services:
            self.engine.complete(services[PREPARE], folder, volumes)
        copies = [each for name, each in services.items() if name.startswith(kept.slot)]
        for service in copies:
            self.engine.create(service, network, folder, volumes)
        names = [str(each["container_name"]) for each in copies]
        return self._await_ready(deployment, names) or self._ask(names, smoke)

    def _await_ready(self, deployment: str, names: Sequence[str]) -> str | None:
        deadline = time.monotonic() + self.ready_seconds
        waiting = list(names)
        while waiting:
            live = self._live(deployment)
            for name in names:
                container = live.get(name)
                if container is None or restarts_of(container) or not is_running(container):
                    return f"its container ended by itself\n{self._tail(name)}".rstrip()
            waiting = [name for name in waiting if not self._is_ready(name)]
            if waiting and time.monotonic() > deadline:
                late = f"it was not ready within {self.ready_seconds:.0f} s"
                return f"{late}\n{self._tail(waiting[0])}".rstrip()
            if waiting:
                time.sleep(LOOK_SECONDS)
        return None

    def _is_ready(self, name: str) -> bool:
        with suppress(Refused):
            self.engine.run("exec", name, PYTHON, "-c", READY_CODE)
            return True
        return False

    def _ask(self, names: Sequence[str], smoke: Sequence[Mapping[str, Any]]) -> str | None:
        for name in names if smoke else ():
            call = ("exec", "--interactive", name, PYTHON, "-c", SMOKE_CODE)
            try:
                told = self.engine.run(*call, stdin=smoke_input(smoke), seconds=SMOKE_SECONDS)
            except Refused as refused:
                return f"{refused.said}\n{self._tail(name)}".rstrip()
            if failed := judge_smoke(told, len(smoke)):
                return failed
        return None

    def _take(self, deployment: str, kept: Kept, before: Kept | None) -> None:
        """All requests for the release; what served before ends when it has answered its own."""
        self._ensure_proxy(deployment, kept, before)
        self._await_up(deployment, kept)
        self._weigh(deployment, kept, before, 1.0)
        self._write(deployment, kept)
        if before is not None:
            self._drain(deployment, before)

    def _leave(self, deployment: str, kept: Kept, before: Kept | None) -> None:
        """All requests for what served before; if nothing did, nothing is left."""
        if before is None:
            self._remove_all(deployment)
            return
        self._weigh(deployment, kept, before, 0.0)
        self._drain(deployment, kept)

    def _weigh(self, deployment: str, kept: Kept, before: Kept | None, share: float) -> None:
        copies = {each.slot: copies_of(each.settings) for each in (kept, before) if each}
        self._proxy(deployment, kept).weigh(share_out(kept.slot, share), copies)

    def _drain(self, deployment: str, kept: Kept) -> None:
        """Wait until a slot that gets no requests has answered its last ones, and end it."""
        deadline = time.monotonic() + DRAIN_SECONDS
        proxy = self._proxy(deployment, kept)
        while proxy.look()[kept.slot].asked and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
        self._remove_slot(deployment, kept.slot)

    def _remove_slot(self, deployment: str, slot: str) -> None:
        names = [name for name, each in self._live(deployment).items() if _part(each) == slot]
        self.engine.stop(names, GRACE_SECONDS)
        self.engine.remove(names)

    def _remove_all(self, deployment: str) -> None:
        live = self._live(deployment)
        beside = self._container(challenger_name(deployment), PROXY)
        with suppress(Refused):  # its challenger may be in its network
            self.engine.run("network", "disconnect", "--force", self._stack(deployment), beside)
        names = sorted(live, key=lambda name: not name.endswith(PROXY))
        self.engine.stop([name for name in names if is_running(live[name])], GRACE_SECONDS)
        self.engine.remove(names)
        self.engine.forget("network", self._stack(deployment))

    def _ensure_proxy(self, deployment: str, wanted: Kept, serving: Kept | None) -> None:
        """Have HAProxy run as the release wants it, with all requests for what serves.

        One that is as wanted stays. Another one is replaced, which takes a moment: the port is
        another one, or the image is.
        """
        document = self._document(deployment, wanted)
        name = self._container(deployment, PROXY)
        service: Mapping[str, Any] = document["services"][PROXY]
        live = self._live(deployment).get(name)
        if live is not None:
            image_id = self.engine.image_id(str(service["image"])) if is_running(live) else ""
            changed = [
                *compare_container(name, service, image_id, live),
                *compare_networks(document, live),
            ]
            if is_running(live) and not changed:
                return
            self.engine.stop([name], GRACE_SECONDS)
            self.engine.remove([name])
        self._configure(deployment, wanted, (serving or wanted).slot)
        network = str(document["networks"]["default"]["name"])
        try:
            self.engine.create(service, network, self.folder(deployment), {})
            if champion := document["networks"].get("champion"):
                self.engine.join(name, str(champion["name"]), CHALLENGER)
        except Refused:
            self.engine.remove([name])  # it was made and could not start
            raise

    def _configure(self, deployment: str, kept: Kept, slot: str) -> None:
        folder = make_own_folder(self.root, "compose", self.folder(deployment).name, CONFIG_FOLDER)
        folder.chmod(0o755)  # another user reads it, in the container; those around it stay closed
        rule = rule_of(self._workload(deployment, kept))
        write_atomic(folder / CONFIG_FILE, render_haproxy(slot, rule))
        (folder / CONFIG_FILE).chmod(0o644)

    def _await_up(self, deployment: str, kept: Kept) -> None:
        """Wait until HAProxy has each container of the release, and nothing else, in its slot."""
        live = self._live(deployment).values()
        addresses = {_address_of(each) for each in live if _part(each) == kept.slot}
        proxy, deadline = self._proxy(deployment, kept), time.monotonic() + UP_SECONDS
        while True:
            with suppress(Refused):  # it is just starting
                if proxy.look()[kept.slot].addresses == addresses:
                    return
            if time.monotonic() > deadline:
                tail = self._tail(self._container(deployment, PROXY))
                raise NotUp(f"HAProxy does not reach it within {UP_SECONDS:.0f} s\n{tail}".rstrip())
            time.sleep(LOOK_SECONDS)

    def _run_kept(self, deployment: str, kept: Kept) -> None:
        """Have what was taken into service last run, made anew."""
        self.engine.remove(self._live(deployment))
        failed = self._bring_up(deployment, kept, ())
        if failed:
            raise MlspecError(f"{self._address(deployment)} did not start: {failed}")
        self._ensure_proxy(deployment, kept, None)
        try:
            self._await_up(deployment, kept)
        except NotUp as late:
            raise MlspecError(f"{self._address(deployment)}: {late}") from None

    def _differences(
        self, deployment: str, kept: Kept, live: Mapping[str, Mapping[str, Any]]
    ) -> Iterator[Difference]:
        if kept.status == "stopped":
            return
        document = self._document(deployment, kept)
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
        for name in sorted(live.keys() - expected.keys()):
            yield name.removeprefix(f"{self._stack(deployment)}-"), None, "container"
        proxy = live.get(self._container(deployment, PROXY))
        if proxy is not None and is_running(proxy):
            yield from compare_networks(document, proxy)
            with suppress(Refused):
                for slot, seen in self._proxy(deployment, kept).look().items():
                    if bool(seen.weight) != (slot == kept.slot):
                        was = "requests" if slot == kept.slot else "no requests"
                        yield f"{PROXY}.{slot}", was, f"weight {seen.weight}"

    def _document(self, deployment: str, kept: Kept) -> dict[str, Any]:
        return compile_compose(self._workload(deployment, kept))

    def _workload(self, deployment: str, kept: Kept) -> Workload:
        track = Track(kept.slot, kept.model, kept.version, kept.release, kept.image, kept.token)
        folder = str(self.folder(deployment))
        return Workload(deployment, self.name, kept.settings, folder, kept.volume, track)

    def _write(self, deployment: str, kept: Kept) -> None:
        """Settle: what the next start of each part is to do."""
        document = self._document(deployment, kept)
        write_atomic(self.folder(deployment) / COMPOSE, render_compose(document, deployment))
        self._configure(deployment, kept, kept.slot)
        self._keep(deployment, kept)

    def _keep(self, deployment: str, kept: Kept) -> None:
        write_atomic(self.folder(deployment) / RECORD, canonical_json(asdict(kept)) + "\n")

    def _kept(self, deployment: str) -> Kept | None:
        with suppress(OSError, ValueError, TypeError):
            return Kept(**json.loads((self.folder(deployment) / RECORD).read_bytes()))
        return None

    def _live(self, deployment: str) -> dict[str, dict[str, Any]]:
        """Its containers by name, running or not."""
        found = self.engine.containers(self._labels(deployment))
        return {str(each["Name"]).removeprefix("/"): each for each in found}

    def _proxy(self, deployment: str, kept: Kept) -> Proxy:
        name = self._container(deployment, PROXY)
        return Proxy(partial(ask, self.engine, name, kept.image), self.engine.where, SERVERS)

    def _tail(self, name: str) -> str:
        with suppress(MlspecError):
            text = self.engine.run("logs", f"--tail={TROUBLE_LINES}", name, errors=True)
            return "\n".join(text.splitlines()[-TROUBLE_LINES:])
        return ""

    def _observed(self, deployment: str) -> Running:
        running = self.observe(deployment)
        if running is None:
            raise MlspecError(f"{self._address(deployment)} is gone")
        return running

    def _running(
        self, kept: Kept, live: Mapping[str, Mapping[str, Any]], differs: tuple[Difference, ...]
    ) -> Running:
        own = [each for each in live.values() if _part(each) == kept.slot]
        ready = sum(map(is_running, own))
        proxied = any(_part(each) == PROXY and is_running(each) for each in live.values())
        status: Literal["serving", "stopped", "down"] = (
            "stopped" if kept.status == "stopped" else "serving" if ready and proxied else "down"
        )
        listen, port = str(kept.settings["compose"]["listen"]), kept.settings["port"]
        url = f"http://{'127.0.0.1' if listen == '0.0.0.0' else listen}:{port}"
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
            differs=differs,
        )

    def _labels(self, deployment: str) -> dict[str, str]:
        return selector(deployment, self.name, str(self.place["project"]))

    def _stack(self, deployment: str) -> str:
        return stack_name(str(self.place["project"]), self.name, deployment)

    def _container(self, deployment: str, service: str) -> str:
        return f"{self._stack(deployment)}-{service}"

    def _address(self, deployment: str) -> str:
        return f"deployment.{deployment}@{self.name}"


def _label(container: Mapping[str, Any], key: str) -> str | None:
    found = (container["Config"].get("Labels") or {}).get(key)
    return None if found is None else str(found)


def _part(container: Mapping[str, Any]) -> str:
    """What a container is for: its slot, or HAProxy."""
    return _label(container, SLOT) or PROXY


def _address_of(container: Mapping[str, Any]) -> str:
    networks = (container.get("NetworkSettings") or {}).get("Networks") or {}
    return next((str(each.get("IPAddress")) for each in networks.values()), "")
