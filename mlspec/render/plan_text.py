"""A plan as text: grouped by resource, a symbol and a reason for each step, one summary line."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType
from typing import Any, assert_never

from mlspec.plan import Action, Estimate, FieldChange, Held, Plan, Step, Total, total_of
from mlspec.render.alike import fold, listed, name_of, nameless
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
    Action.MOVE: "to move",
    Action.FORGET: "to forget",
}
_ACTIONS = {action.value for action in _VERBS}


def render_plan(
    plan: Plan,
    style: Style,
    *,
    explain: bool = False,
    failed: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """The whole plan, what is the same for many models told once.

    With `explain` each model, every changed field and what each step waits for. `failed` has what
    steps said that were tried before, by address.
    """
    groups = list(_groups([_with_failure(step, failed) for step in plan.steps]))
    folded = [[group] for group in groups] if explain else fold(groups, _sameness)
    parts = [_group(alike, style, explain) for alike in folded]
    if plan.held:
        lines = [style.paint("left as it is", "bold")]
        for alike in [[held] for held in plan.held] if explain else fold(plan.held, _held_sameness):
            which = listed([held.address for held in alike])
            lines.append(f"  {style.paint('!', 'yellow')} {which}: {escape(alike[0].reason)}")
        parts.append("\n".join(lines))
    parts.append(_summary(plan, style))
    return "\n\n".join(parts) + "\n"


def symbol(action: Action) -> tuple[str, str]:
    """The sign of an action and its colour."""
    match action:
        case Action.CREATE | Action.REGISTER:
            return "+", "green"
        case Action.UPDATE | Action.REPLACE | Action.MOVE:
            return "~", "yellow"
        case Action.DELETE | Action.FORGET:
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


def _with_failure(step: Step, failed: Mapping[str, str]) -> Step:
    if step.address not in failed:
        return step
    return replace(step, reason=f"{step.reason}; failed last time: {failed[step.address]}")


Group = tuple[str, list[Step]]
"""A title, and the steps below it."""


def _groups(steps: Sequence[Step]) -> Iterator[Group]:
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


def _sameness(group: Group) -> Hashable:
    """Equal for models with the same steps, whatever they are called and however long they take."""
    title, steps = group
    name = name_of(title)
    return tuple(
        (
            _label(step),
            step.action,
            step.consequence,
            step.certain,
            nameless(step.reason, name),
            *(nameless(f"{c.field}: {_transition(c)}", name) for c in _telling(step)),
        )
        for step in steps
    )


def _held_sameness(held: Held) -> Hashable:
    return nameless(held.reason, name_of(held.address))


def _group(alike: Sequence[Group], style: Style, explain: bool) -> str:
    """One group, or several that are alike: their names, and the steps of the first."""
    title, steps = alike[0]
    lines = [style.paint(listed([title for title, _ in alike]), "bold")]
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
    for same in zip(*(steps for _, steps in alike), strict=True):
        lines += _lines(same, width, style, explain)
    return "\n".join(lines)


def _lines(same: Sequence[Step], width: int, style: Style, explain: bool) -> Iterator[str]:
    """The step of one group, or the same step of several."""
    step = same[0]
    sign, color = symbol(step.action)
    words = [step.action.value if step.certain else f"may {step.action.value}"]
    if step.consequence.rank:
        words.append(step.consequence.value)
    if len(same) == 1 and step.estimate:
        words.append(_estimated(step.estimate))
    elif len(same) > 1 and any(each.estimate for each in same):
        words.append(_cost(total_of(same)))
    what = style.paint(f"[{', '.join(words)}]", "dim")
    label = f"{escape(_label(step)):<{width}}"
    yield f"  {style.paint(sign, color)} {label}  {escape(step.reason)} {what}"
    for change in step.changes if explain else _telling(step):
        yield f"      {style.paint(escape(change.field), 'dim')}: {_transition(change)}"
    if explain and step.after:
        yield style.paint(f"      after {', '.join(map(escape, step.after))}", "dim")


def _estimated(estimate: Estimate) -> str:
    runs = "1 run" if estimate.from_runs == 1 else f"{estimate.from_runs} runs"
    words = [f"about {render_seconds(estimate.seconds)} ({runs})"]
    if estimate.cost is not None and estimate.currency is not None:
        words.append(render_money(estimate.cost, estimate.currency))
    return ", ".join(words)


def _telling(step: Step) -> list[FieldChange]:
    """Changes without those that say nothing that the reason has not said in words."""
    untold = ("address", "md5", "fingerprint", "release", "service")
    return [c for c in step.changes if " " not in c.field and c.field not in untold]


def _transition(change: FieldChange) -> str:
    if change.recorded == change.desired:
        return f"{shown(change.desired)}, found {shown(change.observed)}"
    return f"{shown(change.recorded)} -> {shown(change.desired)}"


def _label(step: Step) -> str:
    kind, _, rest = step.address.partition(".")
    if step.action is Action.MOVE:
        return "name"
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
