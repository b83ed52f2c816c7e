"""Executors: of a kind that is installed, with an address, and storage that others reach."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points

from mlspec.spec.checks.values import check_repository
from mlspec.spec.interfaces import Face
from mlspec.spec.models import Executor, Spec
from mlspec.spec.show import escape, show
from mlspec.spec.suggest import did_you_mean, known_words
from mlspec.spec.tree import Path, Problem

GROUP = "mlspec.executors"
"""The group of entry points by which packages add kinds."""
BUILT_IN: Mapping[str, str] = {"dask": "mlspec.executors.dask.client:DaskExecutor"}

_DASK = re.compile(r"(?:tcp|tls|ucx|wss?)://(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}")


def check(spec: Spec, faces: Mapping[str, Face]) -> Iterator[Problem]:
    """Kinds that nobody knows, addresses that lead nowhere, storage that only this checkout has."""
    for name, executor in spec.executors.items():
        yield from _executor(executor, ("executors", name))
    local = not ("://" in spec.storage.url or spec.storage.url.startswith("/"))
    if spec.executors and local and any(_elsewhere(face) for face in faces.values()):
        message = f"{show(spec.storage.url)} is a folder of this checkout, and executors need it"
        hint = "write a URL such as ssh://host/folder, or a folder that all machines have"
        yield Problem("MLS048", ("storage", "url"), message, hint)


def _elsewhere(face: Face) -> bool:
    return bool(face.executor) or any(stage.executor for stage in face.stages.values())


def _executor(executor: Executor, path: Path) -> Iterator[Problem]:
    if executor.kind not in BUILT_IN:
        kinds = {*BUILT_IN, *entry_points(group=GROUP).names}
        if executor.kind not in kinds:
            hint = did_you_mean(executor.kind, kinds) or known_words(kinds)
            message = f"no executor of the kind {show(executor.kind)} is installed"
            yield Problem("MLS049", (*path, "kind"), message, hint)
    elif not _DASK.fullmatch(executor.address):
        hint = "write it as tcp://10.0.0.5:8786"
        if executor.address:
            message = f"{show(executor.address)} is not the address of a scheduler"
            yield Problem("MLS049", (*path, "address"), message, hint)
        else:
            yield Problem("MLS049", path, "the `address` of the scheduler is missing", hint, True)
    if escape(executor.address) != executor.address:
        message = "an address holds no control characters"
        yield Problem("MLS049", (*path, "address"), message)
    if executor.repository is not None:
        yield from check_repository(executor.repository, (*path, "repository"))
