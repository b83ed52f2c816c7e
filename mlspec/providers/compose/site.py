"""A deployment in containers of this machine: its folder, its record, what runs of it.

The folder holds what was last taken into service::

    .mlspec/compose/<deployment>@<target>/
        compose.yaml         the containers; what `docker compose up` would start, too
        proxy/haproxy.cfg    HAProxy's configuration, with the weights that are settled
        service/listen.py    what runs the service in its containers
        record.json          :class:`Kept`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlspec.atomic import make_own_folder, write_atomic
from mlspec.compilers.compose import (
    CONFIG_FILE,
    CONFIG_FOLDER,
    LISTEN_FILE,
    LISTEN_FOLDER,
    MOST_COPIES,
    PROXY,
    SLOT,
    Track,
    Workload,
    compile_compose,
    copies_of,
    front_name,
    render_compose,
    render_haproxy,
    render_listen,
    rule_of,
    selector,
    sockets_name,
    stack_name,
    tls_of,
)
from mlspec.compilers.haproxy import GRACE_SECONDS
from mlspec.errors import MlspecError
from mlspec.plan import canonical_json
from mlspec.providers.compose.compare import is_running
from mlspec.providers.compose.engine import Engine, Refused
from mlspec.providers.compose.proxy import ask
from mlspec.providers.haproxy import Proxy
from mlspec.spec.models import challenger_name

COMPOSE, RECORD = "compose.yaml", "record.json"
TROUBLE_LINES = 20

Container = Mapping[str, Any]
"""What `inspect` tells of one."""


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
class Site:
    """One deployment. `place` is what the spec says of its target, and the project."""

    engine: Engine
    root: Path
    place: Mapping[str, Any]
    target: str
    deployment: str

    @property
    def folder(self) -> Path:
        return self.root / ".mlspec" / "compose" / f"{self.deployment}@{self.target}"

    @property
    def address(self) -> str:
        return f"deployment.{self.deployment}@{self.target}"

    @property
    def stack(self) -> str:
        return stack_name(str(self.place["project"]), self.target, self.deployment)

    @property
    def labels(self) -> dict[str, str]:
        return selector(self.deployment, self.target, str(self.place["project"]))

    @property
    def proxy(self) -> Proxy:
        """HAProxy, asked in a container of the service: of what is settled, if that runs."""
        return Proxy(self._ask_proxy, self.engine.where, MOST_COPIES)

    def called(self, deployment: str) -> Site:
        """That of another name."""
        return Site(self.engine, self.root, self.place, self.target, deployment)

    def container(self, service: str) -> str:
        """What a service's container is called."""
        return f"{self.stack}-{service}"

    def kept(self) -> Kept | None:
        """What was taken into service last; nothing if nothing was."""
        with suppress(OSError, ValueError, TypeError):
            return Kept(**json.loads((self.folder / RECORD).read_bytes()))
        return None

    def keep(self, kept: Kept) -> None:
        """Record it."""
        write_atomic(self.folder / RECORD, canonical_json(asdict(kept)) + "\n")

    def settle(self, kept: Kept) -> None:
        """Write what the next start of each part is to do, and record it."""
        document = self.document(kept)
        write_atomic(self.folder / COMPOSE, render_compose(document, self.deployment))
        self.configure(kept, kept)
        self.keep(kept)

    def configure(self, wanted: Kept, serving: Kept) -> None:
        """Have HAProxy of a release begin with all requests for the one that serves."""
        workload, copies = self.workload(wanted), copies_of(serving.settings)
        challenges = workload.champion is not None
        text = render_haproxy(
            serving.slot, copies, rule_of(workload), tls_of(workload), challenges=challenges
        )
        self._mounted(CONFIG_FOLDER, CONFIG_FILE, text)

    def document(self, kept: Kept) -> dict[str, Any]:
        """The compose file of a release."""
        return compile_compose(self.workload(kept))

    def workload(self, kept: Kept) -> Workload:
        """A release, as it is compiled."""
        track = Track(kept.slot, kept.model, kept.version, kept.release, kept.image, kept.token)
        folder = str(self.folder)
        return Workload(self.deployment, self.target, kept.settings, folder, kept.volume, track)

    def prepare(self, document: Mapping[str, Any]) -> None:
        """Have what containers need before they are made."""
        self._mounted(LISTEN_FOLDER, LISTEN_FILE, render_listen(self.deployment))
        own = [each for each in document["networks"].values() if not each.get("external")]
        for network in own:
            self.engine.ensure_network(str(network["name"]), self.labels)

    def live(self) -> dict[str, Container]:
        """Its containers by name, running or not."""
        found = self.engine.containers(self.labels)
        return {str(each["Name"]).removeprefix("/"): each for each in found}

    def tail(self, name: str) -> str:
        """What a container said last."""
        with suppress(MlspecError):
            text = self.engine.run("logs", f"--tail={TROUBLE_LINES}", name, errors=True)
            return "\n".join(text.splitlines()[-TROUBLE_LINES:])
        return ""

    def remove_slot(self, slot: str, grace: int = GRACE_SECONDS) -> None:
        """End what is in a slot; `grace` are the seconds until it must have answered."""
        names = [name for name, each in self.live().items() if part_of(each) == slot]
        self.engine.stop(names, grace)
        self.engine.remove(names)

    def remove_all(self) -> None:
        """End everything but what is captured; HAProxy first."""
        live = self.live()
        beside = self.called(challenger_name(self.deployment)).container(PROXY)
        with suppress(Refused):  # its challenger may be in its network
            self.engine.run("network", "disconnect", "--force", self.stack, beside)
        names = sorted(live, key=lambda name: not name.endswith(PROXY))
        self.engine.stop([name for name in names if is_running(live[name])], GRACE_SECONDS)
        self.engine.remove(names)
        for network in (self.stack, front_name(self.stack)):
            self.engine.forget("network", network)
        with suppress(Refused):  # its challenger may have it
            self.engine.forget("volume", sockets_name(self.stack))

    def _mounted(self, folder: str, file: str, text: str) -> None:
        made = make_own_folder(self.root, "compose", self.folder.name, folder)
        made.chmod(0o755)  # another user reads it, in the container; those around it stay closed
        write_atomic(made / file, text)
        (made / file).chmod(0o644)

    def _ask_proxy(self, commands: Sequence[str]) -> list[str]:
        kept = self.kept()
        running = [each for each in self.live().values() if is_running(each)]
        of_service = [each for each in running if part_of(each) != PROXY]
        if not of_service:
            said = "no container of the service runs in which HAProxy could be asked"
            raise Refused(f"{self.address}: {said}", said)
        settled = kept.slot if kept else ""
        through = next((each for each in of_service if part_of(each) == settled), of_service[0])
        return ask(self.engine, str(through["Id"]), commands)


def label_of(container: Container, key: str) -> str | None:
    """A label of a container, if it has it."""
    found = (container["Config"].get("Labels") or {}).get(key)
    return None if found is None else str(found)


def part_of(container: Container) -> str:
    """What a container is for: its slot, or HAProxy."""
    return label_of(container, SLOT) or PROXY
