"""A folder of manifests as a target: what a cluster should have, for Argo CD or Flux to apply.

Deploying writes files, which people or a job of the CI commit; that it serves is for the cluster to
see to. Beside the manifests of a deployment lies what was written::

    <gitops>/<deployment>/mlspec.json   the release, its image, and the sha256 of each manifest
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.atomic import write_atomic
from mlspec.compilers.kubernetes import Object, Track, Workload
from mlspec.compilers.kustomize import LIST, compile_kustomize, compile_list
from mlspec.errors import MlspecError
from mlspec.providers.images.build import image_of
from mlspec.providers.target import Release, Running

RECORD = "mlspec.json"
_KEPT = {
    "release": str,
    "model": str,
    "version": int,
    "image": str,
    "settings": dict,
    "files": dict,
}


@dataclass(frozen=True, slots=True)
class GitOpsTarget:
    """A target with `gitops`; `place` is what the spec says of it, `compile` makes the objects of
    its kind."""

    root: Path
    name: str
    port: int
    place: Mapping[str, Any]
    kind: str
    compile: Callable[[Workload], Sequence[Object]]

    @property
    def folder(self) -> str:
        return str(self.place["gitops"])

    def observe(self, deployment: str) -> Running | None:
        kept = self._kept(deployment)
        if kept is None:
            return None
        return self._running(deployment, kept, tuple(self._differences(deployment, kept)))

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None  # its files are in an image, and no longer here

    def deploy(
        self,
        deployment: str,
        release: Release,
        smoke: Sequence[Mapping[str, Any]],  # noqa: ARG002 the target before was asked
    ) -> Running:
        image = image_of(self.root, deployment, release, self.kind)
        kept = {
            "release": release.digest,
            "model": release.model,
            "version": release.version,
            "image": image,
            "settings": dict(release.settings),
        }
        self._write(deployment, kept)
        return self._running(deployment, kept, ())

    def stop(self, deployment: str) -> None:
        raise self._not_here("stop", deployment)

    def start(self, deployment: str) -> Running:
        raise self._not_here("start", deployment)

    def rename(self, deployment: str, name: str) -> None:
        kept = self._kept(deployment)
        if kept is None:
            return
        if self._kept(name) is None:
            self._write(name, kept)
        self.destroy(deployment)

    def destroy(self, deployment: str) -> None:
        shutil.rmtree(self.root / self.folder / deployment, ignore_errors=True)
        self._list()

    def logs(self, deployment: str) -> tuple[Path, ...]:
        raise self._not_here("logs", deployment)

    def _write(self, deployment: str, kept: Mapping[str, Any]) -> None:
        track = Track(kept["model"], kept["version"], kept["release"], kept["image"])
        project = str(self.place["project"])
        settings = kept["settings"]
        workload = Workload(deployment, self.name, project, settings, track, kind=self.kind)
        files = compile_kustomize(self.folder, deployment, self.compile(workload))
        folder = self.root / self.folder / deployment
        folder.mkdir(parents=True, exist_ok=True)
        for file in files:
            write_atomic(self.root / file.path, file.text)
        digests = {Path(each.path).name: _sha256(each.text.encode()) for each in files}
        for left in folder.glob("*.yaml"):
            if left.name not in digests:
                left.unlink()
        record = {**kept, "files": digests}
        write_atomic(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")
        self._list()

    def _list(self) -> None:
        folder = self.root / self.folder
        names = [each.parent.name for each in folder.glob(f"*/{RECORD}")]
        if names:
            write_atomic(folder / LIST, compile_list(self.folder, self.name, names).text)
        else:
            (folder / LIST).unlink(missing_ok=True)

    def _kept(self, deployment: str) -> Mapping[str, Any] | None:
        path = self.root / self.folder / deployment / RECORD
        with suppress(OSError, ValueError):
            found = json.loads(path.read_bytes())
            if isinstance(found, dict) and all(
                isinstance(found.get(key), kind) for key, kind in _KEPT.items()
            ):
                return found
        return None

    def _differences(
        self, deployment: str, kept: Mapping[str, Any]
    ) -> Sequence[tuple[str, Any, Any]]:
        folder = self.root / self.folder / deployment
        found = {each.name: _sha256(each.read_bytes()) for each in folder.glob("*.yaml")}
        written = kept["files"]
        return [
            (f"{self.folder}/{deployment}/{name}", _short(written, name), _short(found, name))
            for name in sorted({*written, *found})
            if written.get(name) != found.get(name)
        ]

    def _running(
        self,
        deployment: str,
        kept: Mapping[str, Any],
        differs: tuple[tuple[str, Any, Any], ...],
    ) -> Running:
        return Running(
            status="serving",
            release=kept["release"],
            model=kept["model"],
            version=kept["version"],
            url=f"{self.folder}/{deployment}",
            since="",
            workers=0,
            ready=0,
            restarts=0,
            differs=differs,
            image=kept["image"],
            manifests=True,
            note=f"is written to {self.folder}/{deployment}; commit it, and the cluster takes it",
        )

    def _not_here(self, verb: str, deployment: str) -> MlspecError:
        return MlspecError(
            f"deployment.{deployment}@{self.name} is manifests in {self.folder}: "
            f"mlspec has no way to `{verb}` it",
            hint="ask the cluster, with kubectl or with what applies the manifests there",
        )


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _short(digests: Mapping[str, str], name: str) -> str | None:
    return digests[name][:12] if name in digests else None
