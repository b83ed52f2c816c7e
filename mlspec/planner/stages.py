"""Steps for stages: run what is new, restore what ran before, adopt what ran without mlspec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from graphlib import TopologicalSorter
from typing import Any

from mlspec.fingerprint import entry_fingerprint, entry_outputs, stage_fingerprint
from mlspec.ledger.records import Run
from mlspec.plan import Action, Consequence, Estimate, FieldChange, Step
from mlspec.planner.facts import Facts
from mlspec.planner.reasons import compare_run, reason_of
from mlspec.resources import Dependency, ModelResource, ObservedStage, StageResource
from mlspec.spec.models import Fetch, Own
from mlspec.spec.quantities import write_bytes

_NOTHING = ObservedStage(entry=None, outputs={})


def in_order(resources: Iterable[StageResource]) -> tuple[StageResource, ...]:
    """Stages after those whose outputs they read, else by address."""
    stages = {stage.address: stage for stage in resources}
    sorter = TopologicalSorter(
        {
            address: [producer for producer in stage.producers if producer in stages]
            for address, stage in sorted(stages.items())
        }
    )
    return tuple(stages[address] for address in sorter.static_order())


def plan_stage(facts: Facts, resource: StageResource) -> None:
    """Decide from the fingerprint; without one, from what is known to differ."""
    digests = {dep.path: _digest(facts, dep) for dep in resource.dependencies}
    known = {path: md5 for path, md5 in digests.items() if md5 is not None}
    if len(known) == len(digests):
        _plan_known(facts, resource, known)
    else:
        _plan_unknown(facts, resource, digests)


def _digest(facts: Facts, dependency: Dependency) -> str | None:
    if dependency.producer is None:
        return dependency.md5
    return facts.contents.get(dependency.producer, {}).get(dependency.path)


def _plan_known(facts: Facts, resource: StageResource, digests: Mapping[str, str]) -> None:
    fingerprint = stage_fingerprint(resource.command, digests, resource.params, resource.writes)
    facts.fingerprints[resource.address] = fingerprint
    observed = facts.observed.stages.get(resource.address, _NOTHING)
    run = facts.recorded.run(resource.model, resource.name, fingerprint)
    if run is not None and not run.freed:
        facts.contents[resource.address] = entry_outputs(run.entry)
        _plan_restore(facts, resource, run, observed)
        return
    unknown = observed.entry is not None and entry_fingerprint(observed.entry) == fingerprint
    if run is not None and not observed.outputs:
        unknown = False  # dvc.lock names what `mlspec gc` removed
    if unknown and facts.leave.adopt:
        assert observed.entry is not None
        facts.contents[resource.address] = entry_outputs(observed.entry)
        reason = "dvc.lock has a run of it, which is taken on trust"
        _add(facts, resource, Action.ADOPT, Consequence.NONE, reason)
        return
    changes = _compare_last(facts, resource, digests)
    if run is not None:
        reason = f"ran before, at {run.commit[:9] or 'no commit'}; `mlspec gc` removed its outputs"
    elif isinstance(resource.stage, Fetch):
        reason = _not_fetched(facts, resource)
        changes = tuple(each for each in changes if each.field != "command") or changes
    else:
        reason = reason_of(changes) if changes else _never(facts, resource)
    if unknown:
        whose = "of it" if run is not None else "that the ledger does not know"
        reason += f"; dvc.lock has a run {whose} (--adopt takes it)"
        changes = (*changes, FieldChange("dvc.lock", None, fingerprint[:12], fingerprint[:12]))
    _add(facts, resource, Action.RUN, _cost(facts, resource), reason, changes)


def _plan_unknown(facts: Facts, resource: StageResource, digests: Mapping[str, str | None]) -> None:
    changes = _compare_last(facts, resource, digests)
    waiting = sorted(path for path, md5 in digests.items() if md5 is None)
    if changes:
        reason, certain = reason_of(changes), True
    elif _last(facts, resource) is None:
        reason, certain = _never(facts, resource), True
    else:
        reason, certain = f"{waiting[0]} may change; known after it is made again", False
    _add(facts, resource, Action.RUN, _cost(facts, resource), reason, changes, certain=certain)


def _plan_restore(facts: Facts, resource: StageResource, run: Run, observed: ObservedStage) -> None:
    """Put back what a known run wrote, where something else lies; absent outputs are no drift."""
    outputs = facts.contents[resource.address]
    if facts.leave.bring and observed.outputs.keys() != outputs.keys():
        _add(facts, resource, Action.RESTORE, Consequence.NONE, "its outputs are not all here")
        return
    if not observed.outputs:
        return
    seen = _fingerprint(observed.entry, run) if observed.entry else None
    if (
        observed.entry is None
        or seen != run.fingerprint
        or entry_outputs(observed.entry) != outputs
    ):
        state = facts.recorded.model_state(resource.model)
        last = state.runs.get(resource.name) if state else None
        if last == run.fingerprint:
            reason = "drift: dvc.lock does not have its recorded run"
        else:
            reason = f"ran before, at {run.commit[:9] or 'no commit'}; its outputs are kept"
        # an entry that differs where the fingerprint does not is told from it, too
        found = seen and (seen[:12] if seen != run.fingerprint else "other outputs")
        change = FieldChange("fingerprint", last and last[:12], run.fingerprint[:12], found)
    else:
        changed = sorted(path for path, md5 in observed.outputs.items() if outputs[path] != md5)
        if not changed:
            return
        reason, change = _tell_outputs(facts, resource, run, observed, changed)
    _add(facts, resource, Action.RESTORE, Consequence.NONE, reason, (change,))


def _tell_outputs(
    facts: Facts, resource: StageResource, run: Run, observed: ObservedStage, changed: list[str]
) -> tuple[str, FieldChange]:
    """What another run of the stage left is there after a pull or a revert, and is no drift."""
    outputs, there = facts.contents[resource.address], observed.outputs
    written = partial(facts.recorded.has_written, resource.model, resource.name)
    strange = [path for path in changed if not written(path, there[path])]
    path = (strange or changed)[0]
    if strange:
        reason, recorded = f"drift: {path} differs from what the stage wrote", outputs[path]
    else:
        commit = run.commit[:9] or "no commit"
        reason = f"{path} is of another run than that at {commit}, whose outputs are kept"
        recorded = there[path]
    return reason, FieldChange(f"outputs {path}", recorded, outputs[path], there[path])


def _fingerprint(entry: Mapping[str, Any], run: Run) -> str:
    return run.fingerprint if entry == run.entry else entry_fingerprint(entry)


def _compare_last(
    facts: Facts, resource: StageResource, digests: Mapping[str, str | None]
) -> tuple[FieldChange, ...]:
    last = _last(facts, resource)
    return compare_run(resource, digests, last) if last is not None else ()


def _last(facts: Facts, resource: StageResource) -> Mapping[str, object] | None:
    """The entry of the stage's last recorded run, else what dvc.lock has."""
    state = facts.recorded.model_state(resource.model)
    fingerprint = state.runs.get(resource.name) if state else None
    run = facts.recorded.run(resource.model, resource.name, fingerprint) if fingerprint else None
    if run is not None:
        return run.entry
    return facts.observed.stages.get(resource.address, _NOTHING).entry


