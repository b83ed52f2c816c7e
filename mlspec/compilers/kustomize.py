"""Manifests as files that Argo CD, Flux or `kubectl apply -k` take: objects in, files out.

::

    <folder>/kustomization.yaml                a list of the deployments that are there
    <folder>/<deployment>/kustomization.yaml   a list of its objects
    <folder>/<deployment>/<kind>.yaml          one object
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mlspec.compilers.generated import GeneratedFile, header
from mlspec.compilers.kubernetes import STABLE, TRACK, Object
from mlspec.compilers.yaml_text import render_yaml
from mlspec.plan import Consequence

LIST = "kustomization.yaml"
_API = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}


def compile_kustomize(
    folder: str, deployment: str, objects: Sequence[Object]
) -> tuple[GeneratedFile, ...]:
    """The files of one deployment."""
    owner = f"deployment.{deployment}"
    named = {_file(each): each for each in objects}
    texts = {name: render_yaml(each, head=[header(owner)]) for name, each in named.items()}
    content = {**_API, "resources": sorted(named)}
    texts[LIST] = render_yaml(content, head=[header(owner)])
    return tuple(
        GeneratedFile(f"{folder}/{deployment}/{name}", text, owner, Consequence.REDEPLOY)
        for name, text in sorted(texts.items())
    )


def compile_list(folder: str, target: str, deployments: Iterable[str]) -> GeneratedFile:
    """The file by which a cluster takes all deployments of a folder."""
    owner = f"target.{target}"
    text = render_yaml({**_API, "resources": sorted(deployments)}, head=[header(owner)])
    return GeneratedFile(f"{folder}/{LIST}", text, owner)


def _file(item: Object) -> str:
    track = item["metadata"]["labels"].get(TRACK, STABLE)
    kind = str(item["kind"]).lower()
    return f"{kind}.yaml" if track == STABLE else f"{kind}-{track}.yaml"
