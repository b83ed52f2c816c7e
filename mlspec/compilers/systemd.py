"""Compiles a release to systemd's units on a plain host: plain data in, unit files out.

Comes in: a :class:`Workload`, which is known once its host is. Goes out: the unit of the slot that
it gets, the unit of HAProxy, and HAProxy's configuration.

What a service writes is below folders that systemd makes for its unit alone: scratch files below
the unit's runtime folder, captured predictions below its state folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlspec.compilers.containerfile import serving_arguments
from mlspec.compilers.generated import header
from mlspec.compilers.haproxy import (
    BACKEND,
    CHECK,
    DEFAULTS,
    DRAIN_SECONDS,
    GRACE_SECONDS,
    SLOTS,
    WHOLE,
)

Unit = Mapping[str, Sequence[tuple[str, str]]]
"""A unit file: the settings of each section, in their order."""

PROXY = "proxy"
CONFIG = "haproxy.cfg"
ADMIN = "admin.sock"
OWN_TOKEN = "own.token"
OWN = "mlspec"
"""The folder below those of systemd that has those of mlspec's units."""

_SANDBOX = (
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "strict"),
    ("ProtectHome", "read-only"),
    ("PrivateTmp", "yes"),
    ("ProtectControlGroups", "yes"),
    ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("LockPersonality", "yes"),
    ("SystemCallArchitectures", "native"),
    ("UMask", "0077"),
)
_SYSTEM_SANDBOX = (
    ("DynamicUser", "yes"),
    ("CapabilityBoundingSet", ""),
    ("PrivateDevices", "yes"),
    ("ProtectClock", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelTunables", "yes"),
)
"""What the manager of a user may not do: it would refuse to start the unit."""


@dataclass(frozen=True, slots=True)
class Track:
    """A release in its slot. `files` is the folder of its service on the host, `python` that of its
    environment; `bentoml` whether BentoML runs it."""

    slot: str
    model: str
    version: int
    release: str
    files: str
    python: str
    bentoml: bool
    workers: int


@dataclass(frozen=True, slots=True)
class Workload:
    """A deployment on a host and what it is to serve.

    `settings` are those of the deployment's resource: `cpus`, `memory` (bytes), `capture`, `port`
    and `ssh` (what the spec says of the target). `folder` is that of the deployment, `haproxy` the
    program, `system` whether the units are the machine's and not a user's, `ports` where each slot
    listens on the loopback. `state` names the folders of captured predictions, which a deployment
    keeps under another name.
    """

    deployment: str
    target: str
    settings: Mapping[str, Any]
    folder: str
    haproxy: str
    system: bool
    ports: Mapping[str, int]
    state: str
    track: Track

    @property
    def place(self) -> Mapping[str, Any]:
        """What the spec says of the target."""
        found: Mapping[str, Any] = self.settings["ssh"]
        return found

    @property
    def stem(self) -> str:
        return unit_stem(str(self.place["project"]), self.target, self.deployment)


def unit_stem(project: str, target: str, deployment: str) -> str:
    """What the names of a deployment's units begin with.

    No name of the spec has an underscore, so no three others come to the same.
    """
    return f"{OWN}-{project}_{target}_{deployment}"


def unit_name(stem: str, part: str) -> str:
    """The unit of a slot, or of HAProxy."""
    return f"{stem}-{part}.service"


def compile_units(workload: Workload) -> dict[str, Unit]:
    """The units that serve, by what they are for: the slot, and HAProxy."""
    return {PROXY: _proxy(workload), workload.track.slot: _slot(workload)}


def render_unit(unit: Unit, deployment: str) -> str:
    """A unit file."""
    lines = [f"# {header(f'deployment.{deployment}')}"]
    for section, settings in unit.items():
        lines += ["", f"[{section}]", *(f"{key}={value}" for key, value in settings)]
    return "\n".join([*lines, ""])


def parse_unit(text: str) -> dict[str, list[tuple[str, str]]]:
    """The settings of a unit file that :func:`render_unit` wrote, or that somebody edited."""
    found: dict[str, list[tuple[str, str]]] = {}
    section: list[tuple[str, str]] = []
    for line in text.splitlines():
        if matched := re.fullmatch(r"\[(.+)\]\s*", line):
            section = found.setdefault(matched[1], [])
        elif "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            section.append((key.strip(), value.strip()))
    return found


def render_haproxy(workload: Workload) -> str:
    """HAProxy's configuration: all requests for the slot of the release."""
    servers = [
        f"    server {slot}1 127.0.0.1:{workload.ports[slot]} "
        f"weight {WHOLE if slot == workload.track.slot else 0}"
        for slot in SLOTS
    ]
    front = _FRONT.format(listen=workload.place["listen"], port=workload.settings["port"])
    return f"{_HEAD}{DEFAULTS}{front}{BACKEND}    default-server {CHECK}\n" + "\n".join(
        [*servers, ""]
    )


_HEAD = f"""\
global
    stats socket unix@{ADMIN} mode 600 level admin
    hard-stop-after {DRAIN_SECONDS}s
    nbthread 1
"""
_FRONT = """\
frontend port
    bind {listen}:{port}
    http-request set-header x-forwarded-for %[src]
    default_backend releases
"""


def _slot(workload: Workload) -> Unit:
    track, settings = workload.track, workload.settings
    name, state = (f"{OWN}/{each}-{track.slot}" for each in (workload.stem, workload.state))
    serve = serving_arguments(
        "127.0.0.1", workload.ports[track.slot], bentoml=track.bentoml, workers=track.workers
    )
    environment = {
        "HOME": f"%t/{name}",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if track.bentoml:
        environment |= {"BENTOML_HOME": f"%t/{name}/bentoml", "BENTOML_DO_NOT_TRACK": "True"}
    else:
        environment["PROMETHEUS_MULTIPROC_DIR"] = f"%t/{name}"
    capture = settings.get("capture")
    if capture:
        environment["MLSPEC_CAPTURE_DIR"] = f"%S/{state}/captures"
        environment["MLSPEC_CAPTURE_SAMPLE"] = str(capture["sample"])
    tokens: list[tuple[str, str]] = []
    if auth := settings.get("auth"):
        environment["MLSPEC_OWN_TOKEN"] = f"%t/{name}/{OWN_TOKEN}"
        environment["MLSPEC_TOKENS"] = _value(str(auth["file"]))
        if workload.system:  # its user may not read the file itself
            environment["MLSPEC_TOKENS"] = "%d/tokens"
            tokens.append(("LoadCredential", f"tokens:{_value(str(auth['file']))}"))
    limits = [("CPUQuota", f"{max(1, round(100 * float(settings.get('cpus') or 1)))}%")]
    if memory := settings.get("memory"):
        limits.append(("MemoryMax", str(int(memory))))
    about = f"{workload.deployment} version {track.version} of {track.model}, {track.slot}"
    return {
        "Unit": [
            ("Description", f"mlspec: {about}"),
            ("X-Mlspec-Release", track.release),
            ("After", "network.target"),
            ("StartLimitIntervalSec", "0"),
        ],
        "Service": [
            ("Type", "exec"),
            ("WorkingDirectory", _value(track.files)),
            *(("Environment", f'"{key}={value}"') for key, value in environment.items()),
            ("ExecStart", " ".join(map(_word, [track.python, *serve]))),
            *tokens,
            ("RuntimeDirectory", name),
            ("StateDirectory", state),
            ("Restart", "on-failure"),
            ("RestartSec", "1"),
            ("KillMode", "mixed"),
            ("TimeoutStopSec", str(GRACE_SECONDS)),
            *limits,
            *_sandbox(workload),
        ],
        "Install": [("WantedBy", _wanted_by(workload))],
    }


def _proxy(workload: Workload) -> Unit:
    name = f"{OWN}/{workload.stem}-{PROXY}"
    command = [workload.haproxy, "-db", "-f", f"{workload.folder}/{CONFIG}"]
    return {
        "Unit": [
            ("Description", f"mlspec: {workload.deployment}, HAProxy"),
            ("After", "network-online.target"),
            ("StartLimitIntervalSec", "0"),
        ],
        "Service": [
            ("Type", "exec"),
            ("WorkingDirectory", f"%t/{name}"),
            ("ExecStart", " ".join(map(_word, command))),
            ("RuntimeDirectory", name),
            ("Restart", "on-failure"),
            ("RestartSec", "1"),
            # answers what it was asked, then ends
            ("KillSignal", "SIGUSR1"),
            ("SuccessExitStatus", "SIGUSR1"),
            ("TimeoutStopSec", str(GRACE_SECONDS)),
            *_sandbox(workload),
        ],
        "Install": [("WantedBy", _wanted_by(workload))],
    }


def _sandbox(workload: Workload) -> tuple[tuple[str, str], ...]:
    return (*_SANDBOX, *(_SYSTEM_SANDBOX if workload.system else ()))


def _wanted_by(workload: Workload) -> str:
    return "multi-user.target" if workload.system else "default.target"


def _value(text: str) -> str:
    """A text in which systemd expands nothing."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """A word of a command that systemd passes on as it is."""
    text = _value(text).replace("$", "$$").replace("\\", "\\\\").replace('"', '\\"')
    return text if re.fullmatch(r"[\w./:@%$+,=-]+", text) else f'"{text}"'
