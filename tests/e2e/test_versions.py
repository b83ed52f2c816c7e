"""What is accepted serves, what is not changes nothing, and going back costs nothing."""

from __future__ import annotations

import json
import urllib.error
from typing import Any

import pytest

from mlspec.git import Git
from mlspec.ledger.lock import acquire

pytestmark = pytest.mark.slow
DEPLOYMENT = "deployment.loans@local"
TRAINED = ["train", "evaluate"]


def actions(plan: dict[str, Any]) -> dict[str, str]:
    return {a: s["action"] for a, s in plan.items() if not a.startswith("file.")}


def test_a_worse_model_is_refused_once_and_the_champion_still_answers(served: Any) -> None:
    workers = served.serving()["ready"]
    good = served.read()
    served.edit("threshold: 45", "threshold: 35")
    served.commit("Take more risk")
    assert served.apply(code=3) == TRAINED
    assert served.ask(70) == (1, 25.0)
    assert served.plan() == {}
    assert served.held() == {"model.loans": "candidate rejected: accuracy 0.85 < 0.9"}
    assert "held (candidate rejected: accuracy 0.85 < 0.9)" in served.mlspec("status").stdout
    assert served.apply() == []
    served.check_settled()
    served.commit("Record what was applied")

    served.write("mlspec.yaml", good)
    plan = served.plan()
    assert actions(plan) == {"stage.loans.train": "restore", "stage.loans.evaluate": "restore"}
    assert "ran before" in plan["stage.loans.train"]["reason"]
    assert served.apply() == []
    assert served.ask(70) == (1, 25.0)
    assert served.serving()["ready"] == workers, "what served all the time was not restarted"
    assert json.loads(served.read("metrics/loans.json")) == {"accuracy": 0.95}
    served.check_settled()


def test_a_better_model_serves_and_after_a_revert_the_first_one_does_again(served: Any) -> None:
    served.edit("threshold: 45", "threshold: 48")
    served.commit("Take less risk")
    assert served.apply() == TRAINED
    assert served.ask(70) == (2, 22.0)
    served.commit("Record what was applied")

    served.git("revert", "--no-edit", "HEAD", "HEAD~1")
    plan = served.plan()
    assert plan[DEPLOYMENT]["action"] == "rollback"
    assert plan[DEPLOYMENT]["reason"] == "spec, code and data are those of version 1 again"
    assert served.apply() == []
    assert served.ask(70) == (1, 25.0)
    served.check_settled()

    served.git("revert", "--no-edit", "HEAD~1", "HEAD")
    assert served.plan()[DEPLOYMENT]["reason"] == "version 2 is accepted"
    assert served.apply() == []
    assert served.ask(70) == (2, 22.0)
    served.check_settled()


def test_gates_are_asked_anew_when_they_change_and_nothing_runs(served: Any) -> None:
    workers = served.serving()["ready"]
    served.edit("min: 0.90", "min: 0.96")
    assert actions(served.plan()) == {
        "gate.loans.accuracy": "evaluate",
        "model.loans": "register",
    }
    assert served.apply(code=3) == []
    assert served.held() == {"model.loans": "candidate rejected: accuracy 0.95 < 0.96"}
    served.check_settled()

    served.edit("min: 0.96", "min: 0.94")
    assert served.apply() == []
    assert served.held() == {}
    assert served.ask(70) == (1, 25.0)
    assert served.serving()["ready"] == workers, "the version that served is accepted again"
    served.check_settled()

    served.edit("threshold: 45", "threshold: 35")
    assert served.apply(code=3) == TRAINED
    served.edit("min: 0.94}", "min: 0.94, level: warn}")
    assert served.apply(code=3) == [], "the other gate still fails"
    said = served.held()["model.loans"]
    assert said == "candidate rejected: accuracy 0.85 < 0.93 (version 1 has 0.95)"
    served.edit("      no-worse: {metric: accuracy, against: champion, max_drop: 0.02}\n", "")
    assert actions(served.plan()) == {"model.loans": "register", DEPLOYMENT: "deploy"}
    assert served.apply() == []
    assert served.ask(70) == (2, 35.0)
    [verdict] = served.json("show", "model.loans@2")["verdicts"]
    assert (verdict["gate"], verdict["level"], verdict["result"]) == ("accuracy", "warn", "fail")
    served.check_settled()