def _never(facts: Facts, resource: StageResource) -> str:
    return "never run" if _last(facts, resource) is None else "no run of this fingerprint is known"


def _not_fetched(facts: Facts, resource: StageResource) -> str:
    origin = facts.desired.get(ModelResource, f"model.{resource.model}").model.from_
    assert origin is not None
    most = write_bytes(origin.max_size) if origin.max_size else "8GiB"
    return f"not fetched yet: {origin.place}, {origin.digest[:19]}, at most {most}"


def _cost(facts: Facts, resource: StageResource) -> Consequence:
    """Stages that the artifact is made by retrain; those that come after it re-evaluate."""
    model = facts.desired.get(ModelResource, f"model.{resource.model}")
    if model.model.from_ is not None or isinstance(resource.stage, Own):
        return Consequence.REEVALUATE  # others trained it, or it is trained
    if model.artifact is None:
        return Consequence.RETRAIN
    trains = _makers(facts, model, model.artifact.path)
    return Consequence.RETRAIN if resource.address in trains else Consequence.REEVALUATE


def _makers(facts: Facts, model: ModelResource, artifact: str) -> set[str]:
    stages = {address: facts.desired.get(StageResource, address) for address in model.stages}
    pending = [address for address, stage in stages.items() if artifact in stage.writes]
    makers: set[str] = set()
    while pending:
        address = pending.pop()
        if address in stages and address not in makers:
            makers.add(address)
            pending.extend(stages[address].producers)
    return makers


def _add(
    facts: Facts,
    resource: StageResource,
    action: Action,
    consequence: Consequence,
    reason: str,
    changes: tuple[FieldChange, ...] = (),
    *,
    certain: bool = True,
) -> None:
    facts.add(
        Step(
            resource.address,
            action,
            consequence,
            reason,
            after=facts.planned((*resource.files, *resource.producers)),
            changes=changes,
            certain=certain,
            estimate=_estimate(facts, resource) if action is Action.RUN else None,
        )
    )


def _estimate(facts: Facts, resource: StageResource) -> Estimate | None:
    """From the last runs of the stage, whatever they were made of."""
    durations = _durations(facts, resource)
    if not durations:
        return None
    seconds = round(_median(durations), 3)
    price = resource.stage.resources.price
    if price is None:
        return Estimate(seconds, len(durations))
    cost = round(seconds / 3600 * price.amount, 6)
    return Estimate(seconds, len(durations), cost, price.currency)


def _median(values: Sequence[float]) -> float:
    # the module `statistics` takes longer to import than a small plan takes
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _durations(facts: Facts, resource: StageResource) -> tuple[float, ...]:
    state = facts.recorded.model_state(resource.model)
    if state is None:
        return ()
    if resource.name in state.durations:
        return state.durations[resource.name]
    # a ledger that was written before the state had durations
    fingerprint = state.runs.get(resource.name)
    run = facts.recorded.run(resource.model, resource.name, fingerprint) if fingerprint else None
    return () if run is None or run.adopted else (run.seconds,)
