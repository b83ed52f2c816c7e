"""Targets: each has what its kind needs and no key that its kind has no use for."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from mlspec.spec.checks.services import check_host_path
from mlspec.spec.models import TARGET_KEYS, Deployment, Replicas, Spec, Target
from mlspec.spec.show import show
from mlspec.spec.tree import Path, Problem

MOST_CONTAINERS = 16
"""Of a deployment on one machine."""
MAX_OBJECT = 52
"""Of the name of a deployment: Kubernetes adds to it, and stops at 63 characters."""
CLUSTERS = ("kubernetes", "kserve")
"""Kinds of targets that are a namespace of a cluster."""
_AT_GATEWAY = ("kserve", "kubernetes", "sagemaker")
BESIDE = ("canary", "trial")
"""What is put behind the name of a deployment for a release that is beside it."""
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_CONTEXT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:/@+-]{0,252}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_STEP = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REGISTRY = r"[A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*(?::[0-9]{1,5})?"
_REPOSITORY = re.compile(rf"(?=.{{1,200}}\Z){_REGISTRY}(?:/{_STEP})*")
_IMAGE = re.compile(
    rf"(?=.{{1,400}}\Z)(?:{_REGISTRY}/)?{_STEP}(?:/{_STEP})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
_OF_SSH = (
    (
        "host",
        re.compile(r"(?![.-])[A-Za-z0-9._-]{1,253}|[0-9a-fA-F:]*:[0-9a-fA-F:.]+"),
        "the name of a host",
        "write a name or an address alone; `user` and `ssh_port` are keys of their own",
    ),
    (
        "user",
        re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}"),
        "the name of a user",
        "write letters, digits, `-`, `_` and `.`, such as mlspec",
    ),
    (
        "identity_env",
        _VARIABLE,
        "the name of an environment variable",
        "write its name, such as DEPLOY_KEY_FILE; it holds the path of the key",
    ),
    (
        "folder",
        re.compile(r"(?:~/|/)[A-Za-z0-9_.][A-Za-z0-9_.@/-]{0,199}"),
        "a folder on the host",
        "write /opt/mlspec or ~/mlspec: letters, digits, `-`, `_`, `.` and `@`",
    ),
    (
        "python",
        re.compile(r"[A-Za-z0-9_/][A-Za-z0-9_.+/-]{0,199}"),
        "the name or path of a program",
        "write python3.11 or /opt/python/bin/python3.11",
    ),
)
_KEY = re.compile(r"(?:[a-z0-9.-]{1,253}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_VALUE = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")


def check(spec: Spec) -> Iterator[Problem]:
    """Problems of targets, and of what deployments ask of them."""
    if spec.python.image is not None and not _IMAGE.fullmatch(spec.python.image):
        hint = "write it as python:3.11-slim@sha256:..."
        message = f"{show(spec.python.image)} is not the name of an image"
        yield Problem("MLS097", ("python", "image"), message, hint)
    for name, target in spec.targets.items():
        if target.kind in CLUSTERS:
            yield from _cluster(target, ("targets", name))
        elif target.kind == "compose":
            yield from _compose(target, ("targets", name))
        elif target.kind == "ssh":
            yield from _ssh(target, ("targets", name))
        elif target.kind == "image":
            yield from _registry(target, ("targets", name))
        elif target.kind == "batch" and "port" in target.model_fields_set:
            message = "nothing listens on a target of kind `batch`, so `port` has no use"
            yield Problem("MLS096", ("targets", name, "port"), message, "remove it", on_key=True)
        yield from _unused(target, ("targets", name))
    yield from _places(spec)
    for name, deployment in spec.deployments.items():
        for target_name in deployment.targets:
            if target_name in spec.targets:
                yield from _deployment(name, deployment, target_name, spec.targets[target_name])
    yield from _beside(spec)


def _unused(target: Target, at: Path) -> Iterator[Problem]:
    known = dict.fromkeys(key for keys in TARGET_KEYS.values() for key in keys)
    for key in known:
        if key == "tls" and target.tls is not None and target.kind in _AT_GATEWAY:
            message = f"a target of kind `{target.kind}` has no proxy of mlspec's own"
            hint = "remove it: TLS, and certificates of clients, are matters of the gateway"
            yield Problem("MLS096", (*at, key), message, hint, on_key=True)
            continue
        if key in target.model_fields_set and key not in TARGET_KEYS[target.kind]:
            message = f"a target of kind `{target.kind}` has no use for `{key}`"
            kinds = [kind for kind, keys in TARGET_KEYS.items() if key in keys]
            hint = f"remove it, or write `kind: {' or '.join(kinds)}`"
            yield Problem("MLS096", (*at, key), message, hint, on_key=True)


def _registry(target: Target, at: Path) -> Iterator[Problem]:
    """One that images are pushed to, and nothing runs on."""
    yield from _image(target, at)
    if target.image is not None and target.image.pull_secret is not None:
        message = "a target of kind `image` pulls nothing, so `pull_secret` has no use"
        hint = "remove it; `auth_env` names the credentials"
        yield Problem("MLS096", (*at, "image", "pull_secret"), message, hint, on_key=True)
    if "port" in target.model_fields_set:
        message = "nothing listens on a target of kind `image`, so `port` has no use"
        yield Problem("MLS096", (*at, "port"), message, "remove it", on_key=True)


def _compose(target: Target, at: Path) -> Iterator[Problem]:
    if target.image is not None:
        yield from _image(target, at)
        if target.image.pull_secret is not None:
            message = "a target of kind `compose` has no Secrets, so `pull_secret` has no use"
            hint = "remove it; `auth_env` names the credentials"
            yield Problem("MLS096", (*at, "image", "pull_secret"), message, hint, on_key=True)
    if target.proxy is not None and not _IMAGE.fullmatch(target.proxy):
        message = f"{show(target.proxy)} is not the name of an image"
        hint = "write it as haproxy:3.0-alpine@sha256:..."
        yield Problem("MLS097", (*at, "proxy"), message, hint)
    if target.tls is not None:
        for key in ("certificate", "client_ca"):
            if (file := getattr(target.tls, key)) is not None:
                yield from check_host_path(file, (*at, "tls", key), f"/etc/mlspec/{key}.pem")
    yield from _listen(target, at)


def _ssh(target: Target, at: Path) -> Iterator[Problem]:
    """Nothing of it may read as an option of ssh, or mean something to a shell."""
    if target.host is None:
        yield _missing(target, at, "host", "ml1.example.org")
    for key, pattern, what, hint in _OF_SSH:
        value = getattr(target, key)
        if value is not None and not pattern.fullmatch(value):
            yield Problem("MLS097", (*at, key), f"{show(value)} is not {what}", hint)
    if target.folder is not None and ".." in target.folder.split("/"):
        message = f"{show(target.folder)} leads out of itself"
        yield Problem("MLS097", (*at, "folder"), message, "write it without `..`")
    yield from _listen(target, at)


def _listen(target: Target, at: Path) -> Iterator[Problem]:
    try:
        ipaddress.IPv4Address(target.listen)
    except ValueError:
        message = f"{show(target.listen)} is not an IPv4 address of the machine"
        hint = "write 127.0.0.1, 0.0.0.0 for all of them, or one of them"
        yield Problem("MLS097", (*at, "listen"), message, hint)


def _cluster(target: Target, at: Path) -> Iterator[Problem]:
    if target.namespace is None:
        yield _missing(target, at, "namespace", "ml")
    else:
        yield from _name(target.namespace, (*at, "namespace"), "a namespace")
    if target.gitops is None and target.context is None:
        yield _missing(
            target, at, "context", "NAME", "; `kubectl config get-contexts` has the names"
        )
    if target.gitops is not None:
        for key in ("context", "ready"):
            if key in target.model_fields_set:
                message = f"with `gitops` nothing is applied, so `{key}` has no use"
                yield Problem("MLS096", (*at, key), message, "remove one of them", on_key=True)
    elif target.context is not None and not _CONTEXT.fullmatch(target.context):
        message = f"{show(target.context)} is not the name of a context"
        hint = "`kubectl config get-contexts` has the names"
        yield Problem("MLS097", (*at, "context"), message, hint)
    if target.captures is not None:
        yield from _name(target.captures, (*at, "captures"), "a PersistentVolumeClaim")
        if target.kind == "kserve" and target.mode == "knative":
            message = "a pod of Knative cannot write to a folder of its own name on a volume"
            hint = "remove it, or write `mode: standard`"
            yield Problem("MLS096", (*at, "captures"), message, hint, on_key=True)
    if target.kind == "kserve" and "port" in target.model_fields_set:
        message = "KServe says on which port a service answers, so `port` has no use"
        yield Problem("MLS096", (*at, "port"), message, "remove it", on_key=True)
    yield from _image(target, at)
    yield from _around(target, at)


def _image(target: Target, at: Path) -> Iterator[Problem]:
    image = target.image
    if image is None:
        yield _missing(target, at, "image", "{repository: registry.example.org/ml}")
        return
    if not _REPOSITORY.fullmatch(image.repository):
        message = f"{show(image.repository)} is not a place in a registry"
        hint = "write HOST/FOLDER in small letters, without a tag: registry.example.org/ml"
        yield Problem("MLS097", (*at, "image", "repository"), message, hint)
    if image.auth_env is not None and not _VARIABLE.fullmatch(image.auth_env):
        message = f"{show(image.auth_env)} is not the name of an environment variable"
        hint = "write its name, such as REGISTRY_AUTH_FILE; credentials do not belong into a spec"
        yield Problem("MLS097", (*at, "image", "auth_env"), message, hint)
    if image.pull_secret is not None:
        yield from _name(image.pull_secret, (*at, "image", "pull_secret"), "a Secret")


def _around(target: Target, at: Path) -> Iterator[Problem]:
    if target.gateway is not None:
        gateway, path = target.gateway, (*at, "gateway")
        yield from _name(gateway.name, (*path, "name"), "a Gateway")
        if gateway.namespace is not None:
            yield from _name(gateway.namespace, (*path, "namespace"), "a namespace")
        if not _HOST.fullmatch(gateway.host):
            message = f"{show(gateway.host)} is not the name of a host"
            hint = "write it without scheme and port: models.example.org"
            yield Problem("MLS097", (*path, "host"), message, hint)
    if target.metrics is not None:
        path = (*at, "metrics")
        yield from _name(target.metrics.namespace, (*path, "namespace"), "a namespace")
        for key, value in target.metrics.labels.items():
            if not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
                message = f"{show(f'{key}: {value}')} is not a label that Kubernetes takes"
                hint = "write letters, digits, `-`, `_` and `.`: {release: prometheus}"
                yield Problem("MLS097", (*path, "labels", key), message, hint)
    for index, client in enumerate(target.network.clients):
        yield from _name(client, (*at, "network", "clients", index), "a namespace")


def _places(spec: Spec) -> Iterator[Problem]:
    """Two targets that would write the same objects, or the same files."""
    seen: dict[tuple[str, ...], str] = {}
    for name, target in spec.targets.items():
        if target.kind not in CLUSTERS:
            continue
        place: tuple[str, ...] = (target.context or "", target.namespace or "")
        if target.gitops is not None:
            place = (target.gitops,)
        other = seen.setdefault(place, name)
        if other != name:
            key = "gitops" if target.gitops is not None else "namespace"
            message = f"target `{other}` is the same place"
            yield Problem("MLS098", ("targets", name, key), message, f"give it a {key} of its own")


def _deployment(
    name: str, deployment: Deployment, target_name: str, target: Target
) -> Iterator[Problem]:
    at = ("deployments", name)
    replicas = deployment.resources.replicas
    if target.kind == "image" and deployment.capture is not None:
        message = f"target `{target_name}` only keeps images, so nothing is captured there"
        hint = "remove it, or deploy to targets that run what they have"
        yield Problem("MLS096", (*at, "capture"), message, hint, on_key=True)
    if target.kind == "compose":
        if replicas is not None:
            place = (*at, "resources", "replicas")
            yield from check_fixed(replicas, target_name, target.kind, place)
            if replicas.most == replicas.min > MOST_CONTAINERS:
                message = f"{replicas.min} copies; `{target_name}` has at most {MOST_CONTAINERS}"
                yield Problem("MLS097", place, message, "write fewer: they are all on one machine")
        return
    if target.kind == "sagemaker":
        return  # see sagemaker.py
    if target.kind not in CLUSTERS:
        if replicas is not None:
            message = f"target `{target_name}` is {target.kind} and has no replicas"
            hint = "leave `replicas` out: each processor has a worker"
            yield Problem("MLS096", (*at, "resources", "replicas"), message, hint, on_key=True)
        return
    if replicas is not None and replicas.most < replicas.min:
        message = f"at least {replicas.min} and at most {replicas.most} is no number of copies"
        yield Problem("MLS097", (*at, "resources", "replicas"), message, "`min` is not above `max`")
    if len(name) > MAX_OBJECT:
        message = f"a name of {len(name)} characters; target `{target_name}` takes {MAX_OBJECT}"
        yield Problem("MLS097", at, message, "shorten it", on_key=True)
    if deployment.smoke and target.gitops is not None and target.after not in deployment.targets:
        message = f"target `{target_name}` only writes manifests, so nothing there answers `smoke`"
        hint = "have a target before it that the deployment is on too: `after: TARGET`"
        yield Problem("MLS096", (*at, "smoke"), message, hint, on_key=True)
    if deployment.capture is not None and target.captures is None:
        message = f"target `{target_name}` has no place for captures: they would go with their pod"
        hint = f"name a PersistentVolumeClaim: `targets.{target_name}.captures`, or remove this"
        yield Problem("MLS096", (*at, "capture"), message, hint, on_key=True)


def _beside(spec: Spec) -> Iterator[Problem]:
    """Deployments that are called as what is beside another one: each would take the other's."""
    for name, deployment in spec.deployments.items():
        main, _, last = name.rpartition("-")
        if last not in BESIDE or main not in spec.deployments:
            continue
        for target_name in spec.deployments[main].targets:
            target = spec.targets.get(target_name)
            if (
                target is None
                or target.kind not in CLUSTERS
                or target_name not in deployment.targets
            ):
                continue
            message = f"on target `{target_name}`, `{name}` is what `{main}` calls a new release"
            at = ("deployments", name)
            yield Problem("MLS097", at, message, "give it another name", on_key=True)


def check_fixed(replicas: Replicas, target_name: str, kind: str, at: Path) -> Iterator[Problem]:
    """Problems of copies on a target that always has as many."""
    message = f"target `{target_name}` is {kind} and always has as many copies"
    if replicas.most != replicas.min:
        yield Problem("MLS096", at, message, "leave `max` out")
    if "cpu" in replicas.model_fields_set:
        yield Problem("MLS096", (*at, "cpu"), message, "remove it", on_key=True)


def _name(name: str, at: Path, what: str) -> Iterator[Problem]:
    if not _LABEL.fullmatch(name):
        message = f"{show(name)} cannot be the name of {what}"
        hint = "write small letters, digits and `-`, at most 63"
        yield Problem("MLS097", at, message, hint)


def _missing(target: Target, at: Path, key: str, example: str, more: str = "") -> Problem:
    message = f"a target of kind `{target.kind}` needs `{key}`"
    return Problem("MLS011", at, message, f"add `{key}: {example}`{more}", on_key=True)