def test_a_gate_may_insist_on_a_champion(project: Any) -> None:
    project.edit("max_drop: 0.02}", "max_drop: 0.02, without_champion: fail}")
    with pytest.raises(AssertionError, match=r"exit 3(.|\n)*no champion to compare with"):
        project.deploy()
    assert project.held() == {
        "model.loans": "candidate rejected: accuracy 0.95, no champion to compare with",
        DEPLOYMENT: "its model has no accepted version",
    }
    assert project.plan() == {}


def test_a_release_that_fails_its_smoke_row_is_refused_until_the_spec_changes(served: Any) -> None:
    workers = served.serving()["ready"]
    served.edit("threshold: 45", "threshold: 48")
    served.edit("income: 70, age: 30", "income: 70, length: 30")
    assert served.apply(code=6) == TRAINED
    assert served.ask(70) == (1, 25.0)
    assert served.serving()["ready"] == workers
    assert served.plan() == {}
    assert "was refused: version 2 of loans was not taken" in served.held()[DEPLOYMENT]
    assert "smoke request 1 of 1 got 4" in served.held()[DEPLOYMENT]
    served.check_settled()

    served.edit("income: 70, length: 30", "income: 71, age: 30")
    assert actions(served.plan()) == {DEPLOYMENT: "deploy"}
    assert served.apply() == []
    assert served.ask(70) == (2, 22.0)
    served.check_settled()


def test_what_was_stopped_stays_stopped_until_it_is_started(served: Any) -> None:
    assert "1 of 1 workers ready, in step" in served.mlspec("status").stdout
    served.mlspec("stop", "loans")
    with pytest.raises(urllib.error.URLError):
        served.ask(70)
    assert "version 1 of loans, stopped, in step" in served.mlspec("status").stdout
    served.check_settled()

    served.edit("threshold: 45", "threshold: 48")
    assert served.apply() == TRAINED
    assert "it was stopped" in served.held()[DEPLOYMENT]
    with pytest.raises(urllib.error.URLError):
        served.ask(70)

    served.mlspec("start", DEPLOYMENT)
    assert served.ask(70) == (1, 25.0)
    assert served.plan()[DEPLOYMENT]["reason"] == "version 2 is accepted"
    assert served.apply() == []
    assert served.ask(70) == (2, 22.0)
    assert "version 2" in served.mlspec("logs", "loans", "--all").stdout
    assert served.mlspec("logs", "lones", code=1).stderr.count(DEPLOYMENT) == 1


def test_a_deployment_that_died_is_drift_and_is_mended(served: Any) -> None:
    served.run("kill", "-9", str(served.serving()["pid"]))
    step = served.plan()[DEPLOYMENT]
    assert (step["action"], step["reason"]) == ("deploy", "drift: it is not running")
    assert "not running" in served.mlspec("status").stdout
    assert served.apply() == []
    assert served.ask(70) == (1, 25.0)


def test_the_lineage_and_the_audit_trail_can_be_read(served: Any) -> None:
    version = served.json("show", "model.loans@1")
    run = version["stages"]["train"]
    assert version["artifact"]["md5"] == run["wrote"]["models/loans.onnx"]
    assert version["commit"] == served.git("rev-list", "--max-parents=0", "HEAD")
    assert version["dirty"] is False
    assert run["read"].keys() >= {"build/rows.csv", "src/train.py", "src/linear.py"}
    prepared = version["stages"]["prepare"]
    assert prepared["read"]["data/loans.csv"]
    assert prepared["wrote"]["build/rows.csv"] == run["read"]["build/rows.csv"]
    assert {v["gate"]: v["result"] for v in version["verdicts"]} == {
        "accuracy": "pass",
        "no-worse": "pass",
    }
    assert [c["name"] for c in version["signature"]["columns"]] == ["income", "age"]
    serves = served.json("show", DEPLOYMENT)["serves"]
    assert serves == version
    for address in ("model.loans", "stage.loans.train", "gate.loans.accuracy", DEPLOYMENT):
        assert address in served.mlspec("show", address).stdout
    assert "nothing at model.loans@7" in served.mlspec("show", "model.loans@7", code=1).stderr

    entries = served.json("log")
    assert [entry["serial"] for entry in entries] == list(range(len(entries), 0, -1))
    assert entries[0]["address"] == DEPLOYMENT
    assert {entry["who"] for entry in entries} == {"Ada <ada@example.org>"}
    assert all(entry["commit"] for entry in entries)
    told = served.mlspec("log", "model.loans").stdout.splitlines()
    assert len(told) == len(entries) == len({entry["address"] for entry in entries})


