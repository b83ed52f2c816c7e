"""Compiles a release to an `InferenceService` of KServe: a :class:`Workload` in, one object out.

The pod is the one that `kubernetes.py` makes, as far as the mode lets one say it: with `standard`
KServe makes a Deployment of it, with `knative` a service of Knative, which refuses some fields and
splits requests between two revisions. Names of modes are those of KServe 0.16 and later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlspec.compilers.containerfile import PORT
from mlspec.compilers.kubernetes import (
    PREFIX,
    STABLE,
    Object,
    Workload,
    about_of,
    make_object,
    make_pod,
)

KIND = "InferenceService"
API = "serving.kserve.io/v1beta1"
CONTAINER = "kserve-container"
"""The name by which KServe knows the container that answers."""
STOP = "serving.kserve.io/stop"
"""The annotation by which KServe takes all pods away and keeps the object."""
REVISION = f"{PREFIX}/revision"
"""The label of pods that tells one release from another: an annotation cannot be selected by."""

_MODES = {"standard": "Standard", "knative": "Knative"}
_KNATIVE_POD = (
    "automountServiceAccountToken",
    "enableServiceLinks",
    "imagePullSecrets",
    "containers",
    "volumes",
)
"""Fields of a pod that Knative takes without a change of its own settings."""


def compile_kserve(workload: Workload) -> tuple[Object, ...]:
    """The object of a workload; with a canary, that one gets `weight` in a hundred requests, and
    the release that KServe rolled out last gets the others."""
    track = workload.canary or workload.stable
    mode = str(workload.place["mode"])
    least, most = workload.copies
    annotations = {"serving.kserve.io/deploymentMode": _MODES[mode], **about_of(track)}
    predictor: Object = {"minReplicas": least, "maxReplicas": most}
    if mode == "standard" or most > least:
        replicas = workload.settings.get("replicas") or {}
        predictor |= {"scaleMetric": "cpu", "scaleTarget": int(replicas.get("cpu") or 70)}
    if mode == "standard":
        rolling = {"maxSurge": 1, "maxUnavailable": 0}
        predictor["deploymentStrategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
        predictor |= _named(make_pod(workload, track, STABLE))
    else:
        if most > least:  # Knative's own autoscaler counts requests, and no processors
            annotations["autoscaling.knative.dev/class"] = "hpa.autoscaling.knative.dev"
        predictor |= _for_knative(_named(make_pod(workload, track, STABLE)))
    if workload.canary is not None:
        predictor["canaryTrafficPercent"] = track.weight
    predictor["labels"] = {REVISION: revision_of(track.release)}
    predictor["annotations"] = about_of(track)
    made = make_object(workload, API, KIND, workload.deployment, {"predictor": predictor}, of=track)
    made["metadata"]["annotations"] = annotations
    return (made,)


def revision_of(release: str) -> str:
    """A release as the value of a label, which has at most 63 characters."""
    return release[:12]


def stopped(item: Object) -> Object:
    """The object of a service that has no pods."""
    about = item["metadata"]
    annotations = {**about["annotations"], STOP: "true"}
    return {**item, "metadata": {**about, "annotations": annotations}}


def _named(pod: Object) -> Object:
    """The pod, selected by the labels that KServe gives it."""
    pod["containers"][0]["name"] = CONTAINER
    for each in pod.get("topologySpreadConstraints") or ():
        own = each["labelSelector"]["matchLabels"]["app.kubernetes.io/name"]
        each["labelSelector"] = {"matchLabels": {"serving.kserve.io/inferenceservice": own}}
    return pod


def _for_knative(pod: Mapping[str, Any]) -> Object:
    made = {key: pod[key] for key in _KNATIVE_POD if key in pod}
    container = dict(pod["containers"][0])
    # Knative itself sees to it that a pod which ends is not asked any more.
    container.pop("lifecycle")
    container["ports"] = [{"containerPort": PORT, "protocol": "TCP"}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        get = {**container[probe]["httpGet"], "port": PORT}
        container[probe] = {**container[probe], "httpGet": get}
    # What it takes of a pod's own security context belongs to the container. The image's user has
    # a number and owns nothing.
    container["securityContext"] = container["securityContext"] | {
        "runAsNonRoot": True,
        "seccompProfile": pod["securityContext"]["seccompProfile"],
    }
    made["containers"] = [container]
    for each in made.get("volumes") or ():
        if "secret" in each:  # no `fsGroup` gives it to the image's user, who is alone in there
            each["secret"] = {**each["secret"], "defaultMode": 0o444}
    return made
