"""A deployment on Kubernetes by the command line, with real Git and DVC.

The cluster and the image builder are the stand-ins of tests/unit/providers: what is tried here is
the way from the spec to their calls and back into plans, status and drift, and no API server.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
STANDINS = Path(__file__).parents[1] / "unit" / "providers"
DEPLOYMENT = "deployment.loans@production"
METRICS = """
mlspec_requests_total{status="200"} 1000
mlspec_request_seconds_bucket{le="+Inf"} 1000
"""
SPEC = """
targets:
  production:
    kind: kubernetes
    context: test
    namespace: ml
    image: {repository: registry.example.org/ml}
    ready: 5s

deployments:
  loans:
    model: loans
    targets: [production]
    runtime: asgi
    resources: {cpus: 1, memory: 512MiB, replicas: {min: 2, max: 4}}
    smoke:
      - input: {income: 70, age: 30}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """The folder of the stand-in's state; beside it the programs."""
    sources = {"kubectl": "kubernetes/standin_kubectl.py", "podman": "images/standin_builder.py"}
    for name, source in sources.items():
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\n{(STANDINS / source).read_text()}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    for folder in ("cluster", "builder"):
        (tmp_path / folder).mkdir()
    return tmp_path / "cluster"


@pytest.fixture
def far(project: Any, cluster: Path) -> Any:
    """The trained project with a deployment on the cluster, not applied yet."""
    here = cluster.parent
    environment = {
        **project.environment,
        "PATH": f"{here / 'bin'}{os.pathsep}{project.environment['PATH']}",
        "KUBECTL_STANDIN": str(cluster),
        "BUILDER_STANDIN": str(here / "builder"),
    }
    found = replace(project, environment=environment)
    found.write("mlspec.yaml", found.read() + SPEC)
    found.commit("Serve on the cluster")
    return found


def objects(cluster: Path) -> list[str]:
    return sorted(path.stem for path in (cluster / "objects").glob("*.json"))


def test_from_apply_to_destroy(far: Any, cluster: Path) -> None:
    said = far.mlspec("apply", "--yes").stderr
    assert "version 1 serves at http://loans.ml:3000" in said
    assert "HorizontalPodAutoscaler.loans" in objects(cluster)
    far.commit("Record what was applied")
    far.mlspec("plan", "--detailed-exitcode")
    [row] = far.json("status")["deployments"]
    assert (row["runs"], row["state"], row["url"]) == (
        "running",
        "in step",
        "http://loans.ml:3000",
    )

    path = cluster / "objects/HorizontalPodAutoscaler.loans.json"
    live = json.loads(path.read_text())
    live["spec"]["maxReplicas"] = 40
    path.write_text(json.dumps(live))
    drift = far.json("drift", code=2)["drift"]
    [change] = drift[0]["changes"]
    assert drift[0]["address"] == DEPLOYMENT
    assert change["field"] == "HorizontalPodAutoscaler/loans.spec.maxReplicas"
    assert (change["recorded"], change["observed"]) == (4, 40)
    assert far.apply() == []
    assert json.loads(path.read_text())["spec"]["maxReplicas"] == 4

    (cluster / "unreachable").touch()
    assert "the cluster does not answer" in far.held()[DEPLOYMENT]
    far.mlspec("drift", code=5)
    [row] = far.json("status")["deployments"]
    assert (row["runs"], row["state"]) == ("not seen", "held")
    (cluster / "unreachable").unlink()

    far.edit("max: 4", "max: 6")
    step = far.plan()[DEPLOYMENT]
    changed = next(each for each in step["changes"] if each["field"] == "resources.replicas")
    assert (changed["recorded"]["max"], changed["desired"]["max"]) == (4, 6)
    (cluster / "refuse").write_text('"maxReplicas": 6')
    said = far.mlspec("apply", "--yes", code=1).stderr
    assert "forbidden" in said
    (cluster / "refuse").unlink()
    assert far.apply() == []

    far.mlspec("stop", "loans")
    far.mlspec("plan", "--detailed-exitcode")
    assert "version 1 serves" in far.mlspec("start", "loans").stdout
    assert "loaded the model" in far.mlspec("logs", "loans").stdout

    far.git("checkout", "--quiet", "--", ".")
    far.write("mlspec.yaml", far.read().partition("\ntargets:")[0] + "\n")
    far.mlspec("apply", "--yes", "--allow-delete")
    assert objects(cluster) == []


