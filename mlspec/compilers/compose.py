"""Compiles a release to the containers of one machine: plain data in, a compose file out.

Comes in: a :class:`Workload`, which is known once its image is. Goes out: the document, as data and
as text that `docker compose up` and `podman-compose up` take, and HAProxy's configuration. The
services of the document are what mlspec itself has podman or docker run, one container each.

There are two slots, `blue` and `green`. A release has one of them, the next release the other one;
weights say which slot gets requests.

HAProxy asks a container on a Unix socket, a file of a volume that all have, and is alone in its
network. So no request depends on names that are looked up, nor on who joins a network: podman's
network plugin before 1.9 gives a bridge another hardware address whenever a container with a lower
one comes or goes, and whoever stays loses what it sends to the bridge for up to 100 seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlspec.compilers.bento import worker_count
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
    tls_options,
)
from mlspec.compilers.templates import render_template
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
IMAGE = f"{PREFIX}.image"
"""Of HAProxy: the image as the spec names it. A tag that moves is not another HAProxy."""
PROXY, PREPARE = "proxy", "prepare"
CHALLENGER, CHAMPION = "challenger", "champion"
"""How HAProxy of a challenger is called where its champion looks, and the network and the volume
where that is."""
_CERTIFICATE, _CLIENT_CA = "/run/mlspec/certificate.pem", "/run/mlspec/client_ca.pem"
"""Where HAProxy has them in its container, if the port is for TLS."""
NETWORK, FRONT = "default", "front"
"""That of the service, and the one that HAProxy is alone in."""
CAPTURED, SOCKETS = "captures", "sockets"
"""Volumes."""
DEFAULT_PROXY = "docker.io/library/haproxy:3.0-alpine"
CONFIG_FOLDER, CONFIG_FILE = "proxy", "haproxy.cfg"
LISTEN_FOLDER, LISTEN_FILE = "service", "listen.py"
IN_CONTAINER = "/etc/mlspec"
SOCKET_FOLDER = "/sockets"
PROXY_USER = 10002
"""Of HAProxy: the service may not ask its admin socket, though it sees the file."""
ADMIN = f"{SOCKET_FOLDER}/admin.sock"
MOST_COPIES = 16
_PREPARATION = f"import os; os.chmod({SOCKET_FOLDER!r}, 0o1777)"
_OF_CAPTURES = f"; os.chown({CAPTURES!r}, {USER}, {USER})"
_SOCKETS, _CAPTURES = f"{SOCKETS}:{SOCKET_FOLDER}", f"{CAPTURED}:{CAPTURES}"
_PREPARED = {PREPARE: {"condition": "service_completed_successfully"}}


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
        """The name of the stack of its champion, if it is a challenger."""
        name = self.settings.get("challenges")
        return name and stack_name(str(self.place["project"]), self.target, str(name))


def stack_name(project: str, target: str, deployment: str) -> str:
    """What a deployment's network is called, and its containers begin with.

    No name of the spec has an underscore, so no three others come to the same.
    """
    return f"{project}_{target}_{deployment}"


def front_name(stack: str) -> str:
    """The network of its HAProxy."""
    return f"{stack}_front"


def sockets_name(stack: str) -> str:
    """The volume where its containers find each other."""
    return f"{stack}_sockets"


def copies_of(settings: Mapping[str, Any]) -> int:
    """How many containers answer."""
    return int((settings.get("replicas") or {}).get("min", 1))


def selector(deployment: str, target: str, project: str) -> dict[str, str]:
    """The labels that all containers of a deployment have, and nothing else has."""
    return {DEPLOYMENT: deployment, PROJECT: project, TARGET: target}


def compile_compose(workload: Workload) -> dict[str, Any]:
    """The document: services by name, networks and volumes."""
    services = {PROXY: _proxy(workload), PREPARE: _prepare(workload)}
    slot = workload.track.slot
    for number in range(1, workload.copies + 1):
        services[f"{slot}-{number}"] = _copy(workload, f"{slot}-{number}")
    document: dict[str, Any] = {
        "name": workload.name,
        "services": services,
        "networks": {NETWORK: {"name": workload.name}, FRONT: {"name": front_name(workload.name)}},
        "volumes": {SOCKETS: {"name": sockets_name(workload.name)}},
    }
    if workload.champion is not None:
        document["networks"][CHAMPION] = {"name": workload.champion, "external": True}
        sockets = {"name": sockets_name(workload.champion), "external": True}
        document["volumes"][CHAMPION] = sockets
    if workload.settings.get("capture"):
        document["volumes"][CAPTURED] = {"name": workload.volume}
    return document


def render_compose(document: Mapping[str, Any], deployment: str) -> str:
    """The document as text."""
    return render_yaml(document, head=[header(f"deployment.{deployment}")])


def render_haproxy(
    slot: str, copies: int, rule: str = "", tls: str = "", *, challenges: bool = False
) -> str:
    """HAProxy's configuration when it starts: all requests for the slot, which has so many copies.

    Other places are shut: it would take what it has not checked yet for one that answers. Those
    that the `rule` chooses go to the challenger, if it answers. One that `challenges` answers its
    champion, too. `tls` is how the port is opened, if it is for TLS.
    """
    servers = [
        f"    server {each}{number} unix@{socket_path(f'{each}-{number}')} "
        f"weight {WHOLE if each == slot else 0}"
        f"{'' if each == slot and number <= copies else ' disabled'}"
        for each in SLOTS
        for number in range(1, MOST_COPIES + 1)
    ]
    if rule:
        servers.append(f"    server {CHALLENGER} unix@{socket_path(CHALLENGER)} weight 0")
    champion = f"    bind unix@/{CHAMPION}/{CHALLENGER}.sock mode 666\n" if challenges else ""
    front = _FRONT.format(champion=champion, tls=tls)
    return f"{_HEAD}{DEFAULTS}{front}{BACKEND}{rule}    default-server {CHECK}\n" + "\n".join(
        [*servers, ""]
    )


def tls_of(workload: Workload) -> str:
    """How the port is opened, if it is for TLS; that of a challenger is for its champion alone."""
    tls = workload.place.get("tls")
    if not tls or workload.champion is not None:
        return ""
    return tls_options(_CERTIFICATE, _CLIENT_CA if tls.get("client_ca") else None)


def rule_of(workload: Workload) -> str:
    """The line by which a challenger gets requests to answer; empty if there is none that does."""
    part = workload.settings.get("challenger")
    return "" if not part or part["shadow"] else challenger_rule(part, workload.deployment)


def render_listen(deployment: str) -> str:
    """What runs the service in its container."""
    owner = header(f"deployment.{deployment}")
    return render_template("compose/listen.py.jinja", header=owner, port=PORT)


def socket_path(name: str) -> str:
    """Where the container of a service listens, inside of all of them."""
    return f"{SOCKET_FOLDER}/{name}.sock"


_HEAD = f"""\
global
    stats socket unix@{ADMIN} mode 600 level admin
    hard-stop-after {DRAIN_SECONDS}s
    nbthread 1
