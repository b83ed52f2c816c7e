"""The target `kubernetes`, against stand-ins for kubectl and for podman.

No cluster takes part: `standin_kubectl.py` keeps objects in a folder and says in its head what it
does. What a real API server makes of the manifests is another question, see docs/kubernetes.md.
"""

from __future__ import annotations

import json
import shutil
import socket
from dataclasses import replace

import pytest

from mlspec.errors import ExitCode, MlspecError, RemoteUnreachable, RolledBack
from mlspec.providers.kubernetes.compare import compare
from mlspec.providers.kubernetes.kubectl import Kubectl
from mlspec.providers.targets import make_target, target_where

PLACE = {
    "context": "test",
    "namespace": "ml",
    "image": {"repository": "registry.example.org/ml"},
    "project": "demo",
    "base": "python:3.11-slim",
    "ready": 5.0,
}


@pytest.fixture
def target(root, cluster):  # noqa: ARG001 stand-ins
    return make_target(root, "production", kind="kubernetes", port=3000, place=PLACE)


def objects(cluster):
    return sorted(path.stem for path in (cluster / "objects").glob("*.json"))


def load(cluster, name):
    return json.loads((cluster / "objects" / f"{name}.json").read_text())


def calls(cluster):
    return [json.loads(line) for line in (cluster / "calls").read_text().splitlines()]


def test_nothing_is_there(target):
    assert target.observe("churn") is None
    target.stop("churn")
    target.destroy("churn")


def test_deploy_and_observe(target, cluster, make_release):
    running = target.deploy("churn", make_release(), [])
    assert (running.status, running.version, running.ready) == ("serving", 1, 1)
    assert running.release == "1" * 64
    assert running.url == "http://churn.ml:3000"
    assert target.observe("churn") == running
    assert objects(cluster) == [
        "ConfigMap.mlspec-churn",
        "Deployment.churn",
        "NetworkPolicy.churn",
        "Pod.churn-1",
        "Service.churn",
    ]
    image = load(cluster, "Deployment.churn")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image.startswith("registry.example.org/ml/churn@sha256:")
    for call in calls(cluster):
        assert call[:2] == ["--context=test", "--namespace=ml"]


def test_what_is_not_wanted_any_more_is_pruned(target, cluster, make_release):
    target.deploy("churn", make_release(replicas={"min": 2, "max": 4, "cpu": 70}), [])
    assert "HorizontalPodAutoscaler.churn" in objects(cluster)
    target.deploy("churn", make_release(2), [])
    assert "HorizontalPodAutoscaler.churn" not in objects(cluster)
    assert "PodDisruptionBudget.churn" not in objects(cluster)


def test_kinds_that_not_every_cluster_has(root, cluster, make_release):
    place = {**PLACE, "gateway": {"name": "g", "namespace": None, "host": "models.example.org"}}
    target = make_target(root, "production", kind="kubernetes", port=3000, place=place)
    assert target.deploy("churn", make_release(1, place), []).url == (
        "https://models.example.org/churn"
    )
    assert "HTTPRoute.churn" in objects(cluster)
    target.deploy("churn", make_release(2), [])
    assert "HTTPRoute.churn" not in objects(cluster)
    target.deploy("churn", make_release(1, place), [])
    target.destroy("churn")
    assert objects(cluster) == []


def test_a_release_that_is_not_ready_goes_back(target, cluster, make_release):
    target.deploy("churn", make_release(1), [])
    (cluster / "unready").write_text("2" * 64)
    with pytest.raises(RolledBack, match=r"version 2 of m was not taken .*timed out") as caught:
        target.deploy("churn", make_release(2, replicas={"min": 2, "max": 4, "cpu": 70}), [])
    assert caught.value.exit_code is ExitCode.ROLLED_BACK
    assert "CrashLoopBackOff" in caught.value.message
    assert "loaded the model" in caught.value.message
    running = target.observe("churn")
    assert (running.version, running.status, running.differs) == (1, "serving", ())
    assert "HorizontalPodAutoscaler.churn" not in objects(cluster)


def test_a_first_release_that_is_not_ready_leaves_nothing(target, cluster, make_release):
    (cluster / "unready").write_text("1" * 64)
    with pytest.raises(RolledBack):
        target.deploy("churn", make_release(1), [])
    assert objects(cluster) == []


def test_smoke_rows_are_asked_before_any_request(target, cluster, make_release):
    target.deploy("churn", make_release(1), [{"a": 1}])
    (cluster / "smoke.json").write_text(json.dumps([[422, '{"error": "row 0: a is missing"}']]))
    before = load(cluster, "Deployment.churn")
    with pytest.raises(RolledBack, match="smoke request 1 of 1 got 422: row 0: a is missing"):
        target.deploy("churn", make_release(2), [{"a": 1}])
    assert load(cluster, "Deployment.churn") == before
    assert "Deployment.churn-trial" not in objects(cluster)