def test_a_release_that_is_not_ready(far: Any, cluster: Path) -> None:
    far.apply()
    far.commit("Record what was applied")
    (cluster / "unready").write_text('"mlspec.dev/version": "2"')
    far.edit("threshold: 45", "threshold: 48")
    said = far.mlspec("apply", "--yes", code=6).stderr
    assert "version 2 of loans was not taken into service" in said
    [row] = far.json("status")["deployments"]
    assert row["version"] == 1
    assert "was refused" in far.held()[DEPLOYMENT], "it is not tried again"


def test_a_rollout(far: Any, cluster: Path) -> None:
    far.edit("    ready: 5s\n", "    ready: 5s\n    gateway: {name: g, host: models.example.org}\n")
    rollout = "rollout: {strategy: canary, steps: [50%], bake: 1s, min_requests: 0}"
    far.edit("    runtime: asgi\n", f"    runtime: asgi\n    {rollout}\n")
    far.apply()
    for pod in ("loans-1", "loans-canary-1"):
        (cluster / f"metrics-{pod}").write_text(METRICS)
    far.edit("threshold: 45", "threshold: 48")
    said = far.mlspec("apply", "--yes").stderr
    assert "version 2 serves at https://models.example.org/loans, after" in said
    [row] = far.json("status")["deployments"]
    assert (row["version"], row["runs"]) == (2, "running")
    assert "Deployment.loans-canary" not in objects(cluster)
    far.commit("Record what was applied")
    far.mlspec("plan", "--detailed-exitcode")


def test_on_kserve(far: Any, cluster: Path) -> None:
    far.edit("kind: kubernetes\n", "kind: kserve\n    mode: knative\n")
    rollout = "rollout: {strategy: canary, steps: [50%], bake: 1s, min_requests: 0}"
    far.edit("    runtime: asgi\n", f"    runtime: asgi\n    {rollout}\n")
    said = far.mlspec("apply", "--yes").stderr
    assert "version 1 serves at http://loans.ml.example.org" in said
    path = cluster / "objects/InferenceService.loans.json"
    live = json.loads(path.read_text())
    live["spec"]["predictor"]["minReplicas"] = 1
    path.write_text(json.dumps(live))
    [change] = far.json("drift", code=2)["drift"][0]["changes"]
    assert change["field"] == "InferenceService/loans.spec.predictor.minReplicas"
    assert far.apply() == []
    far.edit("threshold: 45", "threshold: 48")
    said = far.mlspec("apply", "--yes").stderr
    assert "version 2 serves at http://loans.ml.example.org, after canary: 50%" in said
    assert "canaryTrafficPercent" not in json.loads(path.read_text())["spec"]["predictor"]
    [row] = far.json("status")["deployments"]
    assert (row["version"], row["runs"]) == (2, "running")


def test_manifests_for_gitops(far: Any, cluster: Path) -> None:
    far.edit("    context: test\n", "    gitops: deploy/production\n")
    far.edit("    ready: 5s\n", "")
    far.edit("    smoke:\n      - input: {income: 70, age: 30}\n", "")
    said = far.mlspec("apply", "--yes").stderr
    assert "is written to deploy/production/loans; commit it" in said
    assert objects(cluster) == []
    far.commit("Record what was applied")
    far.mlspec("plan", "--detailed-exitcode")
    [row] = far.json("status")["deployments"]
    assert (row["runs"], row["url"], row["health"]) == ("written", "deploy/production/loans", None)
    far.write("deploy/production/loans/service.yaml", "edited: true\n")
    [drift] = far.json("drift", code=2)["drift"]
    assert drift["changes"][0]["field"] == "deploy/production/loans/service.yaml"
    assert far.apply() == []
    assert far.git("status", "--porcelain") == ""
