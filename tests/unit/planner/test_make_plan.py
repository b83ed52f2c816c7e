"""What follows from what: edits, their consequence and reason, and what is left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mlspec.errors import MlspecError
from mlspec.fingerprint import trial_digest
from mlspec.ledger.paths import POLICY, candidate_path, deployment_path, run_path, state_path
from mlspec.ledger.records import Policy, Run
from mlspec.ledger.state import Recorded
from mlspec.plan import Action, Consequence, Estimate
from mlspec.planner import check_deletes, make_destroy_plan, make_restore_plan, survey
from mlspec.resources import ObservedDeployment, ObservedFile
from mlspec.spec.models import Rollout


def test_a_new_project_runs_judges_registers_and_deploys(new: Any) -> None:
    assert new.actions() == {
        "stage.m.train": "run retrain",
        "stage.m.evaluate": "run reevaluate",
        "gate.m.good": "evaluate reevaluate",
        "model.m": "register retrain",
        "deployment.m@local": "deploy redeploy",
    }
    order = [step.address for step in new.plan().steps]
    assert order.index("stage.m.train") < order.index("stage.m.evaluate")
    assert order[-1] == "deployment.m@local"


def test_after_an_apply_the_plan_is_empty(settled: Any) -> None:
    plan = settled.plan()
    assert plan.empty
    assert plan.held == ()
    assert plan.unchanged == 6


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        ({"depth": 4}, "params.depth changed"),
        ({"depth": 3.0}, "params.depth changed"),
        ({"train_code": "t2"}, "train.py changed"),
        ({"data": "d2"}, "data/d.csv changed"),
        ({"command": "python -O train.py"}, "command changed"),
        ({"depth": 4, "train_code": "t2"}, "params.depth and train.py changed"),
    ],
)
def test_code_data_and_params_retrain_and_the_reason_names_them(
    settled: Any, edit: dict[str, Any], reason: str
) -> None:
    for name, value in edit.items():
        setattr(settled, name, value)
    step = settled.step("stage.m.train")
    assert (step.action, step.consequence, step.reason) == (Action.RUN, Consequence.RETRAIN, reason)
    assert step.estimate is not None
    assert (step.estimate.seconds, step.estimate.from_runs) == (2.0, 1)
    assert settled.actions()["stage.m.evaluate"] == "run reevaluate?"
    assert settled.actions()["model.m"] == "register retrain"


@pytest.mark.parametrize(
    ("durations", "price", "expected"),
    [
        ((3.0,), None, (3.0, 1, None, None)),
        ((9.0, 1.0, 2.0), None, (2.0, 3, None, None)),
        ((1.0, 2.0, 30.0, 4.0), None, (3.0, 4, None, None)),
        ((1800.0, 1800.0), "0.90 EUR/h", (1800.0, 2, 0.45, "EUR")),
    ],
)
def test_an_estimate_is_the_median_of_the_last_runs_at_the_price_of_the_resources(
    settled: Any,
    durations: tuple[float, ...],
    price: str | None,
    expected: tuple[float, int, float | None, str | None],
) -> None:
    for seconds in durations:
        settled.records[state_path("m")] = settled.state.timed("train", seconds)
    settled.depth, settled.price = 4, price
    assert settled.step("stage.m.train").estimate == Estimate(*expected)


def test_only_the_last_ten_runs_count(settled: Any) -> None:
    state = settled.state
    for seconds in (100.0, 100.0, *range(1, 11)):
        state = state.timed("train", seconds)
    settled.records[state_path("m")] = state
    settled.depth = 4
    assert settled.step("stage.m.train").estimate == Estimate(5.5, 10)


def test_an_adopted_run_estimates_nothing(settled: Any) -> None:
    path = run_path("m", "train", settled.state.runs["train"])
    settled.records[path] = settled.records[path].model_copy(update={"adopted": True})
    settled.depth = 4
    assert settled.step("stage.m.train").estimate is None


def test_a_change_after_the_artifact_only_reevaluates(settled: Any) -> None:
    settled.evaluate_code = "e2"
    assert settled.actions() == {
        "stage.m.evaluate": "run reevaluate",
        "gate.m.good": "evaluate reevaluate",
        "model.m": "register reevaluate",
        "deployment.m@local": "deploy redeploy",
    }


def test_a_gates_limit_reevaluates_and_neither_runs_a_stage_nor_restarts_what_serves(
    settled: Any,
) -> None:
    settled.gate = {"metric": "auc", "min": 0.85}
    assert settled.actions() == {
        "gate.m.good": "evaluate reevaluate",
        "model.m": "register reevaluate",
    }
    step = settled.step("gate.m.good")
    assert step.reason == "min changed"
    assert (step.changes[0].recorded, step.changes[0].desired) == (0.8, 0.85)


def test_a_service_redeploys_the_same_version(settled: Any) -> None:
    settled.service = "service 2"
    assert settled.actions() == {"deployment.m@local": "deploy redeploy"}
    assert settled.step("deployment.m@local").reason == "its service or resources changed"


def test_what_turns_out_the_same_is_said_to_be_uncertain(settled: Any) -> None:
    """Training again may give the same model; then its evaluation has nothing to do."""
    settled.train_code = "t2"
    md5 = settled.locks_md5
    settled.run_train(md5)
    assert settled.step("stage.m.evaluate") is None


class TestRejected:
    """A worse model."""

    def test_it_is_held_and_not_trained_again(self, settled: Any) -> None:
        settled.depth, settled.auc = 9, 0.5
        settled.settle()
        plan = settled.plan()
        assert plan.empty
        assert [(h.address, h.reason) for h in plan.held] == [
            ("model.m", "candidate rejected: auc 0.5")
        ]

    def test_nothing_serves_if_nothing_was_ever_accepted(self, new: Any) -> None:
        new.auc = 0.5
        new.settle()
        held = {h.address for h in new.plan().held}
        assert new.plan().empty
        assert held == {"model.m", "deployment.m@local"}

    def test_a_looser_gate_lets_it_in_without_training(self, settled: Any) -> None:
        settled.depth, settled.auc = 9, 0.5
        settled.settle()
        settled.gate = {"metric": "auc", "min": 0.4}
        assert settled.actions() == {
            "gate.m.good": "evaluate reevaluate",
            "model.m": "register reevaluate",
            "deployment.m@local": "deploy redeploy",
        }

    def test_the_service_of_the_champion_can_still_change(self, settled: Any) -> None:
        settled.depth, settled.auc = 9, 0.5
        settled.settle()
        settled.service = "service 2"
        assert settled.actions() == {"deployment.m@local": "deploy redeploy"}

    def test_going_back_needs_no_run(self, settled: Any) -> None:
        settled.depth, settled.auc = 9, 0.5
        settled.settle()
        settled.depth, settled.auc = 3, 0.9
        assert settled.actions() == {
            "stage.m.train": "restore none",
            "stage.m.evaluate": "restore none",
        }


def test_a_revert_serves_the_earlier_version_and_runs_nothing(settled: Any) -> None:
    settled.depth = 4
    settled.settle()
    settled.depth = 3
    assert settled.actions() == {
        "stage.m.train": "restore none",
        "stage.m.evaluate": "restore none",
        "deployment.m@local": "rollback redeploy",
    }
    step = settled.step("deployment.m@local")
    assert step.reason == "spec, code and data are those of version 1 again"
    assert (step.changes[0].recorded, step.changes[0].desired) == (2, 1)


class TestClone:
    """A fresh clone has neither data nor services."""

    def test_missing_outputs_are_not_a_change(self, settled: Any) -> None:
        settled.outputs = {}
        assert settled.plan().empty

    def test_another_machines_service_is_taken_as_recorded(self, settled: Any) -> None:
        settled.update_deployed(place="elsewhere")
        settled.running = {}
        assert settled.plan().empty

    def test_without_its_lock_file_nothing_is_to_do(self, settled: Any) -> None:
        settled.locks, settled.outputs = {}, {}
        assert settled.plan().empty

    def test_outputs_without_a_lock_file_are_put_in_order(self, settled: Any) -> None:
        settled.locks = {}
        assert settled.actions() == {
            "stage.m.train": "restore none",
            "stage.m.evaluate": "restore none",
        }


class TestDrift:
    """Recorded and desired agree; what is there does not."""

    def test_an_output_that_somebody_changed_is_restored(self, settled: Any) -> None:
        settled.outputs["stage.m.train"] = {"model.onnx": "other"}
        step = settled.step("stage.m.train")
        assert step.action is Action.RESTORE
        assert step.reason == "drift: model.onnx differs from what the stage wrote"
        assert step.drift

    def test_what_an_earlier_run_left_is_no_drift(self, settled: Any) -> None:
        runs = (each for each in settled.records.values() if isinstance(each, Run))
        run = next(each for each in runs if each.stage == "train")
        outs = [{"path": "model.onnx", "md5": "earlier"}]
        before = run.model_copy(
            update={"fingerprint": "0" * 64, "entry": {**run.entry, "outs": outs}}
        )
        settled.records[run_path("m", "train", before.fingerprint)] = before
        settled.outputs["stage.m.train"] = {"model.onnx": "earlier"}
        step = settled.step("stage.m.train")
        assert step.action is Action.RESTORE
        assert step.reason.startswith("model.onnx is of another run than that at ")
        assert not step.drift

    @pytest.mark.parametrize("seen", [None, ObservedDeployment(False, None)])
    def test_a_service_that_is_gone_is_deployed(self, settled: Any, seen: Any) -> None:
        settled.running = {} if seen is None else {"deployment.m@local": seen}
        assert settled.step("deployment.m@local").reason == "drift: it is not running"

    def test_a_service_of_another_release_is_deployed(self, settled: Any) -> None:
        settled.running = {"deployment.m@local": ObservedDeployment(True, "other")}
        assert settled.step("deployment.m@local").reason == "drift: it serves another release"

    def test_a_stopped_service_stays_stopped(self, settled: Any) -> None:
        settled.update_deployed(status="stopped")
        settled.running = {}
        assert settled.plan().empty


def test_a_run_that_dvc_made_alone_is_adopted_when_asked(new: Any) -> None:
    new.settle()
    new.records.clear()
    new.running.clear()
    assert new.actions()["stage.m.train"] == "run retrain"
    assert "--adopt" in new.step("stage.m.train").reason
    new.adopt = True
    actions = new.actions()
    assert actions["stage.m.train"] == "adopt none"
    assert actions["stage.m.evaluate"] == "adopt none"
    assert actions["gate.m.good"] == "evaluate reevaluate"


def test_a_release_that_was_refused_is_not_tried_again(settled: Any) -> None:
    settled.service = "service 2"
    release = settled.plan().steps[0].changes[0].desired
    full = next(
        fingerprint for fingerprint in [_release(settled)] if fingerprint.startswith(release)
    )
    settled.update_deployed(refused=trial_digest(full, []), refused_reason="not ready")
    plan = settled.plan()
    assert plan.empty
    assert plan.held[0].reason == "this release was refused: not ready"
    settled.update_deployed(refused=trial_digest(full, [{"x": 1}]))
    assert settled.actions() == {"deployment.m@local": "deploy redeploy"}


def _release(world: Any) -> str:

    facts = survey(world.desired, world.observed, Recorded.of(world.records))
    return facts.fingerprints["deployment.m@local"]


class TestFiles:
    """Generated files of resources that left the spec, and files of others."""

    def test_one_that_nothing_asks_for_is_deleted(self, settled: Any) -> None:
        settled.files = {"cards/old.md": ObservedFile("Generated by mlspec", ours=True)}
        assert settled.actions() == {"file.cards/old.md": "delete none"}

    def test_one_that_is_not_ours_is_left_alone(self, settled: Any) -> None:
        settled.files = {"cards/mine.md": ObservedFile("mine", ours=False)}
        assert settled.plan().empty


class TestDeletion:
    """What leaves the spec."""

    GONE = frozenset({"deployment.m@local"})

    def test_it_is_shown_and_needs_to_be_allowed(self, settled: Any) -> None:
        settled.without = set(self.GONE)
        plan = settled.plan()
        assert [step.action for step in plan.steps] == [Action.DELETE]
        with pytest.raises(MlspecError, match=r"deletes deployment\.m@local"):
            check_deletes(plan, settled.desired.spec, allowed=False, allow_empty=False)
        check_deletes(plan, settled.desired.spec, allowed=True, allow_empty=False)

    def test_a_model_that_is_back_is_told_so(self, settled: Any) -> None:
        settled.records[state_path("m")] = settled.state.model_copy(update={"retired": True})
        assert settled.actions() == {"model.m": "update none"}
        settled.depth = 4
        step = settled.step("model.m")
        assert step.action == "register"
        assert step.reason.endswith("it is back in the spec, with the history that it has")

    def test_the_last_of_all_needs_more(self, settled: Any) -> None:
        settled.without = {"deployment.m@local", "model.m"}
        settled.without |= {"stage.m.train", "stage.m.evaluate", "gate.m.good"}
        plan = settled.plan()
        assert {step.action for step in plan.steps} == {Action.DELETE}
        with pytest.raises(MlspecError, match="delete all there is"):
            check_deletes(plan, settled.desired.spec, allowed=True, allow_empty=False)
        check_deletes(plan, settled.desired.spec, allowed=True, allow_empty=True)

    def test_what_was_protected_is_not_deleted_by_the_spec_that_lifts_it(
        self, settled: Any
    ) -> None:
        settled.records[POLICY] = Policy(protect=("deployment.m@local",))
        settled.without = set(self.GONE)
        with pytest.raises(MlspecError, match="protected"):
            settled.plan()

    def test_what_is_protected_is_remembered(self, settled: Any) -> None:
        settled.protect = ("deployment.m@local",)
        assert settled.actions() == {"policy.protect": "update none"}
        settled.records[POLICY] = Policy(protect=("deployment.m@local",))
        assert settled.plan().empty

    def test_a_protected_one_is_refused(self, settled: Any) -> None:
        settled.without, settled.protect = set(self.GONE), ("deployment.m@local",)
        with pytest.raises(MlspecError, match="protected"):
            settled.plan()

    def test_what_runs_here_and_nobody_names_is_ended(self, settled: Any) -> None:
        settled.running["deployment.lost@local"] = ObservedDeployment(True, "x")
        step = settled.step("deployment.lost@local")
        assert step.action is Action.DELETE
        assert step.reason == "drift: it runs here, and neither the spec nor the ledger names it"

    def test_destroy_deletes_every_deployment(self, settled: Any) -> None:

        plan = make_destroy_plan(settled.desired, settled.observed, Recorded.of(settled.records))
        assert [(s.address, s.action) for s in plan.steps] == [
            ("deployment.m@local", Action.DELETE)
        ]


def test_an_interrupted_judgement_is_taken_up_again(settled: Any) -> None:
    path = candidate_path("m", settled.records[_only(settled, "candidates")].fingerprint)
    settled.records[path] = settled.records[path].model_copy(
        update={"status": "judging", "version": None, "verdicts": ()}
    )
    assert "gate.m.good" in settled.actions()
    assert "model.m" in settled.actions()


def test_a_lost_run_record_can_be_adopted_from_the_lock(settled: Any) -> None:
    del settled.records[run_path("m", "train", settled.state.runs["train"])]
    settled.adopt = True
    assert settled.actions()["stage.m.train"] == "adopt none"


class TestRefused:
    """A release that was not taken into service."""

    def test_what_serves_is_never_held_by_an_old_refusal(self, settled: Any) -> None:
        trial = trial_digest(settled.deployed.release, ())
        settled.update_deployed(refused=trial, refused_reason="not ready")
        settled.running = {}
        assert settled.step("deployment.m@local").reason == "drift: it is not running"

    def test_a_first_release_is_not_tried_again_either(self, settled: Any) -> None:
        trial = trial_digest(settled.deployed.release, ())
        settled.update_deployed(status="refused", refused=trial, refused_reason="not ready")
        settled.running = {}
        plan = settled.plan()
        assert plan.empty
        assert plan.held[0].reason == "this release was refused: not ready"
        settled.service = "service 2"
        assert settled.step("deployment.m@local").reason == "version 1 is not deployed yet"

    def test_an_earlier_refusal_counts_though_others_came_after_it(self, settled: Any) -> None:
        settled.service = "service 2"
        release = _release(settled)
        refused = settled.deployed.refusing(trial_digest(release, ()), "too slow")
        refused = refused.refusing("another", "not ready")
        settled.records[deployment_path("m", "local")] = refused
        assert settled.plan().held[0].reason == "this release was refused: too slow"


class TestRollouts:
    """A plan says how a release takes over; what was refused may be tried on other terms."""

    CANARY = Rollout.model_validate({"strategy": "canary", "steps": ("10%", "50%")})

    def test_how_it_takes_over_is_no_change_of_what_serves(self, settled: Any) -> None:
        settled.rollout = self.CANARY
        assert settled.plan().empty

    def test_a_new_release_goes_in_steps(self, settled: Any) -> None:
        settled.rollout = self.CANARY
        settled.service = "service 2"
        said = "its service or resources changed; canary: 10% → 50% → 100%, bake 10m"
        assert settled.step("deployment.m@local").reason == said
        settled.depth = 4
        said = "the version that model.m registers; canary: 10% → 50% → 100%, bake 10m"
        assert settled.step("deployment.m@local").reason == said

    def test_without_another_that_serves_there_are_none(self, settled: Any) -> None:
        settled.rollout = self.CANARY
        settled.update_deployed(status="refused")
        assert settled.step("deployment.m@local").reason == "version 1 is not deployed yet"

    def test_other_terms_are_another_trial(self, settled: Any) -> None:
        settled.rollout = self.CANARY
        settled.service = "service 2"
        terms = self.CANARY.model_dump(mode="json")
        trial = trial_digest(_release(settled), (), terms)
        settled.update_deployed(refused=trial, refused_reason="too slow")
        assert settled.plan().held[0].reason == "this release was refused: too slow"
        settled.rollout = Rollout(strategy="blue-green")
        assert settled.actions() == {"deployment.m@local": "deploy redeploy"}


class TestPromotion:
    """A target that comes after another gets nothing that the other does not serve."""

    @pytest.fixture
    def promoted(self, settled: Any) -> Any:
        settled.targets = ("local", "later")
        settled.deploy(1, "later")
        return settled

    def test_a_new_version_reaches_both_in_order(self, promoted: Any) -> None:
        promoted.depth = 4
        assert promoted.step("deployment.m@later").after == ("deployment.m@local", "model.m")

    def test_what_the_first_refused_does_not_reach_the_second(self, promoted: Any) -> None:
        promoted.depth = 4
        promoted.run_evaluate(promoted.run_train())
        promoted.judge()
        release = _release(promoted)
        promoted.update_deployed(refused=trial_digest(release, ()), refused_reason="not ready")
        plan = promoted.plan()
        assert plan.empty
        assert [held.address for held in plan.held] == ["deployment.m@later", "deployment.m@local"]

    @pytest.mark.parametrize("status", ["stopped", "refused"])
    def test_what_the_first_does_not_serve_does_not_reach_the_second(
        self, promoted: Any, status: str
    ) -> None:
        promoted.depth = 4
        promoted.run_evaluate(promoted.run_train())
        promoted.judge()
        promoted.update_deployed(status=status, refused=None)
        step = promoted.step("deployment.m@later")
        first = promoted.step("deployment.m@local")
        assert (step is None) is (first is None)


def test_another_models_version_is_not_kept(settled: Any) -> None:
    """The deployment served another model, and this one's candidate is rejected."""
    settled.depth, settled.auc = 9, 0.5
    settled.settle()
    settled.update_deployed(model="other", version=7)
    plan = settled.plan()
    assert plan.empty
    assert ("deployment.m@local", "its model has no accepted version") in {
        (held.address, held.reason) for held in plan.held
    }


def test_equal_readings_give_equal_bytes(new: Any, copy_of: Callable[..., Any]) -> None:
    from mlspec.plan import canonical_json

    again = copy_of(new)
    assert canonical_json(new.plan().as_dict()) == canonical_json(again.plan().as_dict())
    assert new.plan().digest != copy_of(new, without={"deployment.m@local"}).plan().digest


def _only(world: Any, kind: str) -> str:
    return next(path for path in world.records if f"/{kind}/" in path)


def test_a_pull_brings_what_is_not_here_and_does_nothing_else(settled: Any) -> None:

    def pull() -> dict[str, str]:
        recorded = Recorded.of(settled.records)
        plan = make_restore_plan(settled.desired, settled.observed, recorded)
        return {step.address: step.action for step in plan.steps}

    assert pull() == {}
    settled.outputs, settled.service = {}, "service 2"
    assert pull() == {"stage.m.train": "restore", "stage.m.evaluate": "restore"}
    settled.depth = 4
    assert pull() == {}, "nothing is known of these params"
