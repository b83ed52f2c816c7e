"""Compiles a release to the objects of a cluster: plain data in, manifests as plain data out.

Comes in: a :class:`Workload`, which is known once its image is. Goes out: objects in the order in
which they are applied, each as Kubernetes' API takes it. They hold what mlspec decides and nothing
that the cluster does, so that what the cluster has can be compared with them field by field.
`kustomize.py` makes files of them.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mlspec.compilers.containerfile import (
    CAPTURES,
    OWN_TOKEN,
    PORT,
    TOKENS,
    USER,
    mirror_environment,
)
from mlspec.compilers.generated import header
from mlspec.compilers.yaml_text import render_yaml
from mlspec.spec.models import challenger_name

Object = dict[str, Any]
"""An object of Kubernetes, as its API takes it."""

MANAGER = "mlspec"
PREFIX = "mlspec.dev"
DEPLOYMENT, TARGET, PROJECT, TRACK = (
    f"{PREFIX}/{key}" for key in ("deployment", "target", "project", "track")
)
MODEL, VERSION, RELEASE = (f"{PREFIX}/{key}" for key in ("model", "version", "release"))
STABLE, CANARY, TRIAL = "stable", "canary", "trial"
CONTAINER = "service"

SERVED = ("/predict", "/schema.json")
"""What a gateway lets through; metrics and probes are of the cluster's inside."""
LEAVE_SECONDS = 5
"""From the first word of a pod's end until the last proxy sends it nothing more."""
GRACE_SECONDS = 30
"""Until a pod that ends must have answered what it was asked."""
START_SECONDS = 120
WHOLE = 10_000
"""Of a route's weights, what champion and challenger have together."""


@dataclass(frozen=True, slots=True)
class Track:
    """A release that gets a share of the requests: `weight` in a hundred of them."""

    model: str
    version: int
    release: str
    image: str
    weight: int = 100
    copies: int | None = None
    """How many pods, if not as the deployment says."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A deployment on a target, and what it is to serve.

    `settings` are those of the deployment's resource: `cpus`, `memory` (bytes), `capture`, `port`,
    `replicas` ({min, max, cpu}) and, by the target's `kind`, what the spec says of it.
    """

    deployment: str
    target: str
    project: str
    settings: Mapping[str, Any]
    stable: Track
    canary: Track | None = None
    kind: str = "kubernetes"
    joined: bool = False
    """Whether a challenger that answers clients is there, and gets its requests."""

    @property
    def place(self) -> Mapping[str, Any]:
        """What the spec says of the target."""
        found: Mapping[str, Any] = self.settings[self.kind]
        return found

    @property
    def namespace(self) -> str:
        return str(self.place["namespace"])

    @property
    def copies(self) -> tuple[int, int]:
        """The least and the most pods."""
        replicas = self.settings.get("replicas") or {}
        least = int(replicas.get("min", 1))
        return least, int(replicas.get("max") or least)


def compile_kubernetes(workload: Workload) -> tuple[Object, ...]:
    """The objects of a workload, those first that others rely on."""
    return tuple(_objects(workload))


def compile_trial(workload: Workload) -> Object:
    """One pod of the release that no Service selects: it can be asked and gets no requests."""
    return _deployment(workload, replace(workload.stable, copies=1), TRIAL)


def render_manifests(objects: Sequence[Object], owner: str) -> str:
    """All objects as one text of several YAML documents."""
    head, *rest = [render_yaml(each) for each in objects]
    return f"# {header(owner)}\n" + "---\n".join([head, *rest])


def selector(deployment: str, target: str, project: str) -> dict[str, str]:
    """The labels that all objects of a deployment have, and nothing else has."""
    return {DEPLOYMENT: deployment, PROJECT: project, TARGET: target}


def key_of(item: Mapping[str, Any]) -> tuple[str, str]:
    """What tells an object of a namespace from all others: its kind and name."""
    return str(item["kind"]), str(item["metadata"]["name"])


def _objects(workload: Workload) -> Iterator[Object]:
    yield _network(workload)
    yield from _serving(workload, workload.stable, STABLE)
    if workload.canary is not None:
        yield from _serving(workload, workload.canary, CANARY)
    least, most = workload.copies
    if most > 1:
        yield _disruption(workload)
    if most > least:
        yield _scaling(workload, least, most)
    if workload.place.get("gateway") and not workload.settings.get("challenges"):
        yield _route(workload, workload.place["gateway"])
    if workload.place.get("metrics"):
        yield _monitor(workload, workload.place["metrics"])


def _serving(workload: Workload, track: Track, name: str) -> Iterator[Object]:
    yield _deployment(workload, track, name)
    yield make_object(
        workload,
        "v1",
        "Service",
        _name(workload, name),
        {
            "type": "ClusterIP",
            "selector": _selected(workload, name),
            "ports": [
                {
                    "name": "http",
                    "port": int(workload.settings["port"]),
                    "targetPort": "http",
                    "protocol": "TCP",
                }
            ],
        },
        track=name,
    )


