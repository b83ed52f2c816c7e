"""The `InferenceService`: its pod by Kubernetes' strict schemas, the rest by KServe's own types."""

from __future__ import annotations

from dataclasses import replace

import jsonschema
import kubernetes_validate
import pytest

from mlspec.compilers.kserve import compile_kserve, stopped
from mlspec.compilers.kubernetes import Track, Workload

VERSIONS = [f"1.{minor}" for minor in range(27, 38)]
IMAGE = "registry.example.org/ml/churn@sha256:" + "a" * 64
PLACE = {
    "context": "prod",
    "namespace": "ml",
    "mode": "standard",
    "image": {"repository": "registry.example.org/ml", "pull_secret": "pull"},
    "captures": "captures",
    "project": "demo",
}
SETTINGS = {
    "cpus": 0.5,
    "memory": 2**29,
    "port": 3000,
    "capture": {"sample": 0.5},
    "replicas": {"min": 2, "max": 6, "cpu": 60},
    "kserve": PLACE,
}
STANDARD = Workload(
    "churn", "production", "demo", SETTINGS, Track("m", 3, "r" * 64, IMAGE), kind="kserve"
)
KNATIVE = replace(
    STANDARD,
    settings=SETTINGS | {"capture": None, "kserve": PLACE | {"mode": "knative"}},
    canary=Track("m", 4, "s" * 64, IMAGE, weight=10),
)
EXTENSION = {
    "type": "object",
    "required": ["minReplicas", "maxReplicas", "labels", "annotations"],
    "additionalProperties": False,
    "properties": {
        "minReplicas": {"type": "integer", "minimum": 0},
        "maxReplicas": {"type": "integer", "minimum": 0},
        "scaleTarget": {"type": "integer", "minimum": 1, "maximum": 100},
        "scaleMetric": {"enum": ["cpu", "memory", "concurrency", "rps"]},
        "canaryTrafficPercent": {"type": "integer", "minimum": 0, "maximum": 100},
        "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
        "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
        "deploymentStrategy": {
            "type": "object",
            "additionalProperties": False,
            "properties": {"type": {"const": "RollingUpdate"}, "rollingUpdate": {"type": "object"}},
        },
    },
}
"""What `ComponentExtensionSpec` of KServe's pkg/apis/serving/v1beta1/component.go takes of what we
write. All else of a predictor is a `PodSpec`."""
KNATIVE_POD = {
    "automountServiceAccountToken",
    "containers",
    "enableServiceLinks",
    "imagePullSecrets",
    "volumes",
}
"""What Knative's webhook takes of a pod unless its features are changed (`config-features`)."""


def only(workload):
    [item] = compile_kserve(workload)
    return item


def parts(item):
    """What is KServe's own, and what is the pod's."""
    predictor = item["spec"]["predictor"]
    own = {key: value for key, value in predictor.items() if key in EXTENSION["properties"]}
    return own, {key: value for key, value in predictor.items() if key not in own}


@pytest.mark.parametrize("workload", [STANDARD, KNATIVE], ids=["standard", "knative"])
def test_valid_and_strict(workload):
    item = only(workload)
    assert (item["apiVersion"], item["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(item) == {"apiVersion", "kind", "metadata", "spec"}
    own, pod = parts(item)
    jsonschema.validate(own, EXTENSION)
    metadata = {**item["metadata"], "labels": item["metadata"]["labels"] | own["labels"]}
    for version in VERSIONS:
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod}
        kubernetes_validate.validate(whole, version, strict=True)


@pytest.mark.parametrize("workload", [STANDARD, KNATIVE], ids=["standard", "knative"])
def test_pods_have_no_rights(workload):
    _, pod = parts(only(workload))
    [container] = pod["containers"]
    assert (container["name"], container["image"]) == ("kserve-container", IMAGE)
    context = {**pod.get("securityContext", {}), **container["securityContext"]}
    assert context["runAsNonRoot"] is True and context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["ports"][0]["containerPort"] == 3000


def test_knative_takes_the_pod():
    _, pod = parts(only(KNATIVE))
    assert set(pod) <= KNATIVE_POD
    [container] = pod["containers"]
    assert "lifecycle" not in container
    assert container["ports"] == [{"containerPort": 3000, "protocol": "TCP"}]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"]["port"] == 3000
    assert "runAsGroup" not in container["securityContext"]


def test_who_says_how_many_pods_there_are():
    own, _ = parts(only(STANDARD))
    assert (own["minReplicas"], own["maxReplicas"]) == (2, 6)
    assert (own["scaleMetric"], own["scaleTarget"]) == ("cpu", 60)
    assert own["deploymentStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    item = only(KNATIVE)
    about = item["metadata"]["annotations"]
    assert about["autoscaling.knative.dev/class"] == "hpa.autoscaling.knative.dev"
    assert "deploymentStrategy" not in parts(item)[0]
    fixed = only(replace(KNATIVE, settings={**KNATIVE.settings, "replicas": None}))
    assert "scaleMetric" not in parts(fixed)[0]
    assert "autoscaling.knative.dev/class" not in fixed["metadata"]["annotations"]


def test_the_modes_are_named_as_kserve_compares_them():
    key = "serving.kserve.io/deploymentMode"
    assert only(STANDARD)["metadata"]["annotations"][key] == "Standard"
    assert only(KNATIVE)["metadata"]["annotations"][key] == "Knative"


def test_a_canary_is_the_release_that_is_written():
    own, _ = parts(only(KNATIVE))
    assert own["canaryTrafficPercent"] == 10
    assert own["annotations"]["mlspec.dev/version"] == "4"
    assert own["labels"] == {"mlspec.dev/revision": "s" * 12}
    assert "canaryTrafficPercent" not in parts(only(STANDARD))[0]


def test_stopped():
    item = only(STANDARD)
    about = stopped(item)["metadata"]["annotations"]
    assert about == item["metadata"]["annotations"] | {"serving.kserve.io/stop": "true"}
    assert "serving.kserve.io/stop" not in item["metadata"]["annotations"]


def test_knative_gives_a_pod_no_group_so_all_in_it_may_read_the_tokens():
    auth = {"auth": {"secret_name": "churn-tokens"}}
    modes = {}
    for workload in (STANDARD, KNATIVE):
        _, pod = parts(only(replace(workload, settings=workload.settings | auth)))
        [secret] = [each["secret"] for each in pod["volumes"] if "secret" in each]
        modes[secret["defaultMode"]] = pod.get("securityContext", {}).get("fsGroup")
    assert set(modes) == {0o440, 0o444}
    assert modes[0o440] and not modes[0o444]
