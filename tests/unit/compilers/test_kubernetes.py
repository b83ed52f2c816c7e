"""Manifests: strict schemas of every supported Kubernetes, the same bytes each time, and no slack.

Where a real `kubectl` is installed, its Kustomize builds what is written for GitOps too.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import kubernetes_validate
import pytest
import yaml

from mlspec.compilers.generated import MARK
from mlspec.compilers.kubernetes import (
    Track,
    Workload,
    compile_kubernetes,
    compile_trial,
    cpu_quantity,
    key_of,
    memory_quantity,
    render_manifests,
)
from mlspec.compilers.kustomize import compile_kustomize, compile_list

VERSIONS = [f"1.{minor}" for minor in range(27, 38)]
IMAGE = "registry.example.org/ml/churn@sha256:" + "a" * 64
PLACE = {
    "context": "prod",
    "namespace": "ml",
    "image": {"repository": "registry.example.org/ml", "pull_secret": None},
    "project": "demo",
}
PLAIN = Workload(
    "churn",
    "production",
    "demo",
    {"cpus": 1.0, "memory": None, "port": 3000, "capture": None, "kubernetes": PLACE},
    Track("m", 3, "r" * 64, IMAGE),
)
FULL = replace(
    PLAIN,
    settings={
        "cpus": 0.5,
        "memory": 2**29,
        "port": 8080,
        "capture": {"sample": 0.5},
        "replicas": {"min": 2, "max": 6, "cpu": 60},
        "kubernetes": PLACE
        | {
            "image": {"repository": "registry.example.org/ml", "pull_secret": "pull"},
            "gateway": {"name": "public", "namespace": "gateways", "host": "models.example.org"},
            "metrics": {"namespace": "monitoring", "labels": {"release": "p"}, "interval": 15.0},
            "network": {"clients": ["shop", "ml"], "outgoing": False},
            "captures": "captures",
            "ready": 60.0,
        },
    },
    canary=Track("m", 4, "s" * 64, IMAGE, weight=10, copies=1),
)
FULL = replace(FULL, stable=replace(FULL.stable, weight=90))


def by_key(workload):
    return {key_of(each): each for each in compile_kubernetes(workload)}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("workload", [PLAIN, FULL], ids=["plain", "full"])
def test_valid_and_strict(version, workload):
    for item in (*compile_kubernetes(workload), compile_trial(workload)):
        if item["kind"] not in ("HTTPRoute", "ServiceMonitor"):  # not Kubernetes' own
            kubernetes_validate.validate(item, version, strict=True)


def test_the_objects():
    assert sorted(by_key(PLAIN)) == [
        ("Deployment", "churn"),
        ("NetworkPolicy", "churn"),
        ("Service", "churn"),
    ]
    assert sorted(by_key(FULL)) == [
        ("Deployment", "churn"),
        ("Deployment", "churn-canary"),
        ("HTTPRoute", "churn"),
        ("HorizontalPodAutoscaler", "churn"),
        ("NetworkPolicy", "churn"),
        ("PodDisruptionBudget", "churn"),
        ("Service", "churn"),
        ("Service", "churn-canary"),
        ("ServiceMonitor", "churn"),
    ]


def test_two_runs_give_the_same_bytes():
    texts = {render_manifests(compile_kubernetes(FULL), "deployment.churn") for _ in range(3)}
    assert len(texts) == 1
    assert [each["kind"] for each in yaml.safe_load_all(texts.pop())] == [
        each["kind"] for each in compile_kubernetes(FULL)
    ]


@pytest.mark.parametrize("workload", [PLAIN, FULL], ids=["plain", "full"])
def test_pods_have_no_rights(workload):
    pod = by_key(workload)["Deployment", "churn"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "@sha256:" in container["image"]
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["ports"] == [{"name": "http", "containerPort": 3000, "protocol": "TCP"}]


def test_a_pod_ends_later_than_its_last_request():
    pod = by_key(PLAIN)["Deployment", "churn"]["spec"]["template"]["spec"]
    waits = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > waits + 15
    strategy = by_key(PLAIN)["Deployment", "churn"]["spec"]["strategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}


def test_who_says_how_many_pods_there_are():
    assert by_key(PLAIN)["Deployment", "churn"]["spec"]["replicas"] == 1
    full = by_key(FULL)
    assert "replicas" not in full["Deployment", "churn"]["spec"]
    scaler = full["HorizontalPodAutoscaler", "churn"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 6)
    fixed = replace(PLAIN, settings={**PLAIN.settings, "replicas": {"min": 3, "max": None}})
    assert by_key(fixed)["Deployment", "churn"]["spec"]["replicas"] == 3
    assert ("HorizontalPodAutoscaler", "churn") not in by_key(fixed)
    assert ("PodDisruptionBudget", "churn") in by_key(fixed)


def test_who_may_call():
    plain = by_key(PLAIN)["NetworkPolicy", "churn"]["spec"]
    assert plain["policyTypes"] == ["Ingress", "Egress"] and "egress" not in plain
    assert plain["ingress"][0]["from"] == [{"podSelector": {}}]
    sources = by_key(FULL)["NetworkPolicy", "churn"]["spec"]["ingress"][0]["from"]
    named = [
        each["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for each in sources[1:]
    ]
    assert named == ["gateways", "monitoring", "shop"]


def test_a_gateway_splits_by_weight_and_keeps_metrics_inside():
    rules = by_key(FULL)["HTTPRoute", "churn"]["spec"]["rules"]
    assert [rule["matches"][0]["path"]["value"] for rule in rules] == [
        "/churn/predict",
        "/churn/schema.json",
    ]
    for rule in rules:
        assert [(each["name"], each["weight"]) for each in rule["backendRefs"]] == [
            ("churn", 90),
            ("churn-canary", 10),
        ]


def test_a_trial_gets_no_requests():
    trial = compile_trial(FULL)
    labels = trial["spec"]["template"]["metadata"]["labels"]
    assert (trial["metadata"]["name"], trial["spec"]["replicas"]) == ("churn-trial", 1)
    for key, item in by_key(FULL).items():
        if key[0] == "Service":
            assert not item["spec"]["selector"].items() <= labels.items()


def test_captures_outlive_their_pod():
    pod = by_key(FULL)["Deployment", "churn"]["spec"]["template"]["spec"]
    assert {"name": "captures", "persistentVolumeClaim": {"claimName": "captures"}} in pod[
        "volumes"
    ]
    mount = pod["containers"][0]["volumeMounts"][1]
    assert mount["subPathExpr"] == "churn/$(POD)"


def test_tokens_are_a_secret_of_the_namespace():
    settings = {**FULL.settings, "auth": {"secret_name": "churn-tokens"}}
    made = by_key(replace(FULL, settings=settings))["Deployment", "churn"]
    pod = made["spec"]["template"]["spec"]
    [volume] = [each for each in pod["volumes"] if each["name"] == "tokens"]
    assert volume["secret"] == {"secretName": "churn-tokens", "defaultMode": 0o440}
    [container] = pod["containers"]
    [mount] = [each for each in container["volumeMounts"] if each["name"] == "tokens"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/run/mlspec", True)
    tokens = {"name": "MLSPEC_TOKENS", "value": "/run/mlspec/tokens"}
    assert tokens in container["env"]


def test_what_finds_the_objects_again():
    for item in compile_kubernetes(FULL):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/managed-by"] == "mlspec"
        assert labels["mlspec.dev/deployment"] == "churn"
        assert labels["mlspec.dev/target"] == "production"
        assert labels["mlspec.dev/project"] == "demo"
    about = by_key(PLAIN)["Deployment", "churn"]["metadata"]["annotations"]
    assert about == {
        "mlspec.dev/model": "m",
        "mlspec.dev/version": "3",
        "mlspec.dev/release": "r" * 64,
    }


@pytest.mark.parametrize(
    ("size", "text"),
    [(2**29, "512Mi"), (2**30, "1Gi"), (1536 * 2**20, "1536Mi"), (10**9, "1G"), (1023, "1023")],
)
def test_memory(size, text):
    assert memory_quantity(size) == text


def test_processors():
    assert [cpu_quantity(each) for each in (1.0, 2, 0.5, 1.25)] == ["1", "2", "500m", "1250m"]


def files_of(workload):
    made = compile_kustomize("deploy/prod", "churn", compile_kubernetes(workload))
    return [*made, compile_list("deploy/prod", "production", ["churn"])]


def test_files_for_gitops():
    files = {each.path: each.text for each in files_of(FULL)}
    assert all(text.startswith(f"# {MARK}") for text in files.values())
    listed = yaml.safe_load(files["deploy/prod/churn/kustomization.yaml"])["resources"]
    assert "deployment-canary.yaml" in listed and "httproute.yaml" in listed
    assert {f"deploy/prod/churn/{name}" for name in listed} < files.keys()
    assert yaml.safe_load(files["deploy/prod/kustomization.yaml"])["resources"] == ["churn"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_of_a_real_kubectl_builds_them(tmp_path):
    for file in files_of(FULL):
        path = tmp_path / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    done = subprocess.run(
        ["kubectl", "kustomize", str(tmp_path / "deploy/prod")],
        capture_output=True,
        text=True,
        env={"PATH": str(shutil.which("kubectl")).rpartition("/")[0], "HOME": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    built = sorted(yaml.safe_load_all(done.stdout), key=key_of)
    assert built == sorted(compile_kubernetes(FULL), key=key_of)


def challenged(**part):
    told = {"shadow": False, "share": 1.0, "by": None, "header": None, **part}
    return replace(FULL, canary=None, settings={**FULL.settings, "challenger": told})


def test_a_shadow_gets_copies_and_no_requests():
    workload = challenged(shadow=True, share=0.5)
    found = by_key(workload)
    [container] = found["Deployment", "churn"]["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["MLSPEC_MIRROR"] == "http://churn-challenger:8080"
    assert told["MLSPEC_MIRROR_SHARE"] == "0.5"
    [to_shadow, names] = found["NetworkPolicy", "churn"]["spec"]["egress"]
    labels = to_shadow["to"][0]["podSelector"]["matchLabels"]
    assert labels == {"mlspec.dev/deployment": "churn-challenger"}
    assert {each["port"] for each in names["ports"]} == {53}
    assert found["HTTPRoute", "churn"] == by_key(replace(FULL, canary=None))["HTTPRoute", "churn"]
    for item in compile_kubernetes(workload):
        if item["kind"] not in ("HTTPRoute", "ServiceMonitor"):
            kubernetes_validate.validate(item, "1.30", strict=True)


def test_a_challenger_answers_those_who_ask_for_it():
    workload = challenged(header=["x-variant", "b"])
    assert "headers" not in str(by_key(workload)["HTTPRoute", "churn"]), "it is not there yet"
    rules = by_key(replace(workload, joined=True))["HTTPRoute", "churn"]["spec"]["rules"]
    asked = [rule for rule in rules if "headers" in rule["matches"][0]]
    assert len(asked) == len(rules) / 2
    for rule in asked:
        assert [each["name"] for each in rule["backendRefs"]] == ["churn-challenger"]
        [header] = rule["matches"][0]["headers"]
        assert header == {"type": "Exact", "name": "x-variant", "value": "b"}
    plain = [rule for rule in rules if rule not in asked]
    assert [rule["filters"] for rule in asked] == [rule["filters"] for rule in plain]


def test_a_challenger_has_no_route_of_its_own():
    settings = {**FULL.settings, "challenges": "churn"}
    assert ("HTTPRoute", "churn") not in by_key(replace(FULL, canary=None, settings=settings))