def _deployment(workload: Workload, track: Track, name: str) -> Object:
    least, most = workload.copies
    about = about_of(track)
    spec: Object = {
        "revisionHistoryLimit": 3,
        "progressDeadlineSeconds": int(workload.place.get("ready") or 300),
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
        },
        "selector": {"matchLabels": _selected(workload, name)},
        "template": {
            "metadata": {"labels": labels_of(workload, name, track), "annotations": about},
            "spec": make_pod(workload, track, name),
        },
    }
    copies = track.copies if track.copies is not None else least
    if name != STABLE or most == least:  # else the autoscaler says how many there are
        spec = {"replicas": copies, **spec}
    made = make_object(
        workload, "apps/v1", "Deployment", _name(workload, name), spec, track=name, of=track
    )
    made["metadata"]["annotations"] = about
    return made


def make_pod(workload: Workload, track: Track, name: str) -> Object:
    pod: Object = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    image = workload.place["image"]
    if image.get("pull_secret"):
        pod["imagePullSecrets"] = [{"name": image["pull_secret"]}]
    if workload.copies[1] > 1:
        pod["topologySpreadConstraints"] = [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": _selected(workload, name)},
            }
        ]
    pod["containers"] = [_container(workload, track)]
    pod["volumes"] = [{"name": "tmp", "emptyDir": {}}]
    if workload.settings.get("capture"):
        claim = {"claimName": workload.place["captures"]}
        pod["volumes"].append({"name": "captures", "persistentVolumeClaim": claim})
    if auth := workload.settings.get("auth"):
        # Of the user's group, by `fsGroup`; as a folder, so that a Secret that changes is seen.
        secret = {"secretName": auth["secret_name"], "defaultMode": 0o440}
        pod["volumes"].append({"name": "tokens", "secret": secret})
    return pod


def _container(workload: Workload, track: Track) -> Object:
    resources = {"cpu": cpu_quantity(float(workload.settings.get("cpus", 1)))}
    if memory := workload.settings.get("memory"):
        resources["memory"] = memory_quantity(int(memory))
    mounts: list[Object] = [{"name": "tmp", "mountPath": "/tmp"}]
    beside = f"http://{challenger_name(workload.deployment)}:{workload.settings['port']}"
    mirror = mirror_environment(workload.settings, beside)
    environment: list[Object] = [{"name": key, "value": mirror[key]} for key in sorted(mirror)]
    if capture := workload.settings.get("capture"):
        # Each pod has a folder of its own on the volume, so none removes what another wrote.
        pod = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}
        environment += [
            {"name": "POD", "valueFrom": pod},
            {"name": "MLSPEC_CAPTURE_DIR", "value": CAPTURES},
            {"name": "MLSPEC_CAPTURE_SAMPLE", "value": str(capture["sample"])},
        ]
        folder = f"{workload.deployment}/$(POD)"
        mounts.append({"name": "captures", "mountPath": CAPTURES, "subPathExpr": folder})
    if workload.settings.get("auth"):
        environment += [
            {"name": "MLSPEC_TOKENS", "value": TOKENS},
            {"name": "MLSPEC_OWN_TOKEN", "value": OWN_TOKEN},
        ]
        place = posixpath.dirname(TOKENS)
        mounts.append({"name": "tokens", "mountPath": place, "readOnly": True})
    container: Object = {
        "name": CONTAINER,
        "image": track.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
    }
    if environment:
        container["env"] = environment
    return container | {
        "resources": {"requests": resources, "limits": resources},
        "startupProbe": _probe("/readyz", period=1, failures=START_SECONDS),
        "readinessProbe": _probe("/readyz", period=5, failures=3),
        "livenessProbe": _probe("/livez", period=10, failures=6),
        # Whoever still believes that the pod is there gets an answer for so long.
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(LEAVE_SECONDS)]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _probe(path: str, *, period: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": "http"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def _disruption(workload: Workload) -> Object:
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": _selected(workload, STABLE)}}
    return make_object(workload, "policy/v1", "PodDisruptionBudget", workload.deployment, spec)


def _scaling(workload: Workload, least: int, most: int) -> Object:
    target = {
        "type": "Utilization",
        "averageUtilization": int(workload.settings["replicas"]["cpu"]),
    }
    spec = {
        "scaleTargetRef": {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "name": workload.deployment,
        },
        "minReplicas": least,
        "maxReplicas": most,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
    }
    name = workload.deployment
    return make_object(workload, "autoscaling/v2", "HorizontalPodAutoscaler", name, spec)


def _network(workload: Workload) -> Object:
    """Who may come in: the namespace, those who are named, the gateway's and Prometheus'."""
    network = workload.place.get("network") or {}
    others = set(network.get("clients") or ())
    for key in ("gateway", "metrics"):
        if asked := (workload.place.get(key) or {}).get("namespace"):
            others.add(asked)
    others.discard(workload.namespace)
    sources: list[Object] = [{"podSelector": {}}]
    for namespace in sorted(others):
        named = {"kubernetes.io/metadata.name": namespace}
        sources.append({"namespaceSelector": {"matchLabels": named}})
    spec: Object = {
        "podSelector": {"matchLabels": {DEPLOYMENT: workload.deployment}},
        "policyTypes": ["Ingress"] if network.get("outgoing") else ["Ingress", "Egress"],
        "ingress": [{"from": sources, "ports": [{"port": PORT, "protocol": "TCP"}]}],
    }
    if mirror_environment(workload.settings, "") and not network.get("outgoing"):
        shadow = {DEPLOYMENT: challenger_name(workload.deployment)}
        spec["egress"] = [
            {
                "to": [{"podSelector": {"matchLabels": shadow}}],
                "ports": [{"port": PORT, "protocol": "TCP"}],
            },
            {
                "to": [{"namespaceSelector": {}}],
                "ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}],
            },
        ]
    name = workload.deployment
    return make_object(workload, "networking.k8s.io/v1", "NetworkPolicy", name, spec)


def _route(workload: Workload, gateway: Mapping[str, Any]) -> Object:
    parent = {"name": gateway["name"]}
    if gateway.get("namespace"):
        parent["namespace"] = gateway["namespace"]
    port = int(workload.settings["port"])
    weights = [(STABLE, workload.stable)]
    if workload.canary is not None:
        weights.append((CANARY, workload.canary))
    backends = [
        {"name": _name(workload, name), "port": port, "weight": track.weight}
        for name, track in weights
    ]
    part = workload.settings["challenger"] if workload.joined else None
    beside = {"name": challenger_name(workload.deployment), "port": port}
    if part and not part["header"]:
        weight = round(part["share"] * WHOLE)
        backends = [{**backends[0], "weight": WHOLE - weight}, {**beside, "weight": weight}]
    rules = []
    for path in SERVED:
        rewrite = {"path": {"type": "ReplaceFullPath", "replaceFullPath": path}}
        match: Object = {"path": {"type": "Exact", "value": f"/{workload.deployment}{path}"}}
        rule: Object = {
            "matches": [match],
            "filters": [{"type": "URLRewrite", "urlRewrite": rewrite}],
            "backendRefs": backends,
        }
        if part and part["header"]:
            name, value = part["header"]
            asked = {**match, "headers": [{"type": "Exact", "name": name, "value": value}]}
            rules.append({**rule, "matches": [asked], "backendRefs": [{**beside, "weight": 1}]})
        rules.append(rule)
    spec = {"parentRefs": [parent], "hostnames": [gateway["host"]], "rules": rules}
    name = workload.deployment
    return make_object(workload, "gateway.networking.k8s.io/v1", "HTTPRoute", name, spec)


def _monitor(workload: Workload, metrics: Mapping[str, Any]) -> Object:
    interval = f"{int(metrics.get('interval') or 30)}s"
    spec = {
        "selector": {"matchLabels": selector(*_identity(workload))},
        "endpoints": [{"port": "http", "path": "/metrics", "interval": interval}],
    }
    name = workload.deployment
    made = make_object(workload, "monitoring.coreos.com/v1", "ServiceMonitor", name, spec)
    made["metadata"]["labels"] |= dict(sorted((metrics.get("labels") or {}).items()))
    return made


def make_object(
    workload: Workload,
    version: str,
    kind: str,
    name: str,
    spec: Object,
    *,
    track: str = "",
    of: Track | None = None,
) -> Object:
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {
            "name": name,
            "namespace": workload.namespace,
            "labels": labels_of(workload, track, of),
        },
        "spec": spec,
    }