def test_what_leaves_the_spec_is_deleted_only_when_that_is_allowed(served: Any) -> None:
    whole = served.read()
    served.write("mlspec.yaml", whole + f"\npolicy:\n  protect: [{DEPLOYMENT}]\n")
    assert "protected" in served.mlspec("destroy", "--yes", code=1).stderr
    served.apply()
    head, _, _ = whole.partition("\ntargets:")
    served.write("mlspec.yaml", head + f"\npolicy:\n  protect: [{DEPLOYMENT}]\n")
    assert "take it out of `policy.protect` first" in served.mlspec("plan", code=1).stderr
    served.write("mlspec.yaml", head)
    assert "is protected" in served.mlspec("plan", code=1).stderr

    served.write("mlspec.yaml", whole)
    served.apply()
    served.write("mlspec.yaml", head)
    assert actions(served.plan()) == {DEPLOYMENT: "delete"}
    assert "--allow-delete" in served.mlspec("apply", "--yes", code=1).stderr
    assert served.ask(70) == (1, 25.0)
    assert served.apply("--allow-delete") == []
    assert not (served.root / ".mlspec/run/loans@local").exists()
    assert not (served.root / "services/loans").exists()
    served.check_settled()

    served.write("mlspec.yaml", "mlspec: 1\nproject: loans\n")
    assert actions(served.plan()) == {"model.loans": "delete"}
    assert "--allow-empty" in served.mlspec("apply", "--yes", "--allow-delete", code=1).stderr
    assert served.apply("--allow-delete", "--allow-empty") == []
    assert not (served.root / "pipelines/loans").exists()
    served.mlspec("plan", "--detailed-exitcode")

    served.write("mlspec.yaml", head)
    assert served.apply() == [], "its versions and runs were kept"
    assert served.json("show", "model.loans")["retired"] is False
    served.check_settled()


def test_destroy_stops_and_forgets_and_apply_brings_it_back(served: Any) -> None:
    served.mlspec("destroy", "--yes")
    assert not (served.root / ".mlspec/run/loans@local").exists()
    assert "Nothing is deployed" in served.mlspec("destroy", "--yes").stdout
    assert actions(served.plan()) == {DEPLOYMENT: "deploy"}
    assert served.apply() == []
    assert served.ask(70) == (1, 25.0)


def test_a_saved_plan_is_applied_exactly_or_not_at_all(project: Any) -> None:
    plan = project.root.parent / "plan.json"

    def save() -> str:
        project.mlspec("plan", "--out", str(plan))
        return str(plan)

    def refuse(*reasons: str) -> None:
        said = project.mlspec("apply", str(plan), code=1).stderr
        assert all(reason in said for reason in reasons), said
        assert project.ran() == []

    project.edit("threshold: 45", "threshold: 46")
    project.journal.unlink(missing_ok=True)
    save()
    project.edit("threshold: 46", "threshold: 47")
    refuse("stale", "the spec changed")
    save()
    project.commit("Take less risk")
    refuse("stale", "the commit changed")
    save()
    project.edit("AGE_WEIGHT = 0.0", "AGE_WEIGHT = 0", "src/train.py")
    refuse("stale", "files of the repository", "params.threshold and src/train.py changed")
    project.edit("AGE_WEIGHT = 0", "AGE_WEIGHT = 0.0", "src/train.py")
    text = plan.read_text()
    for altered in (text.replace("evaluate", "evaluatf", 1), text.replace('"unchanged": ', "", 1)):
        plan.write_text(altered)
        refuse(str(plan))
    plan.write_text(text)
    project.mlspec("apply", str(plan))
    assert project.ran() == TRAINED
    project.journal.unlink()
    refuse("stale", "the ledger")
    project.check_settled()


def test_an_apply_waits_for_nobody_and_names_who_holds_the_lock(project: Any) -> None:
    project.edit("threshold: 45", "threshold: 46")
    with acquire(Git(project.root)) as holder:
        refused = project.mlspec("apply", "--yes", code=4).stderr
        assert str(holder.pid) in refused
        assert holder.holder in refused
        project.mlspec("plan")
    assert project.apply() == TRAINED