def test_what_the_cluster_refuses_changes_nothing(target, cluster, make_release):
    target.deploy("churn", make_release(1), [])
    before = load(cluster, "Deployment.churn")
    (cluster / "refuse").write_text("2" * 64)
    with pytest.raises(MlspecError, match="forbidden") as caught:
        target.deploy("churn", make_release(2), [])
    assert "must be allowed" in caught.value.hint
    assert load(cluster, "Deployment.churn") == before


def test_an_edit_by_hand_is_seen_field_by_field(target, cluster, make_release):
    target.deploy("churn", make_release(1), [])
    path = cluster / "objects/Deployment.churn.json"
    live = json.loads(path.read_text())
    live["spec"]["replicas"] = 7
    live["spec"]["template"]["spec"]["containers"][0]["image"] = "evil:latest"
    live["metadata"]["managedFields"] = [{"manager": "someone"}]
    path.write_text(json.dumps(live))
    (cluster / "objects/NetworkPolicy.churn.json").unlink()
    differs = {name: now for name, _, now in target.observe("churn").differs}
    assert differs == {
        "Deployment/churn.spec.replicas": 7,
        "Deployment/churn.spec.template.spec.containers[service].image": "evil:latest",
        "NetworkPolicy/churn": None,
    }
    assert target.deploy("churn", make_release(1), []).differs == ()


def test_stop_and_start(target, make_release):
    target.deploy("churn", make_release(1), [])
    target.stop("churn")
    stopped = target.observe("churn")
    assert (stopped.status, stopped.workers, stopped.differs) == ("stopped", 0, ())
    assert target.start("churn").status == "serving"


def test_start_wakes_what_an_autoscaler_leaves_alone(target, make_release):
    target.deploy("churn", make_release(1, replicas={"min": 2, "max": 4, "cpu": 70}), [])
    target.stop("churn")
    running = target.start("churn")
    assert (running.status, running.workers) == ("serving", 2)


def test_start_of_what_was_never_there(target):
    with pytest.raises(MlspecError, match="was never deployed there"):
        target.start("churn")


def test_rename(target, cluster, make_release):
    target.deploy("churn", make_release(1), [])
    target.rename("churn", "attrition")
    assert target.observe("churn") is None
    assert target.observe("attrition").version == 1
    assert "Service.attrition" in objects(cluster)


def test_a_later_apply_is_not_overwritten(target, make_release):
    target.deploy("churn", make_release(2, token=5), [])
    with pytest.raises(MlspecError, match="a later apply"):
        target.deploy("churn", make_release(1, token=4), [])


def test_two_deployments_leave_each_other_alone(target, cluster, make_release):
    target.deploy("churn", make_release(1), [])
    target.deploy("risk", make_release(2), [])
    target.destroy("churn")
    assert target.observe("risk").status == "serving"
    assert not any("churn" in name for name in objects(cluster))


def test_logs(target, make_release):
    target.deploy("churn", make_release(1), [])
    (path,) = target.logs("churn")
    assert "loaded the model" in path.read_text()


def test_as_the_ledger_remembers_it(root, target, cluster, make_release):
    target.deploy("churn", make_release(1), [])
    where = {"kind": "kubernetes", "port": 3000, **PLACE}
    target_where(root, "production", where).destroy("churn")
    assert objects(cluster) == []


@pytest.mark.parametrize(
    ("place", "file", "words"),
    [
        ({"context": "nowhere"}, "x", "kubectl knows no context 'nowhere'"),
        ({}, "unreachable", "the cluster does not answer"),
    ],
)
def test_a_cluster_that_is_not_there(root, cluster, place, file, words):
    (cluster / file).touch()
    target = make_target(root, "p", kind="kubernetes", port=3000, place={**PLACE, **place})
    with pytest.raises(RemoteUnreachable, match=words) as caught:
        target.observe("churn")
    assert caught.value.exit_code is ExitCode.UNREACHABLE


def test_no_kubectl(target, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RemoteUnreachable, match="kubectl is not installed here"):
        target.observe("churn")


# --- Rollouts ------------------------------------------------------------------------------------

GATED = {**PLACE, "gateway": {"name": "g", "namespace": None, "host": "models.example.org"}}


@pytest.fixture
def gated(root, cluster):  # noqa: ARG001 stand-ins
    return make_target(root, "production", kind="kubernetes", port=3000, place=GATED)


