"""From three readings to a plan: pure, and the only place that decides.

Comes in: what the spec wants (:class:`Desired`), what is there (:class:`Observed`) and what the
ledger has (:class:`Recorded`). Goes out: a frozen :class:`~mlspec.plan.Plan`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from mlspec import __version__
from mlspec.errors import MlspecError
from mlspec.plan import Action, Base, Held, Plan, Scope, Step
from mlspec.planner.deployments import (
    outputs_left,
    plan_departures,
    plan_deployment,
    plan_destruction,
    plan_policy,
)
from mlspec.planner.facts import NONE, NOTHING, Facts, Leave, Recorded, Settled
from mlspec.planner.files import plan_dataset, plan_files
from mlspec.planner.models import plan_model
from mlspec.planner.moves import plan_moves
from mlspec.planner.partial import keep_selected
from mlspec.planner.stages import in_order, plan_stage
from mlspec.resources import (
    DatasetResource,
    DeploymentResource,
    Desired,
    GateResource,
    ModelResource,
    Observed,
    StageResource,
    upstream,
)

if TYPE_CHECKING:
    from mlspec.selection import Selected
    from mlspec.spec.models import Spec

__all__ = [
    "NONE",
    "Facts",
    "Leave",
    "Recorded",
    "Settled",
    "check_deletes",
    "conclude",
    "deleted",
    "file_steps",
    "keep_selected",
    "make_destroy_plan",
    "make_plan",
    "make_restore_plan",
    "outputs_left",
    "plan_dataset",
    "survey",
    "survey_again",
    "survey_alone",
    "survey_files",
]


def survey(
    desired: Desired,
    observed: Observed,
    recorded: Recorded,
    leave: Leave = NONE,
    *,
    settled: Settled = NOTHING,
    known: Iterable[str] | None = None,
) -> Facts:
    """Everything that a plan is made of: the steps, and the fingerprints that are known.

    `desired` has all models but those of `settled`. `known`: the models of the ledger that may have
    left the spec, if fewer than all that it has.

    Raises :class:`MlspecError` where no plan may be made: a file that is not ours stands where one
    is generated, or something protected would be deleted.
    """
    facts = Facts(desired, observed, recorded, leave, settled)
    plan_files(facts)
    for dataset in desired.of(DatasetResource):
        plan_dataset(facts, dataset)
    _plan_models(facts)
    for deployment in sorted(
        desired.of(DeploymentResource),
        key=lambda d: (len(d.after), d.champion is not None, d.address),
    ):
        plan_deployment(facts, deployment)
    plan_departures(facts, recorded.models() if known is None else known)
    plan_policy(facts)
    plan_moves(facts)
    return facts


def survey_alone(
    desired: Desired,
    observed: Observed,
    recorded: Recorded,
    contents: Mapping[str, Mapping[str, str]],
) -> Facts:
    """Of models that take nothing from others, all that :func:`survey` would find.

    `contents` has the md5 of what datasets hold, by address and path, where that is known.
    """
    facts = Facts(desired, observed, recorded, contents=dict(contents))
    plan_files(facts)
    _plan_models(facts)
    return facts


def survey_files(desired: Desired, observed: Observed, recorded: Recorded) -> Facts:
    """Of all that :func:`survey` finds, only the steps of files."""
    facts = Facts(desired, observed, recorded)
    plan_files(facts)
    return facts


def _plan_models(facts: Facts) -> None:
    for stage in in_order(facts.desired.of(StageResource)):
        plan_stage(facts, stage)
    for model in facts.desired.of(ModelResource):
        plan_model(facts, model)


def survey_again(facts: Facts, address: str) -> None:
    """Plan anew what is at `address`, after its model and all that this reads.

    `facts` has the readings of this moment of these. Files and departures are left as they were.
    """
    facts.forget((address,))
    match facts.desired.resources.get(address):
        case DatasetResource() as dataset:
            plan_dataset(facts, dataset)
        case DeploymentResource() as deployment:
            _models_again(facts, upstream(facts.desired, deployment.deployment.model))
            if deployment.reads is not None and deployment.reads.producer is not None:
                facts.forget((deployment.reads.producer,))
                plan_dataset(facts, facts.desired.get(DatasetResource, deployment.reads.producer))
            plan_deployment(facts, deployment)
        case StageResource(model=model) | GateResource(model=model) | ModelResource(name=model):
            _models_again(facts, upstream(facts.desired, model))
        case _:
            plan_policy(facts)


def _models_again(facts: Facts, names: Iterable[str]) -> None:
    models = [facts.desired.get(ModelResource, f"model.{name}") for name in names]
    for model in models:
        facts.forget((model.address, *model.stages, *model.gates))
    addresses = (address for model in models for address in model.stages)
    stages = [facts.desired.get(StageResource, address) for address in addresses]
    producers = dict.fromkeys(producer for stage in stages for producer in stage.producers)
    for producer in producers:
        if isinstance(dataset := facts.desired.resources.get(producer), DatasetResource):
            facts.forget((producer,))
            plan_dataset(facts, dataset)
    for stage in in_order(stages):
        plan_stage(facts, stage)
    for model in models:
        plan_model(facts, model)


def make_plan(
    desired: Desired,
    observed: Observed,
    recorded: Recorded,
    leave: Leave = NONE,
    *,
    commit: str = "",
    ledger: str = "",
) -> Plan:
    """The steps from what is recorded and observed to what is desired; raises as :func:`survey`."""
    facts = survey(desired, observed, recorded, leave)
    return conclude(facts, commit=commit, ledger=ledger)


def conclude(facts: Facts, *, commit: str, ledger: str, selection: Selected | None = None) -> Plan:
    """The plan that a survey comes to, or its selected part; raises what it was refused for."""
    if facts.refusal is not None:
        raise facts.refusal
    base = Base(commit=commit, ledger=ledger, spec=facts.desired.digest)
    steps = _ordered(facts.steps)
    held = (*facts.held.values(), *facts.settled.held)
    resources = len(facts.desired.resources) + facts.settled.resources
    if selection is None:
        unchanged = resources - len(facts.desired.resources.keys() & facts.steps.keys())
        return Plan(base, steps, _by_address(held), unchanged, __version__)
    steps, waiting = keep_selected(steps, selection)
    return Plan(
        base=base,
        steps=steps,
        held=_by_address((*(each for each in held if each.address in selection), *waiting)),
        unchanged=len(selection.addresses - facts.steps.keys()),
        mlspec=__version__,
        scope=Scope(selection.text, len(selection), resources),
    )


def _by_address(held: Iterable[Held]) -> tuple[Held, ...]:
    return tuple(sorted(held, key=lambda each: each.address))


def make_restore_plan(
    desired: Desired,
    observed: Observed,
    recorded: Recorded,
    *,
    commit: str = "",
    ledger: str = "",
) -> Plan:
    """Bring the outputs of every known run, and nothing else.

    What was renamed waits until that is applied: nothing is recorded under a name before.
    """
    facts = survey(desired, observed, recorded, Leave(bring=True))
    known = [step for step in facts.steps.values() if step.action is Action.RESTORE]
    facts.steps.clear()
    facts.held.clear()
    for step in known:
        if recorded.moving.keys().isdisjoint(step.after):
            facts.add(replace(step, after=()))
        else:
            facts.hold(step.address, "its model was renamed: `mlspec apply` comes first")
    return conclude(facts, commit=commit, ledger=ledger)


def file_steps(facts: Facts) -> tuple[Step, ...]:
    """The steps of generated files alone."""
    return tuple(
        step for address, step in sorted(facts.steps.items()) if address.startswith("file.")
    )


def make_destroy_plan(
    desired: Desired,
    observed: Observed,
    recorded: Recorded,
    *,
    commit: str = "",
    ledger: str = "",
) -> Plan:
    """Delete every deployment that is recorded or runs here.

    Raises :class:`MlspecError` when one of them is protected.
    """
    facts = Facts(desired, observed, recorded)
    plan_destruction(facts)
    return conclude(facts, commit=commit, ledger=ledger)


def deleted(plan: Plan) -> list[str]:
    """The deployments and models that it deletes, which needs leave."""
    return [
        step.address
        for step in plan.steps
        if step.action is Action.DELETE and not step.address.startswith("file.")
    ]


def check_deletes(plan: Plan, spec: Spec, *, allowed: bool, allow_empty: bool) -> None:
    """Refuse a plan that deletes a deployment or a model, or the last of them, unless allowed."""
    lost = deleted(plan)
    kept = spec.models or spec.deployments
    if lost and not kept and not allow_empty:
        raise MlspecError(
            "the spec has no model and no deployment left, and this plan would delete all there is",
            hint="if that is meant, apply with --allow-delete --allow-empty",
        )
    if lost and not allowed:
        raise MlspecError(
            f"this plan deletes {', '.join(lost)}",
            hint="look at the plan, then apply with --allow-delete",
        )


def _ordered(steps: Mapping[str, Step]) -> tuple[Step, ...]:
    """Topologically, then by address: steps that are ready at the same time come sorted."""
    sorter = TopologicalSorter(
        {address: [a for a in step.after if a in steps] for address, step in steps.items()}
    )
    sorter.prepare()
    ordered: list[Step] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += [steps[address] for address in ready]
        sorter.done(*ready)
    return tuple(ordered)
