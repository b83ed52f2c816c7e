"""Any forty things that may happen to a repository, in any order: what is promised holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from mlspec.ledger.records import Verdict
from mlspec.plan import Step
from mlspec.planner import deployments as planner_deployments
from mlspec.planner import models as planner_models
from mlspec.providers import deployments, gates
from mlspec.providers.context import Change, Context
from tests.machine.machine import IDLE, Broken, Machine

ANYHOW = {
    "deadline": None,
    "database": None,
    "print_blob": True,
    "suppress_health_check": list(HealthCheck),
}


@pytest.fixture(autouse=True)
def _fresh(template: Path) -> None:
    Machine.template = template
    Machine.tally.clear()
    Machine.steps = 0


def table() -> str:
    """How often each rule was tried, and what came of it."""
    rules: dict[str, Counter[str]] = {}
    for (rule, outcome), count in sorted(Machine.tally.items()):
        rules.setdefault(rule, Counter())[outcome] = count
    lines = [
        f"{rule:16} {', '.join(f'{name} {count}' for name, count in outcomes.most_common())}"
        for rule, outcomes in rules.items()
    ]
    return "\n".join([*lines, f"{Machine.steps} steps"])


def test_a_few_repositories() -> None:
    some = settings(max_examples=15, stateful_step_count=20, derandomize=True, **ANYHOW)
    run_state_machine_as_test(Machine, settings=some)
    print(table())  # noqa: T201


@pytest.mark.thorough
def test_five_hundred_repositories() -> None:
    """Some end before their last step, so there are more of them, and more steps."""
    many = settings(max_examples=600, stateful_step_count=44, **ANYHOW)
    run_state_machine_as_test(Machine, settings=many)
    print(table())  # noqa: T201
    assert Machine.steps >= 20_000
    rules = {each.function.__name__ for each in Machine().rules}
    assert rules == {rule for rule, outcome in Machine.tally if outcome not in IDLE}


def let_all_pass(patch: pytest.MonkeyPatch) -> None:
    """A gate's answer counts for nothing."""
    real = gates.check_gate

    def check_gate(*arguments: Any) -> Verdict:
        return real(*arguments).model_copy(update={"result": "pass"})

    patch.setattr(gates, "check_gate", check_gate)


def forget_deploys(patch: pytest.MonkeyPatch) -> None:
    """What was deployed is told to the audit, and not recorded."""
    real = deployments.apply

    def apply(step: Step, context: Context) -> Change:
        return replace(real(step, context), records={})

    patch.setattr(deployments, "apply", apply)


def forget_quarantine(patch: pytest.MonkeyPatch) -> None:
    """No version is quarantined."""
    for module in (planner_deployments, planner_models):
        patch.setattr(module, "why_quarantined", lambda *_: None)


def spoil_a_model(machine: Machine) -> None:
    machine.edit_params(slot="one", q=0.3, w=1, then=True)


def change_what_serves(machine: Machine) -> None:
    machine.edit_params(slot="one", q=0.9, w=1, then=True)


def serve_what_is_quarantined(machine: Machine) -> None:
    machine.quarantine(slot="one", number=2, then=False)
    machine.edit_resources(slot="one", cpus=2, then=True)


FAULTS = [
    (let_all_pass, spoil_a_model),
    (forget_deploys, change_what_serves),
    (forget_quarantine, serve_what_is_quarantined),
]
Fault = Callable[[pytest.MonkeyPatch], None]
Act = Callable[[Machine], None]


@pytest.mark.parametrize(("fault", "act"), FAULTS)
def test_a_fault_of_ours_is_caught(fault: Fault, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    for faulty in (False, True):
        if faulty:
            fault(monkeypatch)
        machine = Machine()
        machine.begin(shared=9)
        try:
            with pytest.raises(Broken) if faulty else nullcontext():
                act(machine)
                machine.check()
        finally:
            machine.teardown()


@pytest.mark.thorough
@pytest.mark.parametrize(("fault", "_act"), FAULTS)
def test_a_fault_of_ours_is_found(fault: Fault, _act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    looking = settings(max_examples=300, stateful_step_count=40, phases=[Phase.generate], **ANYHOW)
    with pytest.raises(Broken):
        run_state_machine_as_test(Machine, settings=looking)
