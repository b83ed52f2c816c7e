"""A deployment on a host that there is a connection to: its record, its units, its HAProxy.

A folder for each project holds what services need, and what was last taken into service::

    <folder>/<project>/
        releases/<digest>/          the files of a service, which nothing changes afterwards
        environments/<digest>/      Python with the packages of a `requirements.txt`
        locks/<deployment>@<target>
        deployments/<deployment>@<target>/
            haproxy.cfg             with the weights that are settled
            record.json             :class:`Kept`
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from mlspec.compilers.haproxy import SLOTS
from mlspec.compilers.systemd import (
    ADMIN,
    CONFIG,
    OWN,
    OWN_TOKEN,
    PROXY,
    Track,
    Workload,
    compile_units,
    render_haproxy,
    render_unit,
    unit_name,
    unit_stem,
)
from mlspec.errors import MlspecError
from mlspec.plan import canonical_json
from mlspec.providers.haproxy import Proxy
from mlspec.providers.ssh.compare import PROPERTIES, Shown, parse_show
from mlspec.providers.ssh.host import Host, Refused

RECORD = "record.json"
FIRST_PORT, PORT_SPAN = 20_000, 10_000
"""Of releases, on the loopback: below those that a kernel gives connections."""
LOCK_SECONDS = 60.0
TROUBLE_LINES = 20
STOP_SECONDS = 120.0

Call = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Facts:
    """What a host has; `folder` is mlspec's own, `units` whose units there are."""

    user: str
    folder: str
    units: str
    unit_folder: str
    runtime: str
    version: str
    interpreter: str
    haproxy: str | None
    systemctl: str | None
    journalctl: str | None
    loginctl: str | None


