"""Carries a plan out: step by step, each recorded when it is done. It decides nothing.

Comes in: a plan that was just made or just checked, and a way to look again. Goes out: a
:class:`~mlspec.plan.Report`. What a step turns out to be once the steps before it are done (a run
that was seen before, a candidate that is already a version) is the planner's answer, asked again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Protocol

from mlspec.errors import Interrupted, MlspecError, unusable
from mlspec.ledger.records import Record
from mlspec.plan import Action, Outcome, Plan, Report, Status, Step
from mlspec.planner import Facts
from mlspec.providers import datasets, deployments, files, gates, models, policies, stages
from mlspec.providers.context import Change, Context

PROVIDERS: dict[str, ModuleType] = {
    "file": files,
    "dataset": datasets,
    "stage": stages,
    "gate": gates,
    "model": models,
    "deployment": deployments,
    "policy": policies,
}

STANDS_FOR = {
    Action.RUN: {Action.RESTORE, Action.ADOPT},
    Action.DEPLOY: {Action.ROLLBACK},
    Action.ROLLBACK: {Action.DEPLOY},
}
"""What a planned action may turn out to be: never something that costs more."""


class Recorder(Protocol):
    """Writes to the ledger; returns nothing until it is safe there."""

    def __call__(self, step: Step, outcome: Outcome, records: dict[str, Record | None]) -> None: ...


@dataclass(frozen=True, slots=True)
class Started:
    """A step begins."""

    step: Step


@dataclass(frozen=True, slots=True)
class Printed:
    """The command of a step printed a line."""

    address: str
    line: str


@dataclass(frozen=True, slots=True)
class Ended:
    """A step ended."""

    outcome: Outcome


Event = Started | Printed | Ended


def apply_plan(
    plan: Plan,
    context: Context,
    *,
    look: Callable[[], Facts],
    record: Recorder,
    on_event: Callable[[Event], None],
) -> Report:
    """Do each step whose predecessors succeeded, and report on all.

    `look` surveys the world anew; `record` is called after every step but those of files, which Git
    keeps. A failure ends what comes after it and nothing else; a signal ends all.
    """
    outcomes: dict[str, Outcome] = {}
    for step in plan.steps:
        blocker = next((a for a in step.after if _stops(outcomes.get(a))), None)
        if blocker is not None:
            outcome = Outcome(step, Status.SKIPPED, f"{blocker} did not succeed")
        else:
            on_event(Started(step))
            began = time.monotonic()
            try:
                outcome, change = _do(step, context, look)
            except Interrupted:
                record(step, Outcome(step, Status.INTERRUPTED), {})
                raise
            outcome = replace(outcome, seconds=round(time.monotonic() - began, 3))
            if not step.address.startswith("file.") and outcome.status is not Status.UNCHANGED:
                record(outcome.step, outcome, dict(change.records))
        outcomes[step.address] = outcome
        on_event(Ended(outcome))
    return Report(tuple(outcomes.values()))


def _stops(outcome: Outcome | None) -> bool:
    return outcome is not None and outcome.status in (Status.FAILED, Status.SKIPPED)


def _do(step: Step, context: Context, look: Callable[[], Facts]) -> tuple[Outcome, Change]:
    nothing = Change("")
    kind = step.address.partition(".")[0]
    try:
        if kind != "file" and step.action is not Action.DELETE:
            context.facts = look()
            now = context.facts.steps.get(step.address)
            if now is None:
                return Outcome(step, Status.UNCHANGED, "as it was before"), nothing
            _check_same(step, now)
            step = now
        change = PROVIDERS[kind].apply(step, context)
    except MlspecError as error:
        return _failure(step, error), nothing
    except BrokenPipeError:  # nobody reads what is shown: not the step's fault
        raise
    except OSError as error:
        return _failure(step, unusable(error)), nothing
    if change.failure is not None:
        return _failure(step, change.failure), change
    return Outcome(step, Status.DONE, change.detail), change


def _check_same(planned: Step, now: Step) -> None:
    allowed = {planned.action} | STANDS_FOR.get(planned.action, set())
    if now.action not in allowed:
        raise MlspecError(
            f"{planned.address} would now be a {now.action} ({now.reason}), not a {planned.action}",
            hint="plan again: the world changed under the plan",
        )


def _failure(step: Step, error: MlspecError) -> Outcome:
    return Outcome(
        step, Status.FAILED, error.message, hint=error.hint, error_code=int(error.exit_code)
    )
