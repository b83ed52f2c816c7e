"""What a checkout remembers of a deployment of which nothing runs between two applies.

A file for each, `.mlspec/<folder>/<deployment>@<target>.json`; other checkouts ask the ledger.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.atomic import make_own_folder, write_atomic
from mlspec.providers.target import Running


@dataclass(frozen=True, slots=True)
class Memory:
    """Of the deployments on one target. `keys` are what a file has, or it is taken for none."""

    root: Path
    folder: str
    target: str
    keys: frozenset[str]

    def load(self, deployment: str) -> Mapping[str, Any] | None:
        with suppress(OSError, ValueError):
            kept: Mapping[str, Any] = json.loads(self._file(deployment).read_bytes())
            if self.keys <= kept.keys():
                return kept
        return None

    def keep(self, deployment: str, kept: Mapping[str, Any]) -> None:
        make_own_folder(self.root, self.folder)
        write_atomic(self._file(deployment), json.dumps(kept, indent=2) + "\n")

    def rename(self, deployment: str, name: str) -> None:
        with suppress(FileNotFoundError):
            self._file(deployment).rename(self._file(name))

    def forget(self, deployment: str) -> None:
        self._file(deployment).unlink(missing_ok=True)

    def _file(self, deployment: str) -> Path:
        return self.root / ".mlspec" / self.folder / f"{deployment}@{self.target}.json"


def describe(
    kept: Mapping[str, Any],
    url: str,
    note: str,
    differs: tuple[tuple[str, Any, Any], ...] = (),
    **more: Any,
) -> Running:
    """What is remembered, as a target tells it: no process serves, and nothing is to be ready."""
    return Running(
        status="serving",
        release=kept["release"],
        model=kept["model"],
        version=kept["version"],
        url=url,
        since=kept["since"],
        workers=0,
        ready=0,
        restarts=0,
        differs=differs,
        note=note,
        manifests=True,
        **more,
    )
