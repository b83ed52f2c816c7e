"""Verdicts on a candidate, and whom it is compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

import pytest

from mlspec.errors import MlspecError
from mlspec.ledger.paths import deployment_path, run_path, state_path, version_path
from mlspec.ledger.records import Candidate, Deployed, ModelState, Record, Run, Verdict, Version
from mlspec.ledger.state import Recorded
from mlspec.providers.gates import candidate_metrics, find_champion, with_verdict
from mlspec.resources import DeploymentResource, Desired, ModelResource, Resource
from mlspec.spec.models import Deployment, Model, Quarantine, Spec, Stage

Result = Literal["pass", "fail", "inconclusive"]
T, E, S = (letter * 64 for letter in "abc")
QUESTIONS: dict[str, Mapping[str, Any]] = {
    "a": {"metric": "auc", "min": 0.8},
    "b": {"metric": "f1"},
}


def verdict(gate: str, result: Result = "pass", level: Literal["fail", "warn"] = "fail") -> Verdict:
    return Verdict(gate=gate, metric="auc", level=level, result=result, value=0.5, detail="")


def candidate(*verdicts: Verdict, **changes: Any) -> Candidate:
    fields = {
        "fingerprint": "f",
        "stages": {},
        "status": "judging",
        "commit": "",
        "gates": {each.gate: QUESTIONS[each.gate] for each in verdicts},
        "verdicts": verdicts,
    }
    return Candidate.model_validate({**fields, **changes})


def answers(judged: Candidate) -> dict[str, str]:
    return {each.gate: each.result for each in judged.verdicts}


def test_a_candidate_is_judged_until_every_gate_has_answered() -> None:
    first = with_verdict(candidate(), verdict("b"), QUESTIONS)
    assert (first.status, answers(first), set(first.gates)) == ("judging", {"b": "pass"}, {"b"})
    both = with_verdict(first, verdict("a"), QUESTIONS)
    assert (both.status, answers(both)) == ("judging", {"a": "pass", "b": "pass"})
    assert both.gates == QUESTIONS
    assert candidate().verdicts == ()


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
@pytest.mark.parametrize("result", ["fail", "inconclusive"])
def test_one_that_does_not_pass_rejects_when_all_have_answered(
    order: tuple[str, str], result: Result
) -> None:
    results: dict[str, Result] = {"a": result, "b": "pass"}
    judged = candidate()
    for position, gate in enumerate(order):
        judged = with_verdict(judged, verdict(gate, results[gate]), QUESTIONS)
        assert judged.status == ("judging" if position == 0 else "rejected")


def test_a_warning_does_not_reject() -> None:
    warned = with_verdict(candidate(verdict("a")), verdict("b", "fail", "warn"), QUESTIONS)
    assert (warned.status, answers(warned)) == ("judging", {"a": "pass", "b": "fail"})


def test_a_second_answer_takes_the_place_of_the_first() -> None:
    judged = with_verdict(candidate(verdict("a", "fail")), verdict("a"), QUESTIONS)
    assert answers(judged) == {"a": "pass"}


def test_gates_that_the_model_has_no_more_are_forgotten() -> None:
    before = candidate(verdict("a"), verdict("b", "fail"))
    judged = with_verdict(before, verdict("a"), {"a": QUESTIONS["a"]})
    assert (judged.status, answers(judged), set(judged.gates)) == ("judging", {"a": "pass"}, {"a"})


def test_an_answer_to_another_question_does_not_count() -> None:
    changed = {**QUESTIONS, "b": {"metric": "f1", "min": 0.9}}
    judged = with_verdict(candidate(verdict("b")), verdict("a"), changed)
    assert (judged.status, answers(judged)) == ("judging", {"a": "pass"})


def test_a_rejected_candidate_that_is_judged_anew_forgets_what_rejected_it() -> None:
    rejected = candidate(verdict("a", "fail"), verdict("b"), status="rejected")
    judged = with_verdict(rejected, verdict("b"), QUESTIONS)
    assert (judged.status, answers(judged)) == ("judging", {"b": "pass"})


def test_a_version_stays_a_version() -> None:
    accepted = candidate(verdict("a"), verdict("b"), status="accepted", version=3)
    judged = with_verdict(accepted, verdict("a", "fail"), QUESTIONS)
    assert (judged.status, judged.version) == ("rejected", 3)


# Metrics ------------------------------------------------------------------------------------------


def context(records: Mapping[str, Record], *resources: Resource) -> Any:
    desired = Desired(Spec(mlspec=1, project="p"), "", {r.address: r for r in resources})
    return SimpleNamespace(desired=desired, recorded=Recorded.of(records))


def run(stage: str, **metrics: float) -> Run:
    entry = {"cmd": "", "deps": [{"path": f"{stage}.csv", "md5": stage}]}
    return Run(stage=stage, fingerprint=stage, entry=entry, metrics=metrics, seconds=1, commit="c")


def test_metrics_are_those_of_all_stages() -> None:
    records = {
        run_path("m", "train", T): run("train", loss=0.1),
        run_path("m", "evaluate", E): run("evaluate", auc=0.9),
    }
    stages = {"train": T, "evaluate": E, "split": S}
    assert candidate_metrics("m", stages, context(records)) == {"loss": 0.1, "auc": 0.9}


def test_a_metric_of_two_stages_is_refused() -> None:
    records = {
        run_path("m", "train", T): run("train", auc=0.1),
        run_path("m", "evaluate", E): run("evaluate", auc=0.9),
    }
    with pytest.raises(MlspecError, match="auc is measured by train and by an earlier"):
        candidate_metrics("m", {"train": T, "evaluate": E}, context(records))


# The champion -------------------------------------------------------------------------------------

MODEL = ModelResource("m", Model(stages={"train": Stage(command="true")}), (), ())


def deployment(target: str, *after: str, name: str = "d", model: str = "m") -> DeploymentResource:
    return DeploymentResource(
        name=name,
        target=target,
        deployment=Deployment(model=model, targets=(target,)),
        port=3000,
        service={},
        settings={},
        files=(),
        after=tuple(f"deployment.{name}@{each}" for each in after),
    )


def serving(target: str, version: int, **changes: Any) -> dict[str, Record]:
    fields: dict[str, Any] = {
        "deployment": "d",
        "target": target,
        "model": "m",
        "version": version,
        "release": "r",
        "status": "serving",
        "place": "here",
    }
    return {deployment_path("d", target): Deployed.model_validate({**fields, **changes})}


def versions(*numbers: int) -> dict[str, Record]:
    return {
        version_path("m", number): Version(
            model="m",
            number=number,
            fingerprint=f"f{number}",
            stages={"train": T},
            artifact=None,
            signature=None,
            metrics={"auc": number / 10},
            verdicts=(),
            commit="c",
        )
        for number in numbers
    }


Case = tuple[dict[str, Record], tuple[DeploymentResource, ...], int | None]
CASES: dict[str, Callable[[], Case]] = {
    "no deployments: the newest": lambda: (
        {**versions(1, 2), state_path("m"): ModelState(version=2)},
        (),
        2,
    ),
    "no version": lambda: ({state_path("m"): ModelState()}, (), None),
    "nothing recorded": lambda: ({}, (), None),
    "deployed nowhere yet": lambda: (
        {**versions(1), state_path("m"): ModelState(version=1)},
        (deployment("local"),),
        None,
    ),
    "what serves, not the newest": lambda: (
        {**versions(1, 2), state_path("m"): ModelState(version=2), **serving("local", 1)},
        (deployment("local"),),
        1,
    ),
    "where promotion ends": lambda: (
        {**versions(1, 2), **serving("production", 1), **serving("staging", 2)},
        (deployment("staging"), deployment("production", "staging")),
        1,
    ),
    "as far as promotion came": lambda: (
        {**versions(1, 2), **serving("staging", 2)},
        (deployment("staging"), deployment("production", "staging")),
        2,
    ),
    "one that is stopped still is": lambda: (
        {**versions(1), **serving("local", 1, status="stopped")},
        (deployment("local"),),
        1,
    ),
    "it served another model before": lambda: (
        {**versions(1), **serving("local", 1, model="other")},
        (deployment("local"),),
        None,
    ),
    "deployments of other models": lambda: (
        {**versions(1), state_path("m"): ModelState(version=1), **serving("local", 1)},
        (deployment("local", model="other"),),
        1,
    ),
    "a version that the ledger lost": lambda: (serving("local", 4), (deployment("local"),), None),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_the_champion(case: Callable[[], Case]) -> None:
    records, resources, number = case()
    champion = find_champion(MODEL, context(records, MODEL, *resources))
    assert (champion.version if champion else None) == number
    if champion is not None:
        assert (champion.fingerprint, champion.metrics) == (f"f{number}", {"auc": number / 10})


@pytest.mark.parametrize(("bad", "number"), [((3,), 2), ((3, 2), 1), ((2,), 3), ((3, 2, 1), None)])
@pytest.mark.parametrize("deployed", [True, False])
def test_a_quarantined_version_is_no_champion(
    bad: tuple[int, ...], number: int | None, deployed: bool
) -> None:
    quarantine = tuple(Quarantine(version=each, reason="bad") for each in bad)
    model = replace(MODEL, model=MODEL.model.model_copy(update={"quarantine": quarantine}))
    resources = (deployment("local"),) if deployed else ()
    records = {**versions(1, 2, 3), state_path("m"): ModelState(version=3), **serving("local", 3)}
    champion = find_champion(model, context(records, model, *resources))
    assert (champion.version if champion else None) == number


def test_the_champion_knows_what_it_was_measured_on() -> None:
    records = {
        **versions(1),
        state_path("m"): ModelState(version=1),
        run_path("m", "train", T): run("train", auc=0.1),
    }
    champion = find_champion(MODEL, context(records, MODEL))
    assert champion is not None
    assert champion.read == {"train.csv": "train"}
