"""The target `kserve`, against stand-ins for kubectl with KServe behind it, and for podman.

What a real API server makes of the object is tried in tests/e2e/test_api_server.py; no controller
of KServe takes part in either, see docs/kserve.md.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from mlspec.errors import MlspecError, RolledBack
from mlspec.providers.targets import make_target, target_where

PLACE = {
    "context": "test",
    "namespace": "ml",
    "mode": "knative",
    "image": {"repository": "registry.example.org/ml"},
    "project": "demo",
    "base": "python:3.11-slim",
    "ready": 1.0,
}


@pytest.fixture
def release(make_release):
    def make(version=1, place=PLACE, **settings):
        return make_release(version, place, kind="kserve", **settings)

    return make


@pytest.fixture
def target(root, cluster):  # noqa: ARG001 stand-ins
    return make_target(root, "production", kind="kserve", port=3000, place=PLACE)


def objects(cluster):
    return sorted(path.stem for path in (cluster / "objects").glob("*.json"))


def load(cluster, name="InferenceService.churn"):
    return json.loads((cluster / "objects" / f"{name}.json").read_text())


def test_deploy_and_observe(target, cluster, release):
    assert target.observe("churn") is None
    running = target.deploy("churn", release(), [])
    assert (running.status, running.version, running.workers, running.ready) == ("serving", 1, 1, 1)
    assert running.url == "http://churn.ml.example.org"
    assert target.observe("churn") == running
    assert objects(cluster) == [
        "ConfigMap.mlspec-churn",
        "InferenceService.churn",
        f"Pod.churn-{'1' * 12}-0",
    ]
    predictor = load(cluster)["spec"]["predictor"]
    assert "@sha256:" in predictor["containers"][0]["image"]
    assert target.deploy("churn", release(2), []).version == 2
    assert f"Pod.churn-{'1' * 12}-0" not in objects(cluster)


def test_a_release_that_is_not_ready_goes_back(target, cluster, release):
    target.deploy("churn", release(1), [])
    (cluster / "unready").write_text("2" * 64)
    with pytest.raises(RolledBack, match="version 2 of m was not taken into service") as caught:
        target.deploy("churn", release(2), [])
    assert "PredictorReady: RevisionFailed: the container does not start" in caught.value.message
    assert "CrashLoopBackOff" in caught.value.message
    running = target.observe("churn")
    assert (running.version, running.status, running.differs) == (1, "serving", ())


def test_a_first_release_that_is_not_ready_leaves_nothing(target, cluster, release):
    (cluster / "unready").write_text("1" * 64)
    with pytest.raises(RolledBack):
        target.deploy("churn", release(1), [])
    assert objects(cluster) == []


def test_smoke_rows_are_asked_of_a_pod_of_its_own(target, cluster, release):
    target.deploy("churn", release(1), [{"a": 1}])
    (cluster / "smoke.json").write_text(json.dumps([[422, '{"error": "row 0: a is missing"}']]))
    before = load(cluster)
    with pytest.raises(RolledBack, match="smoke request 1 of 1 got 422: row 0: a is missing"):
        target.deploy("churn", release(2), [{"a": 1}])
    assert load(cluster) == before
    assert not any("trial" in name for name in objects(cluster))


def test_what_the_cluster_refuses_changes_nothing(target, cluster, release):
    target.deploy("churn", release(1), [])
    before = load(cluster)
    (cluster / "refuse").write_text("2" * 64)
    with pytest.raises(MlspecError, match="forbidden"):
        target.deploy("churn", release(2), [])
    assert load(cluster) == before


def test_an_edit_by_hand_is_seen_field_by_field(target, cluster, release):
    target.deploy("churn", release(1), [])
    live = load(cluster)
    live["spec"]["predictor"]["maxReplicas"] = 9
    live["spec"]["predictor"]["containers"][0]["image"] = "evil:latest"
    live["spec"]["predictor"]["model"] = {"modelFormat": {"name": "x"}}
    (cluster / "objects/InferenceService.churn.json").write_text(json.dumps(live))
    assert {name: now for name, _, now in target.observe("churn").differs} == {
        "InferenceService/churn.spec.predictor.maxReplicas": 9,
        "InferenceService/churn.spec.predictor.containers[kserve-container].image": "evil:latest",
    }
    assert target.deploy("churn", release(1), []).differs == ()
    (cluster / "objects/InferenceService.churn.json").unlink()
    [(field, _, now)] = target.observe("churn").differs
    assert (field, now) == ("InferenceService/churn", None)


def test_stop_and_start(target, cluster, release):
    target.deploy("churn", release(1), [])
    target.stop("churn")
    stopped = target.observe("churn")
    assert (stopped.status, stopped.workers, stopped.differs) == ("stopped", 0, ())
    assert target.start("churn").status == "serving"
    assert "serving.kserve.io/stop" not in load(cluster)["metadata"]["annotations"]


def test_a_kserve_that_cannot_stop(target, cluster, release, monkeypatch):
    monkeypatch.setattr("mlspec.providers.kubernetes.kserve.WAITS_AT_LEAST", 0.5)
    target.deploy("churn", release(1), [])
    (cluster / "keeps").touch()
    with pytest.raises(MlspecError, match="KServe keeps its pods") as caught:
        target.stop("churn")
    assert "0.16" in caught.value.hint


def test_rename_and_destroy(target, cluster, release):
    target.deploy("churn", release(1), [])
    target.rename("churn", "attrition")
    assert target.observe("churn") is None
    assert target.observe("attrition").version == 1
    where = {"kind": "kserve", "port": 3000, **PLACE}
    target_where(target.root, "production", where).destroy("attrition")
    assert objects(cluster) == []


def test_what_kserve_made_of_it_is_left_to_kserve(target, cluster, release):
    """It passes labels on to what it makes: none of that is pruned, or taken for the deployment."""
    target.deploy("churn", release(1), [])
    labels = load(cluster)["metadata"]["labels"]
    service = {"kind": "Service", "metadata": {"name": "churn-predictor", "labels": labels}}
    (cluster / "objects/Service.churn-predictor.json").write_text(json.dumps(service))
    target.deploy("churn", release(2), [])
    target.destroy("churn")
    assert objects(cluster) == ["Service.churn-predictor"]


def test_a_later_apply_is_not_overwritten(target, release):
    target.deploy("churn", replace(release(2), token=5), [])
    with pytest.raises(MlspecError, match="a later apply"):
        target.deploy("churn", replace(release(1), token=4), [])


def test_a_canary_that_is_promoted(target, cluster, release):
    target.deploy("churn", release(1), [])
    with target.try_out("churn", release(2), [{"a": 1}], splits=True) as trial:
        assert load(cluster)["spec"]["predictor"]["canaryTrafficPercent"] == 0
        trial.weigh(0.1)
        assert load(cluster)["spec"]["predictor"]["canaryTrafficPercent"] == 10
        for version, status, count in ((1, 200, 90), (2, 500, 10)):
            text = f'mlspec_requests_total{{status="{status}"}} {count}\n'
            (cluster / f"metrics-churn-{str(version) * 12}-0").write_text(text)
        reading = trial.read()
        assert (reading.champion.total, reading.candidate.errors) == (90, 10)
        assert reading.trouble == ""
        trial.promote()
    running = target.observe("churn")
    assert (running.version, running.differs) == (2, ())
    assert "canaryTrafficPercent" not in load(cluster)["spec"]["predictor"]
    assert f"Pod.churn-{'1' * 12}-0" not in objects(cluster)


def test_a_canary_that_is_aborted(target, cluster, release):
    target.deploy("churn", release(1), [])
    before = load(cluster)
    with target.try_out("churn", release(2), [], splits=True) as trial:
        trial.weigh(0.5)
        trial.abort()
    running = target.observe("churn")
    assert (running.version, running.differs) == (1, ())
    assert load(cluster) == before


def test_a_canary_that_is_not_ready_gets_no_request(target, cluster, release):
    target.deploy("churn", release(1), [])
    (cluster / "unready").write_text("2" * 64)
    with (
        pytest.raises(RolledBack, match="version 2 of m was not taken into service"),
        target.try_out("churn", release(2), [], splits=True),
    ):
        pass
    assert target.observe("churn").differs == ()


def test_what_an_apply_that_was_killed_left_is_drift(target, release):
    target.deploy("churn", release(1), [])
    with target.try_out("churn", release(2), [], splits=True) as trial:
        trial.weigh(0.5)
    fields = {name for name, *_ in target.observe("churn").differs}
    assert "InferenceService/churn.spec.predictor.canaryTrafficPercent" in fields
    assert target.deploy("churn", release(1), []).differs == ()


@pytest.mark.parametrize(("mode", "splits"), [("standard", True), ("knative", False)])
def test_rollouts_that_kserve_has_no_way_to(root, cluster, release, mode, splits):  # noqa: ARG001
    place = {**PLACE, "mode": mode}
    target = make_target(root, "production", kind="kserve", port=3000, place=place)
    target.deploy("churn", release(1, place), [])
    with (
        pytest.raises(MlspecError, match="KServe splits requests in mode knative"),
        target.try_out("churn", release(2, place), [], splits=splits),
    ):
        pass


def test_gitops_writes_and_applies_nothing(root, cluster, release):
    place = {**PLACE, "gitops": "deploy/production", "context": None}
    target = make_target(root, "production", kind="kserve", port=3000, place=place)
    running = target.deploy("churn", release(1, place), [])
    assert running.manifests and target.observe("churn") == running
    folder = root / "deploy/production/churn"
    assert 'kind: "InferenceService"' in (folder / "inferenceservice.yaml").read_text()
    assert not (cluster / "calls").exists()
