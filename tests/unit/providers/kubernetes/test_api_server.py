"""The targets `kubernetes` and `kserve` against a real API server, with the real kubectl.

Needs etcd and what scripts/build-kube-apiserver builds, in the folder MLSPEC_KUBE_APISERVER. Real
are the API server of Kubernetes 1.20 (admission, defaults, server-side apply, ownership of fields)
and the controllers of Deployments. No kubelet and no KServe take part: a thread says of pods that
they are ready, and makes pods of an InferenceService. That release has no `policy/v1` and no
`autoscaling/v2`, so a deployment has one pod here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.targets import make_target

PROGRAMS = Path(os.environ.get("MLSPEC_KUBE_APISERVER") or "/nonexistent")
BUILDER = Path(__file__).parents[1] / "images" / "standin_builder.py"
pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not (PROGRAMS / "kube-apiserver").is_file(), reason="no kube-apiserver"),
    pytest.mark.skipif(shutil.which("etcd") is None, reason="etcd is not installed"),
    pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed"),
]
PLACE = {
    "context": "test",
    "namespace": "ml",
    "image": {"repository": "registry.example.org/ml"},
    "project": "demo",
    "base": "python:3.11-slim",
    "ready": 30.0,
}
ROUTED = {**PLACE, "gateway": {"name": "g", "namespace": None, "host": "models.example.org"}}
KSERVE = {**PLACE, "mode": "knative", "ready": 15.0}
KINDS = (
    ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
    ("serving.kserve.io", "v1beta1", "InferenceService", "inferenceservices"),
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Api:
    """The API server, for what the tests do themselves."""

    def __init__(self, port):
        self.url = f"https://127.0.0.1:{port}"
        self.context = ssl.create_default_context()
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE

    def __call__(self, method, path, body=None, kind="application/json"):
        request = urllib.request.Request(
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {"authorization": "Bearer secret", "content-type": kind},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=20, context=self.context) as answer:
            text = answer.read()
            return json.loads(text) if text.startswith(b"{") else text

    def patch(self, path, body):
        return self("PATCH", path, body, "application/merge-patch+json")


class Keeper(threading.Thread):
    """Says of pods what a kubelet would, and does what KServe would. `bad`: a word of pods that
    never get ready."""

    def __init__(self, api):
        super().__init__(daemon=True)
        self.api, self.bad, self.ended = api, "", threading.Event()

    def run(self):
        while not self.ended.wait(0.2):
            with contextlib.suppress(OSError, KeyError):  # another one was quicker
                self.look()

    def look(self):
        services = "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices"
        pods = self.api("GET", "/api/v1/namespaces/ml/pods")["items"]
        for item in self.api("GET", services)["items"]:
            self.serve(item, pods, f"{services}/{item['metadata']['name']}/status")
        for pod in pods:
            well = not (self.bad and self.bad in json.dumps(pod["metadata"]))
            told = {"type": "Ready", "status": "True" if well else "False"}
            if pod["status"].get("conditions") != [told]:
                path = f"/api/v1/namespaces/ml/pods/{pod['metadata']['name']}/status"
                phase = "Running" if well else "Pending"
                self.api.patch(path, {"status": {"phase": phase, "conditions": [told]}})

    def serve(self, item, pods, status):
        name, predictor = item["metadata"]["name"], item["spec"]["predictor"]
        own = f"{name}-{predictor['labels']['mlspec.dev/revision']}"
        mine = [
            each
            for each in pods
            if each["metadata"].get("labels", {}).get("mlspec.dev/deployment") == name
            and "mlspec.dev/revision" in each["metadata"]["labels"]
        ]
        well = not (self.bad and self.bad in json.dumps(predictor))
        if not any(each["metadata"]["name"] == own for each in mine):
            metadata = {
                "name": own,
                "labels": {**item["metadata"]["labels"], **predictor["labels"]},
                "annotations": predictor["annotations"],
                "ownerReferences": [
                    {
                        "apiVersion": item["apiVersion"],
                        "kind": item["kind"],
                        "name": name,
                        "uid": item["metadata"]["uid"],
                    }
                ],
            }
            spec = {key: predictor[key] for key in ("containers", "volumes")}
            body = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
            self.api("POST", "/api/v1/namespaces/ml/pods", body)
        for each in mine:
            other = each["metadata"]["name"] != own
            if other and well and "canaryTrafficPercent" not in predictor:
                self.api("DELETE", f"/api/v1/namespaces/ml/pods/{each['metadata']['name']}")
        told = {
            "observedGeneration": item["metadata"]["generation"],
            "conditions": [{"type": "Ready", "status": "True" if well else "False"}],
            "url": f"http://{name}.ml.example.org",
        }
        if item.get("status") != told:
            self.api.patch(status, {"status": told})


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """An API server with its etcd and controllers, and the namespace `ml`; its settings' file."""
    folder = tmp_path_factory.mktemp("kube")
    ports = {name: free_port() for name in ("etcd", "peer", "api")}
    etcd, peer = (f"http://127.0.0.1:{ports[name]}" for name in ("etcd", "peer"))
    (folder / "tokens.csv").write_text('secret,admin,admin,"system:masters"\n')
    key = folder / "sa.key"
    subprocess.run(["openssl", "genrsa", "-out", key, "2048"], check=True, capture_output=True)
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": "c",
                "cluster": {
                    "server": f"https://127.0.0.1:{ports['api']}",
                    "insecure-skip-tls-verify": True,
                },
            }
        ],
        "users": [{"name": "u", "user": {"token": "secret"}}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "test",
    }
    (folder / "config").write_text(json.dumps(settings))
    commands = [
        [
            "etcd",
            f"--data-dir={folder / 'etcd'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
        ],
        [
            PROGRAMS / "kube-apiserver",
            f"--etcd-servers={etcd}",
            f"--secure-port={ports['api']}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={folder / 'certs'}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://mlspec.test",
            f"--token-auth-file={folder / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-cluster-ip-range=10.0.0.0/24",
            "--disable-admission-plugins=ServiceAccount",
        ],
        [
            PROGRAMS / "kube-controller-manager",
            f"--kubeconfig={folder / 'config'}",
            "--controllers=deployment,replicaset,garbagecollector",
            "--leader-elect=false",
            "--port=0",
            "--secure-port=0",
        ],
    ]
    api, running = Api(ports["api"]), []
    try:
        for command in commands:
            with (folder / f"{Path(command[0]).name}.log").open("wb") as log:
                running.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=folder))
            if len(running) == 2:
                await_ready(api, running[1])
        api("POST", "/api/v1/namespaces", {"metadata": {"name": "ml"}})
        for group, version, kind, plural in KINDS:
            api(
                "POST",
                "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                definition(group, version, kind, plural),
            )
        for group, version, _, plural in KINDS:
            wait(lambda: api("GET", f"/apis/{group}/{version}/namespaces/ml/{plural}"))  # noqa: B023
        yield api, folder / "config"
    finally:
        for process in reversed(running):
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def await_ready(api, process):
    def look():
        assert process.poll() is None, "the API server ended"
        return api("GET", "/readyz")

    wait(look)