"""
_FRONT = f"""\
frontend port
    bind :{PORT}{{tls}}
{{champion}}\
    http-request set-header x-forwarded-for %[src] if {{{{ src -m found }}}}
    default_backend releases
"""


def _proxy(workload: Workload) -> Service:
    place = workload.place
    service = _locked_down(workload, PROXY, str(place.get("proxy") or DEFAULT_PROXY))
    service["labels"][IMAGE] = service["image"]
    service |= {
        "entrypoint": ["haproxy"],
        "command": ["-db", "-f", f"{IN_CONTAINER}/{CONFIG_FILE}"],
        "user": f"{PROXY_USER}:{PROXY_USER}",
        "networks": {FRONT: {}},
        "volumes": [f"./{CONFIG_FOLDER}:{IN_CONTAINER}:ro", _SOCKETS],
        "depends_on": _PREPARED,
        "stop_signal": "SIGUSR1",  # answers what it was asked, then ends
        "restart": "unless-stopped",
    }
    if workload.champion is not None:
        service["networks"][CHAMPION] = {"aliases": [CHALLENGER]}
        service["volumes"].append(f"{CHAMPION}:/{CHAMPION}")
    else:
        service["ports"] = [f"{place['listen']}:{workload.settings['port']}:{PORT}"]
    # HAProxy does not read these: one with others is another container
    environment = {}
    if rule := rule_of(workload):
        environment["MLSPEC_RULE"] = rule.strip()
    if tls_of(workload):
        mounts = {_CERTIFICATE: place["tls"]["certificate"], _CLIENT_CA: place["tls"]["client_ca"]}
        mounted = [f"{path}:{inside}:ro" for inside, path in mounts.items() if path]
        service["volumes"] += mounted
        environment["MLSPEC_TLS"] = " ".join(mounted)
    service |= {"environment": environment} if environment else {}
    return service


def _prepare(workload: Workload) -> Service:
    """Ends at once; what is on the volumes belongs then to whom it must."""
    service = _locked_down(workload, PREPARE, workload.track.image)
    service |= {
        "entrypoint": [PYTHON],
        "command": ["-c", _PREPARATION],
        "user": "0:0",
        "volumes": [_SOCKETS],
        "restart": "no",
    }
    if workload.settings.get("capture"):
        service["command"] = ["-c", _PREPARATION + _OF_CAPTURES]
        service["cap_add"] = ["CHOWN"]
        service["volumes"] = [_SOCKETS, _CAPTURES]
    return service


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
    cpus = float(workload.settings.get("cpus") or 1)
    listen = [f"{IN_CONTAINER}/{LISTEN_FILE}", socket_path(name), str(worker_count(cpus))]
    service |= {
        "entrypoint": [PYTHON],
        "command": listen,
        "user": f"{USER}:{USER}",
        "volumes": [f"./{LISTEN_FOLDER}:{IN_CONTAINER}:ro", _SOCKETS],
        "depends_on": _PREPARED,
        "cpus": cpus,
        "restart": "unless-stopped",
    }
    if memory := workload.settings.get("memory"):
        service["mem_limit"] = int(memory)
    environment = mirror_environment(workload.settings, f"http://{CHALLENGER}:{PORT}")
    if auth := workload.settings.get("auth"):
        environment |= {"MLSPEC_TOKENS": TOKENS, "MLSPEC_OWN_TOKEN": OWN_TOKEN}
        service["volumes"].append(f"{auth['file']}:{TOKENS}:ro")
    if capture := workload.settings.get("capture"):
        # Each has a folder of its own on the volume, so none removes what another wrote.
        environment |= {
            "MLSPEC_CAPTURE_DIR": f"{CAPTURES}/{name}",
            "MLSPEC_CAPTURE_SAMPLE": str(capture["sample"]),
        }
        service["volumes"].append(_CAPTURES)
    service |= {"environment": environment} if environment else {}
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
        # Where containers are labelled, all have one level: else none may ask another's socket.
        "security_opt": ["no-new-privileges", "label=level:s0"],
        "stop_grace_period": f"{GRACE_SECONDS}s",
    }
