"""A plan as text: grouped by resource, a symbol and a reason for each step, one summary line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, assert_never

from mlspec.plan import Action, Estimate, FieldChange, Plan, Step, Total
from mlspec.render.quantities import render_money, render_seconds
from mlspec.render.style import Style, escape

MOST_FILES = 12
"""Generated files named one by one; more are counted, unless everything is explained."""

_VERBS = {
    Action.CREATE: "to create",
    Action.UPDATE: "to update",
    Action.REPLACE: "to replace",
    Action.DELETE: "to delete",
    Action.RUN: "to run",
    Action.RESTORE: "to restore",
    Action.EVALUATE: "to evaluate",
    Action.REGISTER: "to register",
    Action.DEPLOY: "to deploy",
    Action.PROMOTE: "to promote",
    Action.ROLLBACK: "to roll back",
    Action.WAIT: "to wait for",
    Action.ADOPT: "to adopt",
}
_ACTIONS = {action.value for action in _VERBS}


def render_plan(plan: Plan, style: Style, *, explain: bool = False) -> str:
    """The whole plan; with `explain` also every changed field and what each step waits for."""
    parts = [_group(title, steps, style, explain) for title, steps in _groups(plan.steps)]
    if plan.held:
        lines = [style.paint("left as it is", "bold")]
        lines += [
            f"  {style.paint('!', 'yellow')} {escape(held.address)}: {escape(held.reason)}"
            for held in plan.held
        ]
        parts.append("\n".join(lines))
    parts.append(_summary(plan, style))
    return "\n\n".join(parts) + "\n"


def symbol(action: Action) -> tuple[str, str]:
    """The sign of an action and its colour."""
    match action:
        case Action.CREATE | Action.REGISTER:
            return "+", "green"
        case Action.UPDATE | Action.REPLACE:
            return "~", "yellow"
        case Action.DELETE:
            return "-", "red"
        case Action.RUN | Action.EVALUATE:
            return ">", "cyan"
        case Action.RESTORE | Action.ADOPT:
            return "=", "blue"
        case Action.DEPLOY | Action.PROMOTE:
            return "^", "green"
        case Action.ROLLBACK:
            return "v", "yellow"
        case Action.WAIT:
            return ".", "dim"
        case _:
            assert_never(action)


def shown(value: Any) -> str:
    """A value in a change: short, on one line."""
    if value is None:
        return "(none)"
    text = escape(str(value))
    return text if len(text) <= 60 else f"{text[:57]}..."


def _groups(steps: Sequence[Step]) -> Iterator[tuple[str, list[Step]]]:
    """Files, then datasets, then each model with its stages and gates, then deployments."""
    keyed = sorted(((_group_key(step), step) for step in steps), key=lambda pair: pair[0])
    for (_, title), pairs in groupby(keyed, key=lambda pair: pair[0]):
        yield title, [step for _, step in pairs]


def _group_key(step: Step) -> tuple[int, str]:
    kind, _, rest = step.address.partition(".")
    match kind:
        case "file":
            return 0, "generated files"
        case "dataset":
            return 1, "data"
        case "stage" | "gate" | "model":
            return 2, f"model.{rest.partition('.')[0]}"
        case _:
            return 3, step.address


def _group(title: str, steps: list[Step], style: Style, explain: bool) -> str:
    lines = [style.paint(escape(title), "bold")]
    if title == "generated files" and not explain and len(steps) > MOST_FILES:
        for action, group in groupby(
            sorted(steps, key=lambda step: step.action), key=lambda step: step.action
        ):
            files = list(group)
            sign, color = symbol(action)
            first = escape(files[0].address.removeprefix("file."))
            lines.append(
                f"  {style.paint(sign, color)} {first} and {len(files) - 1} more: {action.value}"
            )
        return "\n".join(lines)
    width = max(len(_label(step)) for step in steps)
    for step in steps:
        lines += _lines(step, width, style, explain)
    return "\n".join(lines)


def _lines(step: Step, width: int, style: Style, explain: bool) -> Iterator[str]:
    sign, color = symbol(step.action)
    words = [step.action.value if step.certain else f"may {step.action.value}"]
    if step.consequence.rank:
        words.append(step.consequence.value)
    if step.estimate:
        words.append(_estimated(step.estimate))
    what = style.paint(f"[{', '.join(words)}]", "dim")
    label = f"{escape(_label(step)):<{width}}"
    yield f"  {style.paint(sign, color)} {label}  {escape(step.reason)} {what}"
    changes = step.changes if explain else [c for c in step.changes if not _is_content(c)]
    for change in changes:
        yield f"      {style.paint(escape(change.field), 'dim')}: {_transition(change)}"
    if explain and step.after:
        yield style.paint(f"      after {', '.join(map(escape, step.after))}", "dim")


def _estimated(estimate: Estimate) -> str:
    runs = "1 run" if estimate.from_runs == 1 else f"{estimate.from_runs} runs"
    words = [f"about {render_seconds(estimate.seconds)} ({runs})"]
    if estimate.cost is not None and estimate.currency is not None:
        words.append(render_money(estimate.cost, estimate.currency))
    return ", ".join(words)


def _is_content(change: FieldChange) -> bool:
    """Digests say nothing that the reason has not said in words."""
    return " " in change.field or change.field in ("md5", "fingerprint", "release", "service")


def _transition(change: FieldChange) -> str:
    if change.recorded == change.desired:
        return f"{shown(change.desired)}, found {shown(change.observed)}"
    return f"{shown(change.recorded)} -> {shown(change.desired)}"


def _label(step: Step) -> str:
    kind, _, rest = step.address.partition(".")
    match kind:
        case "file" | "dataset":
            return rest
        case "stage" | "gate":
            return f"{kind} {rest.partition('.')[2]}"
        case "model":
            return "version"
        case _:
            return kind


def _summary(plan: Plan, style: Style) -> str:
    if plan.empty:
        text = f"No changes. {plan.unchanged} resources are as the spec says."
        if plan.held:
            text = (
                f"Nothing to do, and {len(plan.held)} left as it is: not all is as the spec says."
            )
        return "\n".join((*_scope(plan), style.paint(text, "bold")))
    counts = [
        f"{count} {_VERBS[Action(name)]}"
        for name, count in plan.summary.items()
        if count and name in _ACTIONS
    ]
    rest = f"{plan.unchanged} unchanged"
    if plan.held:
        rest += f", {len(plan.held)} left as it is"
    told = f"Plan: {', '.join(counts)}; {rest}."
    return "\n".join((*_costs(plan), *_scope(plan), style.paint(told, "bold")))


def _scope(plan: Plan) -> Iterator[str]:
    """What a partial plan is about."""
    if plan.scope is not None:
        count = f"{plan.scope.selected} of {plan.scope.resources} resources"
        yield f"Selected: {escape(plan.scope.selection)}, {count}."


def _costs(plan: Plan) -> Iterator[str]:
    """What the stages to run take, by consequence; nothing when none is to run."""
    if plan.totals:
        told = (f"{consequence} {_cost(total)}" for consequence, total in plan.totals.items())
        yield f"Cost: {'; '.join(told)}."


def _cost(total: Total) -> str:
    stages = "1 stage" if total.stages == 1 else f"{total.stages} stages"
    if total.unknown == total.stages:
        return f"{stages} without a recorded run"
    most = "up to about" if total.uncertain else "about"
    words = [stages, f"{most} {render_seconds(total.seconds)}"]
    words += [render_money(amount, currency) for currency, amount in total.cost.items()]
    if total.unknown:
        words.append(f"{total.unknown} without a recorded run")
    return ", ".join(words)
