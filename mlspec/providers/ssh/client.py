"""What a command does with a deployment on a plain host: the target of kind `ssh`.

A new release is put on the host, comes up in the slot that is free, and is asked there. HAProxy
then gives it all requests, the record is written, and the other slot ends when it has answered what
it was asked. What a command that is killed leaves is put in order by the far end of its connection,
and if the host itself went down, by the next apply.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mlspec.atomic import make_own_folder
from mlspec.compilers.haproxy import DRAIN_SECONDS, SLOTS
from mlspec.compilers.systemd import CONFIG, PROXY, compile_units, render_haproxy, render_unit
from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.inside import judge_smoke
from mlspec.providers.slots import Look, NotUp, SlotTrial, other_slot, share_out, trying
from mlspec.providers.ssh.compare import (
    Difference,
    Shown,
    compare_lines,
    compare_unit,
    is_running,
    restarts_of,
)
from mlspec.providers.ssh.host import Host, Refused, Way
from mlspec.providers.ssh.site import Kept, Site
from mlspec.providers.target import Release, Running
from mlspec.rollouts.counts import Counts, parse_counts

LOG_LINES = 2000
LOOK_SECONDS = 0.3
UP_SECONDS = 30.0
"""Until HAProxy reaches a release that is ready."""
BUILD_SECONDS = 2000.0
"""Until an environment is built there."""


@dataclass(frozen=True, slots=True)
class SshTarget:
    """A target of kind `ssh`. `place` is what the spec says of it, and the project."""

    root: Path
    name: str
    port: int
    place: Mapping[str, Any]

    @property
    def ready_seconds(self) -> float:
        return float(self.place.get("ready") or 300.0)

    def observe(self, deployment: str) -> Running | None:
        with self._site(deployment) as site:
            kept = site.kept()
            return None if kept is None else _running(site, kept)

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None  # its files are on the host

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        with self._site(deployment, alone=True) as site:
            with self._tried(site, release, smoke) as trial:
                trial.promote()
            site.host.ask("prune", folder=site.base)
            return _observed(site)

    @contextmanager
    def try_out(
        self,
        deployment: str,
        release: Release,
        smoke: Sequence[Mapping[str, Any]],
        *,
        splits: bool,  # noqa: ARG002 HAProxy is there in any case
    ) -> Iterator[SlotTrial]:
        with self._site(deployment, alone=True) as site:
            if site.kept() is None:
                what = "nothing serves there, beside which to try a release"
                raise MlspecError(f"{site.address}: {what}")
            with self._tried(site, release, smoke) as trial:
                yield trial

    def stop(self, deployment: str) -> None:
        with self._site(deployment, alone=True) as site:
            kept = site.kept()
            if kept is not None and kept.status != "stopped":
                site.systemctl("stop", PROXY)
                site.systemctl("stop", kept.slot)
                site.systemctl("disable", PROXY, kept.slot)
                site.keep(replace(kept, status="stopped"))

    def start(self, deployment: str) -> Running:
        with self._site(deployment, alone=True) as site:
            kept = site.kept()
            if kept is None:
                where = f"{site.address} was never deployed there"
                raise MlspecError(where, hint="run `mlspec apply`")
            self._run_kept(site, kept)
            return _observed(site)

    def rename(self, deployment: str, name: str) -> None:
        with self._site(deployment, alone=True) as site:
            kept, other = site.kept(), site.called(name)
            other.hold()
            now = other.kept() or kept
            if now is None:
                return
            # the record comes first: whatever happens, one of both names has it
            other.keep(now)
            if kept is not None:
                site.erase(captures=False)
            if now.status != "stopped" and not is_running(other.show(now.slot)[now.slot]):
                self._run_kept(other, now)

    def destroy(self, deployment: str) -> None:
        with self._site(deployment, alone=True) as site:
            site.erase()
            site.host.ask("prune", folder=site.base)

    def logs(self, deployment: str) -> tuple[Path, ...]:
        """What its units said lately, fetched into files."""
        with self._site(deployment) as site:
            kept = site.kept()
            if kept is None:
                return ()
            parts = (PROXY, other_slot(kept.slot), kept.slot)
            texts = {part: site.log(part, LOG_LINES) for part in parts}
        folder = make_own_folder(self.root, "logs", "hosts", f"{deployment}@{self.name}")
        for part, text in texts.items():
            (folder / f"{part}.log").write_text(text, encoding="utf-8")
        return tuple(folder / f"{part}.log" for part in parts)

    @contextmanager
    def _site(self, deployment: str, *, alone: bool = False) -> Iterator[Site]:
        """The deployment, while there is a connection; `alone` if others are to keep out."""
        known_hosts = self.place.get("known_hosts")
        way = Way(
            name=str(self.place["host"]),
            user=self.place.get("user"),
            port=self.place.get("ssh_port"),
            identity_env=self.place.get("identity_env"),
            known_hosts=self.root / known_hosts if known_hosts else None,
            python=str(self.place["python"]),
        )
        with Host(way, f"target {self.name}") as host:
            site = Site.find(host, self.place, self.name, deployment)
            if alone:
                site.hold()
            yield site

    @contextmanager
    def _tried(
        self, site: Site, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Iterator[SlotTrial]:
        """A candidate in the free slot, that is ready and has answered. What served before has all
        requests when the block ends without a promotion."""
        before = site.kept()
        if before is not None and before.token > release.token:
            raise MlspecError(
                f"{site.address}: a later apply deployed there meanwhile",
                hint="plan again and apply",
            )
        site.check(str(self.place["version"]))
        site.check_tokens(release.settings)
        kept = Kept(
            release=release.digest,
            model=release.model,
            version=release.version,
            status="serving",
            token=release.token,
            slot=other_slot(before.slot if before else None),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            files=_send(site, release),
            environment=_prepare(site, release),
            bentoml=(release.bento / "bento.yaml").is_file(),
            workers=release.workers,
            ports=before.ports if before else site.free_ports(),
            state=before.state if before else site.stem,
            settings=dict(release.settings),
        )
        not_taken = f"version {release.version} of {release.model} was not taken into service"
        failed = f"{site.address}: {not_taken}"
        _clear(site, kept, before)
        trouble = self._bring_up(site, kept, smoke)
        if trouble:
            site.systemctl("stop", kept.slot)
            if before is None:
                site.erase()
            site.host.ask("if_lost", calls=[])
            raise RolledBack(f"{failed}: {trouble}")

        def prepare() -> None:
            if before is not None:
                _ensure_proxy(site, kept, before)
                _await_up(site, kept)

        trial = SlotTrial(
            lambda: _look(site, kept, before),
            give=lambda share: site.proxy.weigh(share_out(kept.slot, share), {}),
            take=lambda: _take(site, kept, before),
            leave=lambda: _leave(site, kept, before),
            settled=lambda: site.kept() == kept,
        )
        with trying(trial, prepare, failed):
            yield trial

    def _bring_up(self, site: Site, kept: Kept, smoke: Sequence[Mapping[str, Any]]) -> str | None:
        """Run the release in its slot, wait, and ask it; why it is not good, or nothing."""
        site.write_unit(kept, kept.slot)
        try:
            site.systemctl("restart", kept.slot)
        except Refused as refused:
            return f"it does not start: {refused.said}\n{site.tail(kept.slot)}".rstrip()
        door: dict[str, Any] = {"port": kept.ports[kept.slot], "token": site.own_token(kept.slot)}
        deadline = time.monotonic() + self.ready_seconds
        ready = {"do": "get", "path": "/readyz", **door}
        while True:
            answer, told = site.host.many([ready, site.show_call(kept.slot)])
            shown = site.shown(told, kept.slot)[kept.slot]
            if restarts_of(shown) or shown.get("ActiveState") in ("failed", "inactive"):
                return f"its process ended by itself\n{site.tail(kept.slot)}".rstrip()
            if answer["status"] == 200:
                break
            if time.monotonic() > deadline:
                late = f"it was not ready within {self.ready_seconds:.0f} s"
                return f"{late}\n{site.tail(kept.slot)}".rstrip()
            time.sleep(LOOK_SECONDS)
        answers = [site.host.ask("predict", row=dict(row), **door) for row in smoke]
        told = [(each["status"], each["text"]) for each in answers]
        return judge_smoke(json.dumps(told), len(told))

    def _run_kept(self, site: Site, kept: Kept) -> None:
        """Have what was taken into service last run, and remember that it does."""
        site.check(str(self.place["version"]))
        trouble = self._bring_up(site, kept, ())
        if trouble:
            raise MlspecError(f"{site.address} did not start: {trouble}")
        _ensure_proxy(site, kept, kept)
        try:
            _await_up(site, kept)
        except NotUp as late:
            raise MlspecError(f"{site.address}: {late}") from None
        site.systemctl("enable", PROXY, kept.slot)
        site.keep(replace(kept, status="serving"))


def _send(site: Site, release: Release) -> str:
    """Have the files of a release there, in a folder of this name."""
    source, name = release.bento / "src", release.digest[:24]
    paths = {
        path.relative_to(source).as_posix(): path
        for path in sorted(source.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    files = {name: _sha256(path) for name, path in paths.items()}
    folder = f"{site.base}/releases/{name}"
    if not site.host.ask("has", path=folder, files=files):
        staged = site.host.ask("begin", path=folder)
        for inner, path in paths.items():
            site.host.put(f"{staged}/{inner}", path)
        site.host.ask("seal", staged=staged, path=folder, files=files)
    return name


def _prepare(site: Site, release: Release) -> str:
    """Have Python with the packages of a release there, in a folder of this name.

    Releases of the same requirements share it.
    """
    text = (release.bento / "src/requirements.txt").read_text(encoding="utf-8")
    name = environment_name(text, site.facts.interpreter, site.facts.version)
    folder = f"{site.base}/environments/{name}"
    site.host.ask("environment", path=folder, requirements=text, patience=BUILD_SECONDS)
    return name


def environment_name(requirements: str, interpreter: str, version: str) -> str:
    """Tells environments apart: by what is asked for, and by the Python that they are made of."""
    lines = [line for line in requirements.splitlines() if line and not line.startswith("#")]
    text = "\n".join([interpreter, version, *lines])
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _clear(site: Site, kept: Kept, before: Kept | None) -> None:
    """Have only what is settled, and see to it that this is so again if the connection is lost."""
    if before is None:
        parts = (PROXY, kept.slot)
        site.host.ask("if_lost", calls=[site.stop_call(*parts), site.disable_call(*parts)])
        return
    back = site.weigh_call(share_out(before.slot, 1.0))
    if is_running(site.show(PROXY)[PROXY]):
        with suppress(Refused):
            site.host.many([back])
    site.host.many([site.stop_call(kept.slot)])
    gone = [site.stop_call(kept.slot), site.disable_call(kept.slot)]
    site.host.ask("if_lost", calls=[back, *gone])


def _take(site: Site, kept: Kept, before: Kept | None) -> None:
    """All requests for the release; what served before ends when it has answered its own."""
    _ensure_proxy(site, kept, before)
    _await_up(site, kept)
    # if the host goes down in between, what its record and HAProxy's configuration say comes back
    site.systemctl("enable", PROXY, kept.slot)
    site.proxy.weigh(share_out(kept.slot, 1.0), {})
    site.settle(kept, before.slot if before else None)
    if before is not None:
        _drain(site, before.slot)


def _leave(site: Site, kept: Kept, before: Kept | None) -> None:
    """All requests for what served before; if nothing did, nothing is left."""
    if before is None:
        site.erase()
        site.host.ask("if_lost", calls=[])
        return
    with suppress(Refused):  # it may be what is wrong
        site.proxy.weigh(share_out(kept.slot, 0.0), {})
    # that of another port, or none, if the release was to have another one
    _ensure_proxy(site, before, None)
    _drain(site, kept.slot)


def _drain(site: Site, slot: str) -> None:
    """Wait until a slot that gets no requests has answered its last ones, and end it."""
    deadline = time.monotonic() + DRAIN_SECONDS
    with suppress(Refused):
        while site.proxy.look()[slot].asked and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
    site.systemctl("stop", slot)
    site.systemctl("disable", slot)
    site.host.ask("if_lost", calls=[])


def _ensure_proxy(site: Site, wanted: Kept, serving: Kept | None) -> None:
    """Have HAProxy run as the release wants it, with all requests for what serves.

    One that is as wanted stays. Another one is replaced, which takes a moment: the port is another
    one, or the program is.
    """
    workload = site.workload(replace(wanted, slot=(serving or wanted).slot))
    unit = render_unit(compile_units(workload)[PROXY], site.deployment)
    config = render_haproxy(workload)
    reads = [
        {"do": "read", "path": path} for path in (site.unit_path(PROXY), f"{site.folder}/{CONFIG}")
    ]
    *texts, told = site.host.many([*reads, site.show_call(PROXY)])
    running = is_running(site.shown(told, PROXY)[PROXY])
    if running and texts == [unit, config]:
        return
    listen, port = str(wanted.settings["ssh"]["listen"]), int(wanted.settings["port"])
    mine = running and f"bind {listen}:{port}\n" in (texts[1] or "")
    if not mine and not site.host.ask("is_free", address=listen, port=port):
        raise MlspecError(
            f"{site.host.where}: something else listens on port {port}",
            hint="free the port, or give the target another one",
        )
    # stopped before its files change: one that runs is one that has read them
    site.host.many([site.stop_call(PROXY)])
    site.host.many([site.config_call(replace(wanted, slot=(serving or wanted).slot))])
    site.write_unit(wanted, PROXY)
    site.systemctl("start", PROXY)


def _await_up(site: Site, kept: Kept) -> None:
    """Wait until HAProxy reaches the release."""
    deadline = time.monotonic() + UP_SECONDS
    while True:
        with suppress(Refused):  # it is just starting
            if site.proxy.look()[kept.slot].up:
                return
        if time.monotonic() > deadline:
            late = f"HAProxy does not reach it within {UP_SECONDS:.0f} s"
            raise NotUp(f"{late}\n{site.tail(PROXY)}".rstrip())
        time.sleep(LOOK_SECONDS)


def _look(site: Site, kept: Kept, before: Kept | None) -> Look:
    """What champion and candidate tell."""
    slots = (before.slot if before else kept.slot, kept.slot)
    metrics = [
        {
            "do": "get",
            "port": kept.ports[slot],
            "path": "/metrics",
            "token": site.own_token(slot),
        }
        for slot in slots
    ]
    champion, candidate, told = site.host.many([*metrics, site.show_call(kept.slot)])
    return Look(_counts(champion), _counts(candidate), _trouble(site.shown(told, kept.slot)))


def _counts(answer: Mapping[str, Any]) -> Counts | None:
    return parse_counts(str(answer["text"])) if answer["status"] == 200 else None


def _trouble(shown: Mapping[str, Shown]) -> str:
    [unit] = shown.values()
    if restarts := restarts_of(unit):
        return f"its process began anew {restarts} times"
    return "" if is_running(unit) else "its process does not run"


def _observed(site: Site) -> Running:
    kept = site.kept()
    if kept is None:
        raise MlspecError(f"{site.address} is gone")
    return _running(site, kept)


def _running(site: Site, kept: Kept) -> Running:
    parts = (PROXY, *SLOTS)
    shown = site.show(*parts)
    ready = is_running(shown[kept.slot])
    status: Literal["serving", "stopped", "down"] = (
        "stopped"
        if kept.status == "stopped"
        else "serving"
        if ready and is_running(shown[PROXY])
        else "down"
    )
    host, listen = str(site.place["host"]), str(kept.settings["ssh"]["listen"])
    name = host if listen == "0.0.0.0" else listen
    url = f"http://{name}:{kept.settings['port']}"
    return Running(
        status=status,
        release=kept.release,
        model=kept.model,
        version=kept.version,
        url=url,
        since=kept.since,
        workers=kept.workers,
        ready=kept.workers if ready else 0,
        restarts=restarts_of(shown[kept.slot]),
        differs=tuple(_differences(site, kept, shown)),
        note=f"serves at {url} of {host}" if listen.startswith("127.") else "",
    )


def _differences(site: Site, kept: Kept, shown: Mapping[str, Shown]) -> Iterator[Difference]:
    if kept.status == "stopped":
        return
    if site.facts.haproxy is None:
        yield PROXY, "program", None
        return
    units = compile_units(site.workload(kept))
    paths = [*(site.unit_path(part) for part in units), f"{site.folder}/{CONFIG}"]
    kinds = {"releases": kept.files, "environments": kept.environment}
    lists = [{"do": "list", "path": f"{site.base}/{kind}"} for kind in kinds]
    reads = [{"do": "read", "path": path} for path in paths]
    *there, config = site.host.many([*lists, *reads])
    texts = there[len(lists) :]
    for (kind, name), found in zip(kinds.items(), there, strict=False):
        if name not in found:
            yield f"{kept.slot}.{kind.removesuffix('s')}", name, None
    for (part, unit), text in zip(units.items(), texts, strict=True):
        yield from compare_unit(part, unit, text, shown[part])
    yield from compare_lines(f"{PROXY}.config", render_haproxy(site.workload(kept)), config)
    other = other_slot(kept.slot)
    if is_running(shown[other]):
        yield f"{other}.running", False, True
    if is_running(shown[PROXY]):
        with suppress(Refused):
            for slot, seen in site.proxy.look().items():
                if bool(seen.weight) != (slot == kept.slot):
                    was = "requests" if slot == kept.slot else "no requests"
                    yield f"{PROXY}.{slot}", was, f"weight {seen.weight}"