def wait(look, seconds=90):
    end = time.monotonic() + seconds
    while True:
        try:
            if found := look():
                return found
        except OSError:
            pass
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.2)


def definition(group, version, kind, plural):
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, a test"},
        },
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural, "singular": kind.lower()},
            "scope": "Namespaced",
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
            ],
        },
    }


@pytest.fixture
def api(server, tmp_path, monkeypatch):
    """The API server, an empty namespace, kubectl's settings, and a keeper of pods."""
    found, settings = server
    monkeypatch.setenv("KUBECONFIG", str(settings))
    programs = tmp_path / "bin"
    programs.mkdir()
    program = programs / "podman"
    program.write_text(f"#!{sys.executable}\n{BUILDER.read_text()}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "builder").mkdir()
    monkeypatch.setenv("BUILDER_STANDIN", str(tmp_path / "builder"))
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    found.keeper = Keeper(found)
    found.keeper.start()
    yield found
    found.keeper.ended.set()
    found.keeper.join(30)


def objects(api):
    places = [
        "/apis/apps/v1/namespaces/ml/deployments",
        "/api/v1/namespaces/ml/services",
        "/api/v1/namespaces/ml/configmaps",
        "/apis/networking.k8s.io/v1/namespaces/ml/networkpolicies",
        *(f"/apis/{group}/{version}/namespaces/ml/{plural}" for group, version, _, plural in KINDS),
    ]
    return {
        f"{path.rpartition('/')[2]}/{each['metadata']['name']}"
        for path in places
        for each in api("GET", path)["items"]
        if "mlspec.dev/deployment" in each["metadata"].get("labels", {})
    }


DEPLOYMENT = "/apis/apps/v1/namespaces/ml/deployments/churn"
SERVICE = "/apis/serving.kserve.io/v1beta1/namespaces/ml/inferenceservices/churn"
PLAIN = {
    "configmaps/mlspec-churn",
    "deployments/churn",
    "networkpolicies/churn",
    "services/churn",
}


def test_apply_compare_prune_and_destroy(api, root, make_release):
    target = make_target(root, "production", kind="kubernetes", port=3000, place=ROUTED)
    running = target.deploy("churn", make_release(1, ROUTED), [])
    assert (running.status, running.ready, running.differs) == ("serving", 1, ())
    assert objects(api) == PLAIN | {"httproutes/churn"}
    managers = {
        each["manager"]: each["operation"]
        for each in api("GET", DEPLOYMENT)["metadata"]["managedFields"]
    }
    assert managers["mlspec"] == "Apply"

    # What others add stays, what they change is seen and taken back.
    api.patch(DEPLOYMENT, {"metadata": {"labels": {"team": "risk"}}, "spec": {"replicas": 2}})
    assert target.observe("churn").differs == (("Deployment/churn.spec.replicas", 1, 2),)
    assert target.deploy("churn", make_release(1, ROUTED), []).differs == ()
    live = api("GET", DEPLOYMENT)
    assert (live["metadata"]["labels"]["team"], live["spec"]["replicas"]) == ("risk", 1)

    # A key that is gone takes its object, and its fields of others, away.
    plain = make_target(root, "production", kind="kubernetes", port=3000, place=PLACE)
    assert plain.deploy("churn", make_release(2, memory=2**29), []).version == 2
    assert objects(api) == PLAIN
    limits = ["spec", "template", "spec", "containers", 0, "resources", "limits", "memory"]
    assert read(api("GET", DEPLOYMENT), limits) == "512Mi"
    plain.deploy("churn", make_release(3), [])
    with pytest.raises(KeyError):
        read(api("GET", DEPLOYMENT), limits)

    plain.stop("churn")
    assert plain.observe("churn").status == "stopped" and plain.observe("churn").differs == ()
    assert plain.start("churn").status == "serving"
    plain.destroy("churn")
    assert objects(api) == set()


def test_a_release_that_is_not_ready_goes_back(api, root, make_release):
    place = {**PLACE, "ready": 8.0}
    target = make_target(root, "production", kind="kubernetes", port=3000, place=place)
    target.deploy("churn", make_release(1, place), [])
    api.keeper.bad = "2" * 64
    with pytest.raises(RolledBack, match="version 2 of m was not taken into service"):
        target.deploy("churn", make_release(2, place), [])
    running = target.observe("churn")
    assert (running.version, running.status, running.differs) == (1, "serving", ())
    target.destroy("churn")


def test_what_the_server_refuses_changes_nothing(api, root, make_release):
    target = make_target(root, "production", kind="kubernetes", port=3000, place=PLACE)
    target.deploy("churn", make_release(1), [])
    before = api("GET", DEPLOYMENT)["spec"]
    with pytest.raises(MlspecError, match="was refused"):
        target.deploy("churn", make_release(2, cpus=-1.0), [])
    assert api("GET", DEPLOYMENT)["spec"] == before
    target.destroy("churn")


def test_a_canary(api, root, make_release):
    target = make_target(root, "production", kind="kubernetes", port=3000, place=ROUTED)
    target.deploy("churn", make_release(1, ROUTED), [])
    with target.try_out("churn", make_release(2, ROUTED), [], splits=True) as trial:
        trial.weigh(0.1)
        route = api("GET", "/apis/gateway.networking.k8s.io/v1/namespaces/ml/httproutes/churn")
        shares = [each["weight"] for each in route["spec"]["rules"][0]["backendRefs"]]
        assert shares == [900, 100]
        trial.promote()
    assert target.observe("churn").differs == ()
    assert objects(api) == PLAIN | {"httproutes/churn"}
    target.destroy("churn")
    assert objects(api) == set()


def test_kserve(api, root, make_release):
    target = make_target(root, "production", kind="kserve", port=3000, place=KSERVE)

    def release(version):
        return make_release(version, KSERVE, kind="kserve")

    assert target.deploy("churn", release(1), []).differs == ()
    assert objects(api) == {"configmaps/mlspec-churn", "inferenceservices/churn"}
    api.patch(SERVICE, {"spec": {"predictor": {"maxReplicas": 9}}})
    [change] = target.observe("churn").differs
    assert change == ("InferenceService/churn.spec.predictor.maxReplicas", 1, 9)

    with target.try_out("churn", release(2), [], splits=True) as trial:
        trial.weigh(0.1)
        assert api("GET", SERVICE)["spec"]["predictor"]["canaryTrafficPercent"] == 10
        trial.promote()
    assert "canaryTrafficPercent" not in api("GET", SERVICE)["spec"]["predictor"]
    running = target.observe("churn")
    assert (running.version, running.differs) == (2, ())

    api.keeper.bad = "3" * 64
    with pytest.raises(RolledBack):
        target.deploy("churn", release(3), [])
    running = target.observe("churn")
    assert (running.version, running.status, running.differs) == (2, "serving", ())
    target.destroy("churn")
    assert objects(api) == set()


def read(item, path):
    for step in path:
        item = item[step]
    return item
