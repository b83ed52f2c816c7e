"""A registry as a target: an image of the release is pushed, and others run it.

A file tells this checkout what it pushed last; other ones know it from the ledger::

    .mlspec/images/<deployment>@<target>.json

Nothing is ever removed from the registry.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlspec.compilers.containerfile import PYTHON
from mlspec.errors import MlspecError, RolledBack
from mlspec.fetching.registry import has_manifest
from mlspec.providers.compose.engine import PROGRAMS, Engine, Refused
from mlspec.providers.images.build import image_of
from mlspec.providers.images.builder import find_builder
from mlspec.providers.inside import (
    READY_CODE,
    SMOKE_CODE,
    SMOKE_SECONDS,
    judge_smoke,
    smoke_input,
)
from mlspec.providers.remembered import Memory, describe
from mlspec.providers.target import Release, Running

KEYS = frozenset(("release", "model", "version", "image", "since"))
READY_SECONDS = 120.0
LOOK_SECONDS = 0.5
TROUBLE_LINES = 20


@dataclass(frozen=True, slots=True)
class ImageTarget:
    """A target of kind `image`. `place` is what the spec says of it, and the project."""

    root: Path
    name: str
    port: int = 0
    place: Mapping[str, Any] | None = None

    def observe(self, deployment: str) -> Running | None:
        """Asks the registry whether it has what was pushed from here."""
        kept = self._memory.load(deployment)
        if kept is None:
            return None
        variable = ((self.place or {}).get("image") or {}).get("auth_env") or ""
        there = has_manifest(kept["image"], os.environ.get(variable, ""))
        gone = () if there else (("image", kept["image"], None),)
        return _running(kept, f"is {kept['image']}", gone)

    def release(self, deployment: str) -> Release | None:  # noqa: ARG002
        return None  # its files are in an image

    def deploy(
        self, deployment: str, release: Release, smoke: Sequence[Mapping[str, Any]]
    ) -> Running:
        image = image_of(self.root, deployment, release, "image")
        note = f"is {image}"
        if smoke:
            note += f"; {self._ask(deployment, release, image, smoke)}"
        kept = {
            "release": release.digest,
            "model": release.model,
            "version": release.version,
            "image": image,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        self._memory.keep(deployment, kept)
        return _running(kept, note)

    def stop(self, deployment: str) -> None:
        raise self._runs_nothing(deployment)

    def start(self, deployment: str) -> Running:
        raise self._runs_nothing(deployment)

    def rename(self, deployment: str, name: str) -> None:
        """What it is called in the registry stays: its digest is what counts."""
        self._memory.rename(deployment, name)

    def destroy(self, deployment: str) -> None:
        """Forget it; the registry keeps its image."""
        self._memory.forget(deployment)

    def logs(self, deployment: str) -> tuple[Path, ...]:  # noqa: ARG002
        return ()

    @property
    def _memory(self) -> Memory:
        return Memory(self.root, "images", self.name, KEYS)

    def _runs_nothing(self, deployment: str) -> MlspecError:
        return MlspecError(
            f"deployment.{deployment}@{self.name} is an image in a registry: nothing runs there",
            hint="stop and start it where it runs",
        )

    def _ask(
        self,
        deployment: str,
        release: Release,
        image: str,
        smoke: Sequence[Mapping[str, Any]],
    ) -> str:
        """Have the image answer the rows here, if something can run it; says what came of it."""
        program = next((name for name in PROGRAMS if shutil.which(name)), None)
        if program is None:
            return f"smoke was not tried: there is no {' and no '.join(PROGRAMS)} here"
        variable = ((self.place or {}).get("image") or {}).get("auth_env")
        find_builder(variable, program).fetch(image)
        engine = Engine(program, f"target {self.name}")
        container = f"mlspec-smoke-{uuid.uuid4().hex[:12]}"
        fenced = ("--network=none", "--read-only", "--tmpfs=/tmp", "--cap-drop=ALL")
        try:
            engine.run("run", "--detach", f"--name={container}", *fenced, image)
            trouble = _await_ready(engine, container)
            if trouble is None:
                call = ("exec", "--interactive", container, PYTHON, "-c", SMOKE_CODE)
                told = engine.run(*call, stdin=smoke_input(smoke), seconds=SMOKE_SECONDS)
                trouble = judge_smoke(told, len(smoke))
        finally:
            engine.remove([container])
        if trouble is not None:
            raise RolledBack(
                f"deployment.{deployment}@{self.name}: version {release.version} of "
                f"{release.model} was not taken: {trouble}"
            )
        return f"{len(smoke)} smoke requests were answered"


def _await_ready(engine: Engine, container: str) -> str | None:
    """Why a container does not answer; nothing if it does."""
    deadline = time.monotonic() + READY_SECONDS
    while True:
        with suppress(Refused):
            engine.run("exec", container, PYTHON, "-c", READY_CODE)
            return None
        state = engine.run("inspect", "--format={{.State.Running}}", container).strip()
        ended = state != "true"
        if ended or time.monotonic() > deadline:
            said = engine.run("logs", f"--tail={TROUBLE_LINES}", container, errors=True)
            late = f"it was not ready within {READY_SECONDS:.0f} s"
            return f"{'its container ended by itself' if ended else late}\n{said}".rstrip()
        time.sleep(LOOK_SECONDS)


def _running(
    kept: Mapping[str, Any], note: str, differs: tuple[tuple[str, Any, Any], ...] = ()
) -> Running:
    return describe(kept, kept["image"], note, differs, image=kept["image"])
