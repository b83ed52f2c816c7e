"""Compiles a release to the containers of one machine: plain data in, a compose file out.

Comes in: a :class:`Workload`, which is known once its image is. Goes out: the document, as data and
as text that `docker compose up` and `podman-compose up` take, and HAProxy's configuration. The
services of the document are what mlspec itself has podman or docker run, one container each.

There are two slots, `blue` and `green`. A release has one of them, the next release the other one;
HAProxy finds the containers of a slot by its name in the network, and weights say which slot gets
requests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.compilers.containerfile import (
    CAPTURES,
    OWN_TOKEN,
    PORT,
    PYTHON,
    TOKENS,
    USER,
    mirror_environment,
)
from mlspec.compilers.generated import header
from mlspec.compilers.haproxy import (
    BACKEND,
    CHECK,
    DEFAULTS,
    DRAIN_SECONDS,
    GRACE_SECONDS,
    SLOTS,
    WHOLE,
    challenger_rule,
)
from mlspec.compilers.yaml_text import render_yaml

Service = dict[str, Any]
"""A service of a compose file; here always one container."""

PREFIX = "dev.mlspec"
DEPLOYMENT, TARGET, PROJECT, SLOT = (
    f"{PREFIX}.{key}" for key in ("deployment", "target", "project", "slot")
)
FOLDER, MODEL, VERSION, RELEASE, TOKEN = (
    f"{PREFIX}.{key}" for key in ("folder", "model", "version", "release", "token")
)
PROXY, PREPARE = "proxy", "captures"
CHALLENGER = "challenger"
"""How HAProxy of a challenger is called in the network of its champion."""
DEFAULT_PROXY = "docker.io/library/haproxy:3.0-alpine"
CONFIG_FOLDER, CONFIG_FILE = "proxy", "haproxy.cfg"
IN_PROXY = "/etc/mlspec"
ADMIN_PORT = 8404
"""Of HAProxy's admin socket: on the loopback of its container, where nobody else is."""
MOST_COPIES = 16
SERVERS = 2 * MOST_COPIES
"""Places for addresses in a slot: those of containers that ended are left only after a while."""
CHOWN = f"import os; os.chown('{CAPTURES}', {USER}, {USER})"


@dataclass(frozen=True, slots=True)
class Track:
    """A release in its slot; `image` is named by its digest."""

    slot: str
    model: str
    version: int
    release: str
    image: str
    token: int


@dataclass(frozen=True, slots=True)
class Workload:
    """A deployment on a target and what it is to serve.

    `settings` are those of the deployment's resource: `cpus`, `memory` (bytes), `capture`, `port`,
    `replicas` ({min}) and `compose` (what the spec says of the target). `folder` is where the
    compose file is, as a label says it; `volume` keeps captures.
    """

    deployment: str
    target: str
    settings: Mapping[str, Any]
    folder: str
    volume: str
    track: Track

    @property
    def place(self) -> Mapping[str, Any]:
        """What the spec says of the target."""
        found: Mapping[str, Any] = self.settings["compose"]
        return found

    @property
    def name(self) -> str:
        return stack_name(str(self.place["project"]), self.target, self.deployment)

    @property
    def copies(self) -> int:
        """How many containers answer."""
        return copies_of(self.settings)

    @property
    def champion(self) -> str | None:
        """The name of the network of its champion, if it is a challenger."""
        name = self.settings.get("challenges")
        return name and stack_name(str(self.place["project"]), self.target, str(name))


def stack_name(project: str, target: str, deployment: str) -> str:
    """What a deployment's network is called, and its containers begin with.

    No name of the spec has an underscore, so no three others come to the same.
    """
    return f"{project}_{target}_{deployment}"


def copies_of(settings: Mapping[str, Any]) -> int:
    """How many containers answer."""
    return int((settings.get("replicas") or {}).get("min", 1))


def selector(deployment: str, target: str, project: str) -> dict[str, str]:
    """The labels that all containers of a deployment have, and nothing else has."""
    return {DEPLOYMENT: deployment, PROJECT: project, TARGET: target}


def compile_compose(workload: Workload) -> dict[str, Any]:
    """The document: services by name, the network and volumes."""
    services = {PROXY: _proxy(workload)}
    if workload.settings.get("capture"):
        services[PREPARE] = _prepare(workload)
    slot = workload.track.slot
    for number in range(1, workload.copies + 1):
        services[f"{slot}-{number}"] = _copy(workload, f"{slot}-{number}")
    document: dict[str, Any] = {
        "name": workload.name,
        "services": services,
        "networks": {"default": {"name": workload.name}},
    }
    if workload.champion is not None:
        document["networks"]["champion"] = {"name": workload.champion, "external": True}
    if workload.settings.get("capture"):
        document["volumes"] = {PREPARE: {"name": workload.volume}}
    return document


def render_compose(document: Mapping[str, Any], deployment: str) -> str:
    """The document as text."""
    return render_yaml(document, head=[header(f"deployment.{deployment}")])