def _name(workload: Workload, track: str) -> str:
    return workload.deployment if track == STABLE else f"{workload.deployment}-{track}"


def _identity(workload: Workload) -> tuple[str, str, str]:
    return workload.deployment, workload.target, workload.project


def _selected(workload: Workload, track: str) -> dict[str, str]:
    """The labels of the pods of a track. A Deployment can never change them."""
    return {"app.kubernetes.io/name": workload.deployment, TRACK: track}


def labels_of(workload: Workload, track: str, of: Track | None = None) -> dict[str, str]:
    labels = {
        "app.kubernetes.io/component": "model",
        "app.kubernetes.io/managed-by": MANAGER,
        "app.kubernetes.io/name": workload.deployment,
        "app.kubernetes.io/part-of": workload.project,
    }
    if of is not None:
        labels["app.kubernetes.io/version"] = str(of.version)
    labels |= selector(*_identity(workload))
    return labels | ({TRACK: track} if track else {})


def about_of(track: Track) -> dict[str, str]:
    """What annotations say of a release."""
    return {MODEL: track.model, VERSION: str(track.version), RELEASE: track.release}


def cpu_quantity(cpus: float) -> str:
    """Processors as Kubernetes writes them back: `2`, or `500m`."""
    return str(int(cpus)) if cpus == int(cpus) else f"{max(1, round(cpus * 1000))}m"


def memory_quantity(size: int) -> str:
    """Bytes as Kubernetes writes them back: `512Mi`, `1G`, or a number."""
    for unit, base in (("i", 1024), ("", 1000)):
        found = ""
        for power, letter in enumerate("KMGT" if unit else "kMGT", start=1):
            if size % base**power == 0:
                found = f"{size // base**power}{letter}{unit}"
        if found:
            return found
    return str(size)
