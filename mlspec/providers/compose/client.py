"""What a command does with a deployment in containers of this machine: kind `compose`.

A new release comes up in the slot that is free and is asked there. HAProxy then gives it all
requests, the record is written, and the containers of the other slot end when they have answered
what they were asked. Whatever stands in a free slot is left of a command that was killed.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlspec.atomic import make_own_folder
from mlspec.compilers.compose import FOLDER, PROXY, TOKEN
from mlspec.compilers.haproxy import GRACE_SECONDS
from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.compose.engine import Engine
from mlspec.providers.compose.observe import observe_site
from mlspec.providers.compose.site import Kept, Site, label_of, part_of
from mlspec.providers.compose.slots import (
    await_up,
    bring_up,
    clear,
    ensure_proxy,
    leave,
    run_kept,
    take,
    weigh,
)
from mlspec.providers.compose.trial import Looker, read_counts
from mlspec.providers.images.build import image_of
from mlspec.providers.secrets import find_secret
from mlspec.providers.slots import SlotTrial, other_slot, trying
from mlspec.providers.target import Release, Running
from mlspec.rollouts.counts import Counts

LOG_LINES = 2000


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

    def observe(self, deployment: str) -> Running | None:
        return observe_site(self._site(deployment))

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None  # its files are in an image

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        site = self._site(deployment)
        with self._tried(site, release, smoke) as trial:
            trial.promote()
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
        site = self._site(deployment)
        if site.kept() is None:
            raise MlspecError(
                f"{site.address}: nothing serves there, beside which to try a release"
            )
        with self._tried(site, release, smoke) as trial:
            yield trial

    def stop(self, deployment: str) -> None:
        site = self._site(deployment)
        kept = site.kept()
        if kept is None or kept.status == "stopped":
            return
        names = sorted(site.live(), key=lambda name: not name.endswith(PROXY))
        self.engine.stop(names, GRACE_SECONDS)
        site.keep(replace(kept, status="stopped"))

    def start(self, deployment: str) -> Running:
        site = self._site(deployment)
        kept = site.kept()
        if kept is None:
            raise MlspecError(f"{site.address} was never deployed here", hint="run `mlspec apply`")
        run_kept(site, kept, self.ready_seconds)
        site.keep(replace(kept, status="serving"))
        return _observed(site)

    def rename(self, deployment: str, name: str) -> None:
        site = self._site(deployment)
        kept, other = site.kept(), site.called(name)
        if kept is None or other.kept() is not None:
            return
        site.remove_all()
        shutil.rmtree(other.folder, ignore_errors=True)  # of one that was never taken into service
        site.folder.rename(other.folder)
        other.settle(kept)
        if kept.status != "stopped":
            run_kept(other, kept, self.ready_seconds)

    def destroy(self, deployment: str) -> None:
        site = self._site(deployment)
        kept = site.kept()
        if kept is None and not site.folder.exists():
            return
        site.remove_all()
        if kept is not None:
            self.engine.forget("volume", kept.volume)
        shutil.rmtree(site.folder, ignore_errors=True)

    def counts(self, deployment: str) -> Counts | None:
        site = self._site(deployment)
        kept = site.kept()
        if kept is None:
            return None
        own = [each for each in site.live().values() if part_of(each) == kept.slot]
        return read_counts(self.engine, own)

    def logs(self, deployment: str) -> tuple[Path, ...]:
        """What its containers said lately, fetched into files."""
        site = self._site(deployment)
        if site.kept() is None:
            return ()
        folder = make_own_folder(self.root, "logs", "containers", site.folder.name)
        paths = []
        for name in sorted(site.live()):
            text = self.engine.run("logs", f"--tail={LOG_LINES}", name, errors=True)
            path = folder / f"{name}.log"
            path.write_text(text, encoding="utf-8")
            paths.append(path)
        return tuple(paths)

    @contextmanager
    def _tried(
        self, site: Site, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Iterator[SlotTrial]:
        """A candidate in the free slot, that is ready and has answered. What served before has all
        requests when the block ends without a promotion."""
        before = site.kept()
        _unless_later(site, release, before)
        kept = self._candidate(site, release, before)
        clear(site, before)
        failed_to = f"version {release.version} of {release.model} was not taken into service"
        not_taken = f"{site.address}: {failed_to}"
        if failed := bring_up(site, kept, smoke, self.ready_seconds):
            site.remove_slot(kept.slot, grace=1)  # nobody asked it anything
            if before is None:
                site.remove_all()
            raise RolledBack(f"{not_taken}: {failed}")

        def prepare() -> None:
            if before is not None:
                ensure_proxy(site, kept, before)
                await_up(site, kept)

        slots = (before.slot if before else kept.slot, kept.slot)
        trial = SlotTrial(
            Looker(self.engine, site.labels, slots).look,
            give=lambda share: weigh(site, kept, before, share),
            take=lambda: take(site, kept, before),
            leave=lambda: leave(site, kept, before),
            settled=lambda: site.kept() == kept,
        )
        with trying(trial, prepare, not_taken):
            yield trial

    def _candidate(self, site: Site, release: Release, before: Kept | None) -> Kept:
        """What will be recorded of a release once it is taken; its image is there then."""
        # before anything changes: nothing may be built for an engine that is not there
        self.engine.run("version")
        if auth := release.settings.get("auth"):
            find_secret(auth["file"], self.root, site.address)
        for file in (release.settings["compose"].get("tls") or {}).values():
            if file is not None:
                find_secret(file, self.root, site.address)
        program = Path(self.engine.program).name
        image = image_of(self.root, site.deployment, release, "compose", program)
        return Kept(
            release=release.digest,
            model=release.model,
            version=release.version,
            status="serving",
            token=release.token,
            slot=other_slot(before.slot if before else None),
            image=image,
            image_id=self.engine.image_id(image),
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            volume=before.volume if before else f"{site.stack}-captures",
            settings=dict(release.settings),
        )

    def _site(self, deployment: str) -> Site:
        return Site(self.engine, self.root, self.place, self.name, deployment)


def _unless_later(site: Site, release: Release, before: Kept | None) -> None:
    """Raise if a later apply than this one was here, or one of another checkout."""
    containers = site.live().values()
    tokens = [int(label_of(each, TOKEN) or 0) for each in containers]
    if max([before.token if before else 0, *tokens]) > release.token:
        raise MlspecError(
            f"{site.address}: a later apply deployed here meanwhile", hint="plan again and apply"
        )
    folder = str(site.folder)
    other = next((f for each in containers if (f := label_of(each, FOLDER)) != folder), None)
    if other is not None:
        raise MlspecError(
            f"{site.address}: another checkout runs it on this machine, from {other}",
            hint="`mlspec destroy` there takes it away",
        )


def _observed(site: Site) -> Running:
    running = observe_site(site)
    if running is None:
        raise MlspecError(f"{site.address} is gone")
    return running