def weights(cluster):
    rules = load(cluster, "HTTPRoute.churn")["spec"]["rules"]
    return {each["name"]: each["weight"] for each in rules[0]["backendRefs"]}


def test_a_canary_that_is_promoted(gated, cluster, make_release):
    gated.deploy("churn", make_release(1, GATED), [])
    with gated.try_out("churn", make_release(2, GATED), [{"a": 1}], splits=True) as trial:
        assert gated.observe("churn").version == 1
        trial.weigh(0.1)
        assert weights(cluster) == {"churn": 900, "churn-canary": 100}
        (cluster / "metrics-churn-1").write_text('mlspec_requests_total{status="200"} 90\n')
        (cluster / "metrics-churn-canary-1").write_text('mlspec_requests_total{status="500"} 10\n')
        reading = trial.read()
        assert (reading.champion.total, reading.candidate.errors) == (90, 10)
        assert reading.trouble == ""
        trial.promote()
    running = gated.observe("churn")
    assert (running.version, running.differs) == (2, ())
    assert weights(cluster) == {"churn": 100}
    assert not any("canary" in name for name in objects(cluster))


def test_a_canary_that_is_aborted(gated, cluster, make_release):
    gated.deploy("churn", make_release(1, GATED), [])
    before = load(cluster, "Deployment.churn")
    with gated.try_out("churn", make_release(2, GATED), [], splits=True) as trial:
        trial.weigh(0.5)
        trial.abort()
    running = gated.observe("churn")
    assert (running.version, running.differs) == (1, ())
    assert load(cluster, "Deployment.churn") == before
    assert weights(cluster) == {"churn": 100}
    assert not any("canary" in name for name in objects(cluster))


def test_a_canary_that_gets_no_request_since_it_is_not_good(gated, cluster, make_release):
    gated.deploy("churn", make_release(1, GATED), [])
    (cluster / "unready").write_text("2" * 64)
    with (
        pytest.raises(RolledBack, match="version 2 of m was not taken into service"),
        gated.try_out("churn", make_release(2, GATED), [], splits=True),
    ):
        pass
    assert gated.observe("churn").differs == ()
    assert not any("canary" in name for name in objects(cluster))


def test_what_an_apply_that_was_killed_left_is_drift(gated, make_release):
    gated.deploy("churn", make_release(1, GATED), [])
    with gated.try_out("churn", make_release(2, GATED), [], splits=True) as trial:
        trial.weigh(0.5)
    assert any(name.startswith("HTTPRoute/churn.") for name, *_ in gated.observe("churn").differs)
    assert gated.deploy("churn", make_release(1, GATED), []).differs == ()


def test_blue_green_needs_no_gateway_and_a_canary_does(target, cluster, make_release):
    target.deploy("churn", make_release(1), [])
    with (
        pytest.raises(MlspecError, match="a canary needs a gateway"),
        target.try_out("churn", make_release(2), [], splits=True),
    ):
        pass
    with target.try_out("churn", make_release(2), [], splits=False) as trial:
        trial.weigh(1.0)
        trial.promote()
    assert target.observe("churn").version == 2
    assert not any("canary" in name for name in objects(cluster))


def test_a_challenger_gets_its_share_when_it_is_ready(gated, cluster, make_release):
    part = {"shadow": False, "share": 0.05, "by": None, "header": None}

    def weights():
        rules = load(cluster, "HTTPRoute.churn")["spec"]["rules"]
        return [{each["name"]: each["weight"] for each in rule["backendRefs"]} for rule in rules]

    def champion(version):
        return gated.deploy("churn", make_release(version, GATED, challenger=part), [])

    champion(1)
    assert weights() == 2 * [{"churn": 100}]
    beside = make_release(2, GATED, challenges="churn")
    running = gated.deploy("churn-challenger", beside, [])
    assert running.url.startswith("http://churn-challenger.ml:")
    both = {"churn": 9500, "churn-challenger": 500}
    assert weights() == 2 * [both]
    assert "HTTPRoute.churn-challenger" not in objects(cluster)
    assert gated.observe("churn").differs == ()
    champion(3)
    assert weights() == 2 * [both], "a new champion leaves it its share"
    gated.stop("churn-challenger")
    assert weights() == 2 * [{"churn": 100}]
    gated.start("churn-challenger")
    assert weights() == 2 * [both]
    gated.destroy("churn-challenger")
    assert weights() == 2 * [{"churn": 100}]
    assert gated.observe("churn").differs == ()