def render_haproxy(slot: str, rule: str = "") -> str:
    """HAProxy's configuration when it starts: all requests for the slot.

    Those that the `rule` chooses go to the challenger, if it answers.
    """
    weights = [
        f"    server-template {each} {SERVERS} {each}:{PORT} weight {WHOLE if each == slot else 0}"
        for each in SLOTS
    ]
    if rule:
        weights.append(f"    server {CHALLENGER} {CHALLENGER}:{PORT} weight 0")
    return f"{_HEAD}{DEFAULTS}{_FRONT}{BACKEND}{rule}{_SERVERS}" + "\n".join(weights) + "\n"


def rule_of(workload: Workload) -> str:
    """The line by which a challenger gets requests to answer; empty if there is none that does."""
    part = workload.settings.get("challenger")
    return "" if not part or part["shadow"] else challenger_rule(part, workload.deployment)


_HEAD = f"""\
global
    stats socket ipv4@127.0.0.1:{ADMIN_PORT} level admin
    hard-stop-after {DRAIN_SECONDS}s
    nbthread 1
resolvers network
    parse-resolv-conf
    accepted_payload_size 8192
    timeout resolve 1s
    timeout retry 1s
    hold valid 1s
    hold nx 5s
    hold obsolete 5s
"""
_FRONT = f"""\
frontend port
    bind :{PORT}
    http-request set-header x-forwarded-for %[src]
    default_backend releases
"""
_SERVERS = f"""\
    default-server {CHECK} resolvers network resolve-prefer ipv4 init-addr none
"""


def _proxy(workload: Workload) -> Service:
    place = workload.place
    service = _locked_down(workload, PROXY, str(place.get("proxy") or DEFAULT_PROXY))
    service |= {
        "entrypoint": ["haproxy"],
        "command": ["-db", "-f", f"{IN_PROXY}/{CONFIG_FILE}"],
        "user": f"{USER}:{USER}",
        "volumes": [f"./{CONFIG_FOLDER}:{IN_PROXY}:ro"],
        "stop_signal": "SIGUSR1",  # answers what it was asked, then ends
        "restart": "unless-stopped",
    }
    if workload.champion is not None:
        service["networks"] = {"default": {}, "champion": {"aliases": [CHALLENGER]}}
    else:
        service["ports"] = [f"{place['listen']}:{workload.settings['port']}:{PORT}"]
    if rule := rule_of(workload):
        # HAProxy does not read it: one with another rule is another container
        service["environment"] = {"MLSPEC_RULE": rule.strip()}
    return service


def _prepare(workload: Workload) -> Service:
    """Ends at once; what captures are written to belongs to the service's user then."""
    service = _locked_down(workload, PREPARE, workload.track.image)
    return service | {
        "entrypoint": [PYTHON],
        "command": ["-c", CHOWN],
        "user": "0:0",
        "cap_add": ["CHOWN"],
        "volumes": [f"{PREPARE}:{CAPTURES}"],
        "restart": "no",
    }


def _copy(workload: Workload, name: str) -> Service:
    track = workload.track
    service = _locked_down(workload, name, track.image)
    service["labels"] |= {
        SLOT: track.slot,
        MODEL: track.model,
        VERSION: str(track.version),
        RELEASE: track.release,
        TOKEN: str(track.token),
    }
    service |= {
        "user": f"{USER}:{USER}",
        "networks": {"default": {"aliases": [track.slot]}},
        "cpus": float(workload.settings.get("cpus") or 1),
        "restart": "unless-stopped",
    }
    if memory := workload.settings.get("memory"):
        service["mem_limit"] = int(memory)
    environment = mirror_environment(workload.settings, f"http://{CHALLENGER}:{PORT}")
    volumes: list[str] = []
    if auth := workload.settings.get("auth"):
        environment |= {"MLSPEC_TOKENS": TOKENS, "MLSPEC_OWN_TOKEN": OWN_TOKEN}
        volumes.append(f"{auth['file']}:{TOKENS}:ro")
    if capture := workload.settings.get("capture"):
        # Each has a folder of its own on the volume, so none removes what another wrote.
        environment |= {
            "MLSPEC_CAPTURE_DIR": f"{CAPTURES}/{name}",
            "MLSPEC_CAPTURE_SAMPLE": str(capture["sample"]),
        }
        volumes.append(f"{PREPARE}:{CAPTURES}")
        service["depends_on"] = {PREPARE: {"condition": "service_completed_successfully"}}
    service |= {"environment": environment} if environment else {}
    service |= {"volumes": volumes} if volumes else {}
    return service


def _locked_down(workload: Workload, name: str, image: str) -> Service:
    """What every container has: nothing that it could write to but /tmp, and no privileges."""
    labels = selector(workload.deployment, workload.target, str(workload.place["project"]))
    return {
        "image": image,
        "container_name": f"{workload.name}-{name}",
        "labels": {**labels, FOLDER: workload.folder},
        "read_only": True,
        "tmpfs": ["/tmp"],
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "stop_grace_period": f"{GRACE_SECONDS}s",
    }
