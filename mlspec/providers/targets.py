"""Every kind of target by its name, and what runs on this machine.

Comes in: a repository's root and what the spec says of a target. Goes out: a :class:`Target`. A
package adds a kind by an entry point in the group `mlspec.targets`: a class, or a function, that is
called with the root, the target's name and its port.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mlspec.errors import MlspecError
from mlspec.providers.local.rundir import list_runs, load_state
from mlspec.providers.target import Target
from mlspec.resources import DeploymentResource

LOCAL = "local"
KINDS = {
    LOCAL: "mlspec.providers.local.client:LocalTarget",
    "compose": "mlspec.providers.compose.client:ComposeTarget",
    "kubernetes": "mlspec.providers.kubernetes:make_kubernetes",
    "batch": "mlspec.providers.batch:BatchTarget",
    "image": "mlspec.providers.images.target:ImageTarget",
    "kserve": "mlspec.providers.kubernetes:make_kserve",
    "ssh": "mlspec.providers.ssh.client:SshTarget",
    "sagemaker": "mlspec.providers.sagemaker.client:SageMakerTarget",
}
"""Modules and names in them; a module is imported when a target of its kind is asked for."""
GROUP = "mlspec.targets"
Make = Callable[..., Target]
NOWHERE: Mapping[str, Any] = MappingProxyType({})


def make_target(
    root: Path,
    name: str,
    *,
    kind: str = LOCAL,
    port: int = 0,
    place: Mapping[str, Any] = NOWHERE,
) -> Target:
    """The target of this name; its port matters only to what will be started there.

    `place` is what the spec says of one that is not this machine.
    """
    return _load(kind)(root, name, port, place) if place else _load(kind)(root, name, port)


def target_of(root: Path, resource: DeploymentResource) -> Target:
    """Where a deployment runs."""
    return make_target(
        root, resource.target, kind=resource.kind, port=resource.port, place=resource.place
    )


def target_where(root: Path, name: str, where: Mapping[str, Any] | None) -> Target:
    """A target as the ledger remembers it; nothing remembered is this machine."""
    if where is None:
        return make_target(root, name)
    other = ("kind", "port", "resources")
    place = {key: value for key, value in where.items() if key not in other}
    return make_target(root, name, kind=where["kind"], port=where["port"], place=place)


def found_here(root: Path) -> tuple[tuple[str, str], ...]:
    """Deployment and target of all that was started from this checkout and not destroyed since.

    They may be unknown to the spec and to the ledger: an apply was killed before it recorded them.
    """
    return tuple(
        (deployment, target)
        for run_dir in list_runs(root)
        if load_state(run_dir) is not None
        for deployment, _, target in [run_dir.name.partition("@")]
    )


def _load(kind: str) -> Make:
    make: Make
    if kind in KINDS:
        module, _, name = KINDS[kind].partition(":")
        make = getattr(import_module(module), name)
        return make
    for point in entry_points(group=GROUP, name=kind):
        make = point.load()
        return make
    known = ", ".join(sorted({*KINDS, *entry_points(group=GROUP).names}))
    raise MlspecError(f"there is no kind of target named {kind}", hint=f"there are: {known}")
