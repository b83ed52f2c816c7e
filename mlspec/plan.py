"""The nouns of a plan. This module imports nothing of mlspec, performs no I/O and reads no clock.

A :class:`Plan` is frozen: made by :func:`mlspec.planner.make_plan`, shown by :mod:`mlspec.render`,
carried out by :func:`mlspec.apply.apply_plan`. Its JSON is canonical, so its digest names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

FORMAT = 1
_GATE_FAILED = 3


class Action(StrEnum):
    """What a step does to its resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    RUN = "run"
    RESTORE = "restore"
    """Take the outputs of an earlier run with the same fingerprint from storage."""
    EVALUATE = "evaluate"
    REGISTER = "register"
    DEPLOY = "deploy"
    PROMOTE = "promote"
    ROLLBACK = "rollback"
    WAIT = "wait"
    ADOPT = "adopt"
    MOVE = "move"
    """Have what the ledger knows of an address under another one."""
    FORGET = "forget"
    """Have the ledger forget it; what it made or runs stays as it is."""


class Consequence(StrEnum):
    """What a change costs, from least to most; compare with :meth:`rank`."""

    NONE = "none"
    DOCS = "docs"
    REDEPLOY = "redeploy"
    REEVALUATE = "reevaluate"
    RETRAIN = "retrain"
    BREAKING = "breaking"

    @property
    def rank(self) -> int:
        return list(Consequence).index(self)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """One field in the three readings; `None` where a reading has no value."""

    field: str
    recorded: Any = None
    desired: Any = None
    observed: Any = None

    @property
    def drift(self) -> bool:
        """Whether what is there left what is recorded, which is what is still desired."""
        # Python holds 1, 1.0 and true equal, and a param that went from one to another changed
        desired = canonical_json(self.desired)
        return canonical_json(self.recorded) == desired != canonical_json(self.observed)

    @property
    def unrecorded(self) -> bool:
        """Whether what is desired is there, and the ledger does not know it."""
        there = self.desired is not None and bool(self.desired == self.observed)
        return self.recorded is None and there


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a step will take: `seconds`, the median of its last `from_runs` recorded runs.

    `cost` is what they cost, in `currency`, where the stage's resources have a price.
    """

    seconds: float
    from_runs: int
    cost: float | None = None
    currency: str | None = None


@dataclass(frozen=True, slots=True)
class Total:
    """What the stages of one consequence take together, one after another.

    Of all `stages`, `uncertain` ones may turn out to have nothing to do. `unknown` ones have no
    recorded run, so `seconds` and `cost`, by currency, leave them out.
    """

    stages: int
    uncertain: int
    unknown: int
    seconds: float
    cost: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. A step whose `after` did not succeed is not done.

    `certain` is false for a step that turns out to be needed only when the steps before it have
    written something new; apply then compares fingerprints and may find nothing to do.
    """

    address: str
    action: Action
    consequence: Consequence
    reason: str
    after: tuple[str, ...] = ()
    changes: tuple[FieldChange, ...] = ()
    certain: bool = True
    estimate: Estimate | None = None

    @property
    def drift(self) -> bool:
        """Whether it mends what left the record, rather than brings something new."""
        return any(change.drift for change in self.changes)


@dataclass(frozen=True, slots=True)
class Held:
    """A resource that is out of step with the spec and that this plan leaves alone, and why."""

    address: str
    reason: str


@dataclass(frozen=True, slots=True)
class Base:
    """What a plan was made from: it may be applied only while all three are the same."""

    commit: str
    ledger: str
    spec: str


@dataclass(frozen=True, slots=True)
class Scope:
    """What a partial plan is about: what `selection` stands for, `selected` of all `resources`."""

    selection: str
    selected: int
    resources: int