@dataclass(frozen=True, slots=True)
class Kept:
    """What is in the record of what was taken into service last. `files` and `environment` are
    names of folders, `ports` those of both slots, `state` begins the names of the folders of
    captured predictions."""

    release: str
    model: str
    version: int
    status: str
    token: int
    slot: str
    since: str
    files: str
    environment: str
    bentoml: bool
    workers: int
    ports: Mapping[str, int]
    state: str
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Site:
    """One deployment; all of its verbs are requests to the host."""

    host: Host
    facts: Facts
    place: Mapping[str, Any]
    target: str
    deployment: str

    @classmethod
    def find(cls, host: Host, place: Mapping[str, Any], target: str, deployment: str) -> Site:
        """Where a deployment is on a host."""
        told = host.ask("hello", folder=place.get("folder"), units=place.get("units"))
        return cls(host, Facts(**told), place, target, deployment)

    @property
    def base(self) -> str:
        return f"{self.facts.folder}/{self.place['project']}"

    @property
    def folder(self) -> str:
        return f"{self.base}/deployments/{self.deployment}@{self.target}"

    @property
    def stem(self) -> str:
        return unit_stem(str(self.place["project"]), self.target, self.deployment)

    @property
    def address(self) -> str:
        return f"deployment.{self.deployment}@{self.target}"

    @property
    def admin(self) -> str:
        """HAProxy's admin socket."""
        return f"{self.facts.runtime}/{OWN}/{self.stem}-{PROXY}/{ADMIN}"

    def own_token(self, slot: str) -> str:
        """The file with the token of a service for whoever looks after it."""
        return f"{self.facts.runtime}/{OWN}/{self.stem}-{slot}/{OWN_TOKEN}"

    @property
    def proxy(self) -> Proxy:
        return Proxy(self._ask_proxy, self.host.where, servers=1)

    def called(self, deployment: str) -> Site:
        """That of another name."""
        return Site(self.host, self.facts, self.place, self.target, deployment)

    def kept(self) -> Kept | None:
        """What was taken into service last; nothing if nothing was."""
        text = self.host.ask("read", path=f"{self.folder}/{RECORD}")
        with suppress(ValueError, TypeError):
            return Kept(**json.loads(text or ""))
        return None

    def keep(self, kept: Kept) -> None:
        self.host.many([self.keep_call(kept)])

    def settle(self, kept: Kept, ended: str | None) -> None:
        """Remember what serves from now on, and that the slot `ended` is to end.

        That is one request: a connection that is lost leaves all of it, or nothing. The record is
        first: from then on nothing gives the requests back.
        """
        calls = [] if ended is None else [self.stop_call(ended), self.disable_call(ended)]
        self.host.many(
            [
                self.keep_call(kept),
                {"do": "if_lost", "calls": calls},
                self.config_call(kept),
            ]
        )

    def keep_call(self, kept: Kept) -> Call:
        text = canonical_json(asdict(kept)) + "\n"
        return {"do": "write", "path": f"{self.folder}/{RECORD}", "text": text, "mode": 0o600}

    def config_call(self, kept: Kept) -> Call:
        """Has HAProxy's next start give all requests to the slot of the record."""
        text = render_haproxy(self.workload(kept))
        return {"do": "write", "path": f"{self.folder}/{CONFIG}", "text": text}

    def hold(self) -> None:
        """Be the only one here until the connection ends."""
        mode = 0o755 if self.facts.units == "system" else 0o700
        path = f"{self.base}/locks/{self.deployment}@{self.target}"
        calls = [
            {"do": "folder", "path": self.base, "mode": mode},
            {"do": "hold", "path": path, "seconds": LOCK_SECONDS},
        ]
        self.host.many(calls, LOCK_SECONDS + 60)

    def workload(self, kept: Kept) -> Workload:
        """What is compiled of a record."""
        assert self.facts.haproxy is not None
        track = Track(
            slot=kept.slot,
            model=kept.model,
            version=kept.version,
            release=kept.release,
            files=f"{self.base}/releases/{kept.files}",
            python=f"{self.base}/environments/{kept.environment}/bin/python",
            bentoml=kept.bentoml,
            workers=kept.workers,
        )
        return Workload(
            deployment=self.deployment,
            target=self.target,
            settings=kept.settings,
            folder=self.folder,
            haproxy=self.facts.haproxy,
            system=self.facts.units == "system",
            ports=kept.ports,
            state=kept.state,
            track=track,
        )

    def unit_path(self, part: str) -> str:
        return f"{self.facts.unit_folder}/{unit_name(self.stem, part)}"

    def write_unit(self, kept: Kept, part: str) -> None:
        """Have systemd know the unit of a part as the record wants it."""
        text = render_unit(compile_units(self.workload(kept))[part], self.deployment)
        path, call = self.unit_path(part), self.systemctl_call
        self.host.many(
            [
                # what was put beside it by hand, or by `systemctl edit` and `set-property`
                call("revert", unit_name(self.stem, part), refusal=False),
                {"do": "write", "path": path, "text": text},
                call("daemon-reload"),
            ]
        )

    def show(self, *parts: str) -> dict[str, Shown]:
        """What systemd tells of the units of parts."""
        [told] = self.host.many([self.show_call(*parts)])
        return self.shown(told, *parts)

    def show_call(self, *parts: str) -> Call:
        names = [unit_name(self.stem, part) for part in parts]
        return self.systemctl_call("show", f"--property={','.join(PROPERTIES)}", *names)

    def shown(self, told: Mapping[str, Any], *parts: str) -> dict[str, Shown]:
        """What the answer to a `show_call` says."""
        return dict(zip(parts, parse_show(str(told["said"]), len(parts)), strict=True))

    def systemctl(self, verb: str, *parts: str) -> None:
        """Have systemd do something with the units of parts."""
        names = [unit_name(self.stem, part) for part in parts]
        self.host.many([self.systemctl_call(verb, *names)])

    def systemctl_call(self, *words: str, refusal: bool = True) -> Call:
        manager = ["--user"] if self.facts.units == "user" else ["--system"]
        command = [self.facts.systemctl or "systemctl", manager[0], "--no-pager", *words]
        return {"do": "run", "command": command, "seconds": STOP_SECONDS, "refusal": refusal}

    def stop_call(self, *parts: str) -> Call:
        """What ends the units of parts, if they run."""
        names = [unit_name(self.stem, part) for part in parts]
        return self.systemctl_call("stop", *names, refusal=False)

    def disable_call(self, *parts: str) -> Call:
        """What has a start of the host leave the units of parts alone."""
        names = [unit_name(self.stem, part) for part in parts]
        return self.systemctl_call("disable", *names, refusal=False)

    def weigh_call(self, shares: Mapping[str, float]) -> Call:
        return {
            "do": "proxy",
            "socket_path": self.admin,
            "commands": [self.proxy.command(shares, {})],
        }

    def erase(self, *, captures: bool = True) -> None:
        """Stop all of it and have nothing left; captured predictions only if they are to go."""
        parts = (PROXY, *SLOTS)
        names = [unit_name(self.stem, part) for part in parts]
        call = self.systemctl_call
        self.host.many(
            [
                self.stop_call(*parts),
                self.disable_call(*parts),
                *(
                    call("clean", "--what=state", name, refusal=False)
                    for name in (names if captures else ())
                ),
                call("revert", *names, refusal=False),
                *({"do": "remove", "path": self.unit_path(part)} for part in parts),
                call("daemon-reload"),
                call("reset-failed", *names, refusal=False),
                {"do": "remove", "path": self.folder},
            ],
            2 * STOP_SECONDS,
        )

    def free_ports(self) -> dict[str, int]:
        """A port for each slot, of which no other deployment here has any."""
        taken: list[int] = []
        for name in self.host.ask("list", path=f"{self.base}/deployments"):
            text = self.host.ask("read", path=f"{self.base}/deployments/{name}/{RECORD}")
            with suppress(ValueError, TypeError, KeyError):
                taken += json.loads(text or "")["ports"].values()
        found = {}
        first = FIRST_PORT + sum(self.stem.encode()) * 7 % (PORT_SPAN - 3000)
        for slot in SLOTS:
            found[slot] = self.host.ask("port", first=first, taken=taken)
            taken.append(found[slot])
        return found

    def log(self, part: str, lines: int) -> str:
        """What a part said last."""
        # not `--user`: what users below 1000 and root say is in the journal of the machine
        option = "--user-unit" if self.facts.units == "user" else "--unit"
        words = [f"{option}={unit_name(self.stem, part)}", f"--lines={lines}", "--no-pager"]
        command = [self.facts.journalctl or "journalctl", *words, "--output=short-iso"]
        told = self.host.ask("run", command=command, refusal=False)
        return str(told["said"])

    def tail(self, part: str) -> str:
        """The end of that, for people; nothing if it is not to be had."""
        with suppress(Refused):
            lines = self.log(part, TROUBLE_LINES).strip().splitlines()
            return "\n".join(line for line in lines if not line.startswith("-- "))
        return ""

    def check(self, version: str) -> None:
        """Raise :class:`MlspecError` if the host lacks what services need."""
        facts, where = self.facts, self.host.where
        if facts.version != version:
            raise MlspecError(
                f"{where}: {self.place['python']} is {facts.version} there, and the spec says "
                f"{version}",
                hint="say where the right one is: `python: /path/of/python`",
            )
        for name, path, package in (
            ("systemctl", facts.systemctl, "systemd"),
            ("haproxy", facts.haproxy, "haproxy"),
        ):
            if path is None:
                raise MlspecError(f"{where}: it has no {name}", hint=f"install {package} there")
        if facts.units == "user":
            self._linger()

    def check_tokens(self, settings: Mapping[str, Any]) -> None:
        """Raise :class:`MlspecError` if the host lacks the file with the tokens of clients."""
        auth = settings.get("auth")
        if auth and not self.host.ask("is_file", path=auth["file"]):
            raise MlspecError(
                f"{self.host.where}: {auth['file']} is no file there",
                hint="put it there; the spec names it, and nothing of mlspec copies it",
            )

    def _linger(self) -> None:
        """Have the user's units run also while nobody is logged in."""
        if self.facts.loginctl is None:
            return
        user, ask = self.facts.user, self.host.ask
        show = [self.facts.loginctl, "show-user", user, "--property=Linger"]
        if "Linger=yes" in ask("run", command=show, refusal=False)["said"]:
            return
        enable = [self.facts.loginctl, "enable-linger", user]
        if ask("run", command=enable, refusal=False)["code"]:
            raise MlspecError(
                f"{self.host.where}: the units of {user} end when {user} logs out",
                hint=f"have an administrator run `loginctl enable-linger {user}` there",
            )

    def _ask_proxy(self, commands: Sequence[str]) -> list[str]:
        told = self.host.ask("proxy", socket_path=self.admin, commands=list(commands))
        return [str(each) for each in told]