# --- A real kubectl, and no cluster --------------------------------------------------------------


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
@pytest.mark.parametrize(
    ("user", "context", "words"),
    [
        ({"token": "x"}, "test", "the cluster does not answer"),
        ({"token": "x"}, "elsewhere", "kubectl knows no context 'elsewhere'"),
        ({}, "test", "was refused"),
    ],
)
def test_what_a_real_kubectl_says(tmp_path, monkeypatch, free_port, user, context, words):
    cluster = {"server": f"https://127.0.0.1:{free_port}", "insecure-skip-tls-verify": True}
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "test", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "config").write_text(json.dumps(settings))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("HOME", str(tmp_path))
    kubectl = Kubectl(context, "ml")
    item = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}
    for call in (
        lambda: kubectl.get("deployments.apps,configmaps,pods", "--selector=a=b"),
        lambda: kubectl.apply([item], dry=True),
        lambda: kubectl.delete("configmaps", "--selector=a=b"),
        lambda: kubectl.run("rollout", "status", "deployment/x", "--timeout=5s"),
        lambda: kubectl.run("scale", "deployment/x", "--replicas=0"),
        lambda: kubectl.run("exec", "--stdin", "deployment/x", "--container=c", "--", "true"),
        lambda: kubectl.run("logs", "--selector=a=b", "--prefix", "--max-log-requests=50"),
    ):
        with pytest.raises(MlspecError, match=words) as caught:
            call()
        assert user or "no credentials" in caught.value.hint


@pytest.fixture
def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.parametrize(
    ("wanted", "seen", "found"),
    [
        ({"a": 1}, {"a": 1, "b": 2}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", 1, 2)]),
        ({"a": [1, 2]}, {"a": [1]}, [("a", [1, 2], [1])]),
        ({"a": {}}, {}, []),
        ({"env": [{"name": "x", "value": "1"}]}, {"env": []}, [("env[x]",)]),
        (
            {"containers": [{"name": "service", "image": "a"}]},
            {"containers": [{"name": "proxy"}, {"name": "service", "image": "a"}]},
            [],
        ),
    ],
)
def test_compare(wanted, seen, found):
    assert [each[: len(found[0])] for each in compare(wanted, seen)] == found


# --- A folder that a cluster takes its manifests from ---------------------------------------------

FOLDER = {**PLACE, "gitops": "deploy/production", "context": None}


@pytest.fixture
def folder(root, cluster):  # noqa: ARG001 stand-ins
    return make_target(root, "production", kind="kubernetes", port=3000, place=FOLDER)


def test_gitops_writes_and_applies_nothing(folder, root, cluster, make_release):
    running = folder.deploy("churn", make_release(1, FOLDER), [])
    assert (
        running.note == "is written to deploy/production/churn; commit it, and the cluster takes it"
    )
    assert not (cluster / "calls").exists()
    assert folder.observe("churn") == running
    names = sorted(path.name for path in (root / "deploy/production/churn").iterdir())
    assert names == [
        "deployment.yaml",
        "kustomization.yaml",
        "mlspec.json",
        "networkpolicy.yaml",
        "service.yaml",
    ]


def test_gitops_twice_gives_the_same_bytes(folder, root, make_release):
    def tree():
        return {path: path.read_bytes() for path in (root / "deploy").rglob("*.*")}

    folder.deploy("churn", make_release(1, FOLDER), [])
    before = tree()
    folder.deploy("churn", make_release(1, FOLDER), [])
    assert tree() == before


def test_gitops_drift(folder, root, make_release):
    folder.deploy("churn", make_release(1, FOLDER, replicas={"min": 1, "max": 2, "cpu": 70}), [])
    path = root / "deploy/production/churn"
    (path / "deployment.yaml").write_text("edited: true\n")
    (path / "poddisruptionbudget.yaml").unlink()
    (path / "more.yaml").write_text("more: true\n")
    differs = [name.rpartition("/")[2] for name, *_ in folder.observe("churn").differs]
    assert differs == ["deployment.yaml", "more.yaml", "poddisruptionbudget.yaml"]
    assert folder.deploy("churn", make_release(1, FOLDER), []).differs == ()
    assert folder.observe("churn").differs == ()


def test_gitops_destroy_and_rename(folder, root, make_release):
    folder.deploy("churn", make_release(1, FOLDER), [])
    folder.rename("churn", "attrition")
    assert folder.observe("churn") is None
    assert "attrition" in (root / "deploy/production/kustomization.yaml").read_text()
    folder.destroy("attrition")
    assert [path for path in (root / "deploy").rglob("*") if path.is_file()] == []


def test_gitops_has_no_processes(folder, make_release):
    folder.deploy("churn", replace(make_release(1, FOLDER)), [])
    for verb in (folder.stop, folder.start, folder.logs):
        with pytest.raises(MlspecError, match="is manifests in deploy/production"):
            verb("churn")