@dataclass(frozen=True, slots=True)
class Plan:
    """An ordered, acyclic list of steps from what is recorded to what is desired.

    With a `scope` it is about a part of the resources, and `held` and `unchanged` are of these.
    """

    base: Base
    steps: tuple[Step, ...]
    held: tuple[Held, ...] = ()
    unchanged: int = 0
    mlspec: str = ""
    scope: Scope | None = None

    @property
    def selection(self) -> str:
        """The expression that the plan was made for; none for a plan of everything."""
        return self.scope.selection if self.scope else ""

    @property
    def empty(self) -> bool:
        return not self.steps

    @property
    def summary(self) -> dict[str, int]:
        """Counts by action, in the order of :class:`Action`; the common ones also when zero.

        Then those of other resources; of a partial plan also how many it is about, of how many.
        """
        always = {Action.CREATE, Action.UPDATE, Action.DELETE, Action.RUN, Action.DEPLOY}
        counts = {
            action.value: sum(step.action is action for step in self.steps)
            for action in Action
            if action in always or any(step.action is action for step in self.steps)
        }
        rest = {"blocked": len(self.held), "unchanged": self.unchanged}
        if self.scope is not None:
            rest |= {"selected": self.scope.selected, "resources": self.scope.resources}
        return counts | rest

    @property
    def totals(self) -> dict[Consequence, Total]:
        """What the stages to run take, by consequence, from the most severe."""
        runs = [step for step in self.steps if step.action is Action.RUN]
        return {
            consequence: total_of([step for step in runs if step.consequence is consequence])
            for consequence in reversed(Consequence)
            if any(step.consequence is consequence for step in runs)
        }

    def as_dict(self) -> dict[str, Any]:
        """The plan as JSON-shaped data, with its digest."""
        body = self._body()
        return {**body, "digest": digest_of_body(body)}

    @property
    def digest(self) -> str:
        """`sha256:` and the hash of the canonical JSON of everything but the digest itself."""
        return digest_of_body(self._body())

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "mlspec": self.mlspec,
            "base": asdict(self.base),
            "selection": self.selection,
            "summary": self.summary,
            "totals": {consequence.value: asdict(t) for consequence, t in self.totals.items()},
            "steps": [_step_body(step) for step in self.steps],
            "held": [asdict(held) for held in self.held],
        }


class Status(StrEnum):
    """How a step ended."""

    DONE = "done"
    UNCHANGED = "unchanged"
    """Nothing was to do: what the steps before it wrote was the same as before."""
    FAILED = "failed"
    SKIPPED = "skipped"
    """A step that it comes after did not succeed."""
    INTERRUPTED = "interrupted"
    """A signal ended the apply while the step was under way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A step and how it ended; `error_code` is the exit code that a failure asks for."""

    step: Step
    status: Status
    detail: str = ""
    hint: str = ""
    seconds: float = 0.0
    error_code: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What an apply did, in order."""

    outcomes: tuple[Outcome, ...]

    @property
    def exit_code(self) -> int:
        """0, or the code of the failure that needs attention first.

        That is the highest; but a gate that refuses a model does its work, so it comes after all
        that did not.
        """
        codes = {outcome.error_code for outcome in self.outcomes}
        return max(codes - {_GATE_FAILED}, default=0) or max(codes, default=0)

    def count(self, status: Status) -> int:
        return sum(outcome.status is status for outcome in self.outcomes)

    def as_dict(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "exit_code": self.exit_code,
            "outcomes": [
                {
                    "address": outcome.step.address,
                    "action": outcome.step.action.value,
                    "status": outcome.status.value,
                    "reason": outcome.step.reason,
                    "detail": outcome.detail,
                    "hint": outcome.hint,
                    "seconds": round(outcome.seconds, 3),
                }
                for outcome in self.outcomes
            ],
        }


def _step_body(step: Step) -> dict[str, Any]:
    body = asdict(step)
    body["action"], body["consequence"] = step.action.value, step.consequence.value
    body["after"] = list(step.after)
    body["changes"] = list(body["changes"])
    return body


def total_of(steps: Sequence[Step]) -> Total:
    """What stages to run take together."""
    known = [step.estimate for step in steps if step.estimate is not None]
    cost: dict[str, float] = {}
    for estimate in known:
        if estimate.cost is not None and estimate.currency is not None:
            cost[estimate.currency] = cost.get(estimate.currency, 0.0) + estimate.cost
    return Total(
        stages=len(steps),
        uncertain=sum(not step.certain for step in steps),
        unknown=len(steps) - len(known),
        seconds=round(sum(estimate.seconds for estimate in known), 3),
        cost={currency: round(cost[currency], 6) for currency in sorted(cost)},
    )


_CANONICAL = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; refuses NaN. Equal data, equal text."""
    return _CANONICAL.encode(value)


def digest_of_body(body: Mapping[str, Any]) -> str:
    return "sha256:" + hashlib.sha256(canonical_json(body).encode()).hexdigest()


def most_severe(consequences: Iterable[Consequence]) -> Consequence:
    """The consequence of a resource is the worst of its fields'; `none` for no fields."""
    return max(consequences, key=lambda consequence: consequence.rank, default=Consequence.NONE)
