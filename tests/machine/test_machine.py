"""Any forty things that may happen to a repository, in any order: what is promised holds."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.machine.machine import Machine

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
    many = settings(max_examples=500, stateful_step_count=40, **ANYHOW)
    run_state_machine_as_test(Machine, settings=many)
    print(table())  # noqa: T201
