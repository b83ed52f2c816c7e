"""A target that only notes what it is told, in place of a service that takes seconds to start.

`CRASH_TARGET` is the folder of its notes: for each deployment what serves, whole or as it was. Each
time that something is taken into service, the effect is noted beside it. Models need not be real
either, and a Bento is a copy of its sources.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlspec.providers import models, targets
from mlspec.providers.local import release as releases
from mlspec.providers.target import Release, Running

_SIGNATURE = {
    "columns": [{"name": "a", "type": "number"}],
    "layout": "matrix",
    "input": "x",
    "outputs": [{"name": "y", "type": "number", "role": "prediction"}],
    "example": {"a": 1.0},
}


@dataclass(frozen=True)
class NotedTarget:
    """A target of which the whole state is one file for each deployment."""

    root: Path
    name: str
    port: int

    def observe(self, deployment: str) -> Running | None:
        file = self._file(deployment)
        return Running(**json.loads(file.read_text())) if file.exists() else None

    def release(self, deployment: str) -> Release | None:
        running = self.observe(deployment)
        if running is None:
            return None
        return releases.load_release(self.root / releases.RELEASES / running.release[:12])

    def deploy(
        self, deployment: str, release: Release, _smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        url = f"http://127.0.0.1:{self.port}"
        since = "2026-01-01T00:00:00Z"
        running = Running(
            "serving", release.digest, release.model, release.version, url, since, 1, 1, 0
        )
        file = self._file(deployment)
        file.parent.mkdir(exist_ok=True)
        told = file.with_suffix(".new")
        told.write_text(json.dumps(asdict(running)))
        effect = f"deploy-{deployment}@{self.name}-{release.version}\n"
        with (file.parent.parent / "effects").open("a") as effects:
            effects.write(effect)
        told.replace(file)
        return running

    def destroy(self, deployment: str) -> None:
        self._file(deployment).unlink(missing_ok=True)

    def _file(self, deployment: str) -> Path:
        return Path(os.environ["CRASH_TARGET"]) / f"{deployment}@{self.name}.json"


def install() -> None:
    """Have all deployments there."""
    targets.KINDS[targets.LOCAL] = f"{__name__}:NotedTarget"
    models.inspect_declared = lambda *_, **__: _SIGNATURE  # type: ignore[assignment]
    releases._build_bento = _copy_sources


def _copy_sources(staging: Path, model_json: Mapping[str, Any], *_: Any) -> Path:
    bento = staging.resolve() / "home/bentos" / str(model_json["model"]) / "one"
    shutil.copytree(staging / "source", bento / "src")
    return bento
