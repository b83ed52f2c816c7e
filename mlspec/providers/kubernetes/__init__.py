"""A namespace of a cluster as a target, by kubectl; or its manifests in a folder, for GitOps.

`kubectl`  every call of the program: lists of arguments, limits of time, errors in words
`client`   observe, deploy, go back, stop, start, rename, destroy, logs
`kept`     what was applied last, as it is kept in the namespace, and what the cluster shows of it
`compare`  what of an object that the cluster has is not as mlspec applied it
`smoke`    asks a pod that gets no requests yet
`trial`    a candidate beside what serves, for rollouts
`kserve`   what is different where KServe makes the pods
`gitops`   the same protocol for a folder that Argo CD or Flux watches
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlspec.compilers.kserve import compile_kserve
from mlspec.compilers.kubernetes import compile_kubernetes
from mlspec.providers.kubernetes.client import KubernetesTarget
from mlspec.providers.kubernetes.gitops import GitOpsTarget
from mlspec.providers.kubernetes.kserve import KServeTarget
from mlspec.providers.target import Target


def make_kubernetes(root: Path, name: str, port: int, place: Mapping[str, Any]) -> Target:
    """The target: a cluster, or a folder of manifests if the spec names one."""
    if place.get("gitops"):
        return GitOpsTarget(root, name, port, place, "kubernetes", compile_kubernetes)
    return KubernetesTarget(root, name, port, place)


def make_kserve(root: Path, name: str, port: int, place: Mapping[str, Any]) -> Target:
    """The same for a cluster that has KServe."""
    if place.get("gitops"):
        return GitOpsTarget(root, name, port, place, "kserve", compile_kserve)
    return KServeTarget(root, name, port, place)
