"""A survey of what changed since the last one, equal to a survey of everything.

Comes in: a spec that is loaded, the worktree, the ledger. Goes out:
:class:`~mlspec.planner.Facts`, in which models that are known to need nothing are only counted.
What may be left out is for :mod:`mlspec.memo` to say; here the others are read, and what turns out
to need nothing is handed to it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mlspec.fingerprint import digest_of
from mlspec.ledger.paths import MODELS, model_path
from mlspec.ledger.snapshot import Snapshot
from mlspec.ledger.state import Recorded
from mlspec.memo import Memo, Seen, Surroundings
from mlspec.observe import observe_resources, observe_surroundings, place_of
from mlspec.plan import Action
from mlspec.planner import Facts, plan_dataset, survey
from mlspec.resolve import Resolver
from mlspec.resources import (
    DatasetResource,
    DependencyKind,
    DeploymentResource,
    ModelResource,
    Observed,
    Resource,
    StageResource,
)
from mlspec.spec.models import Section
from mlspec.worktree import Worktree

ALONE = 20
"""Models of which so few are looked at that their records are read one by one."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found of one model, and at which paths."""

    resources: tuple[Resource, ...]
    paths: frozenset[str]

    @property
    def producers(self) -> set[str]:
        stages = (each for each in self.resources if isinstance(each, StageResource))
        return {producer for stage in stages for producer in stage.producers}

    @property
    def datasets(self) -> tuple[str, ...]:
        found = (each for each in self.producers if each.startswith("dataset."))
        return tuple(sorted(each.removeprefix("dataset.") for each in found))

    @property
    def has_made_code(self) -> bool:
        """Whether a stage wrote some of its code; what writes that is not seen in the spec."""
        return any(
            dependency.producer is not None
            for stage in self.resources
            if isinstance(stage, StageResource)
            for dependency in stage.dependencies
            if dependency.kind in (DependencyKind.CODE, DependencyKind.REQUIREMENTS)
        )


def survey_changes(resolver: Resolver, worktree: Worktree, snapshot: Snapshot, memo: Memo) -> Facts:
    """What :func:`mlspec.planner.survey` finds of everything."""
    began = time.time_ns()
    observed = Observed({}, {}, {}, {}, place_of(worktree.root))
    recorded = Recorded(snapshot)
    project = tuple(resolver.project())
    observe_resources(project, worktree, observed)
    now = _surroundings(resolver, project, observed, recorded, snapshot)
    live = memo.compare(now)
    if live:
        live |= _readers(resolver, live)
    deployments = tuple(resolver.deployments())
    observe_resources(deployments, worktree, observed)
    while True:
        looks = _look(resolver, worktree, observed, live)
        if len(looks) > ALONE:
            snapshot.read_ahead(map(model_path, looks))
        models = (each for look in looks.values() for each in look.resources)
        desired = resolver.desired((*project, *models, *deployments))
        observe_surroundings(desired, worktree, observed)
        facts = survey(
            desired,
            observed,
            recorded,
            settled=memo.settled(looks.keys()),
            known=[name for shard in sorted(memo.changed) for name in now.folders(shard)],
        )
        served = _to_be_served(facts) - looks.keys()
        if not served:
            break
        live |= served
    memo.keep(
        _seen(facts, looks, resolver),
        looks.keys(),
        now,
        departing=[
            a.removeprefix("model.") for a, s in facts.steps.items() if _departs(a, s.action)
        ],
        moment=began,
    )
    return facts


def _surroundings(
    resolver: Resolver,
    project: Iterable[Resource],
    observed: Observed,
    recorded: Recorded,
    snapshot: Snapshot,
) -> Surroundings:
    spec = resolver.spec
    facts = Facts(resolver.desired(project), observed, recorded)
    datasets = {}
    for dataset in facts.desired.of(DatasetResource):
        plan_dataset(facts, dataset)
        content = facts.contents.get(dataset.address)
        datasets[dataset.name] = digest_of([_plain(dataset.dataset), content])
    deployments = {
        model: digest_of({name: _plain(each) for name, each in by_name.items()})
        for model, by_name in resolver.deployed.items()
    }
    return Surroundings(
        around=digest_of([_plain(spec.python), _plain(spec.storage)]),
        models=resolver.loaded.model_digests,
        shards=snapshot.ids(MODELS),
        folders=lambda shard: snapshot.ids(f"{MODELS}/{shard}"),
        datasets=datasets,
        deployments=deployments,
    )


def _plain(section: Section) -> object:
    return section.model_dump(mode="json")


def _readers(resolver: Resolver, live: Iterable[str]) -> set[str]:
    """The models that read, directly or not, what these write: it may change."""
    flows = resolver.loaded.interfaces
    reads: dict[str, list[str]] = {}
    for name, interface in flows.items():
        for stage in interface.stages.values():
            for path in stage.inputs:
                reads.setdefault(path, []).append(name)
    found, left = set[str](), list(live)
    while left:
        written = (path for stage in flows[left.pop()].stages.values() for path in stage.writes)
        new = {name for path in written for name in reads.get(path, ())} - found
        found |= new
        left += new
    return found


def _look(
    resolver: Resolver, worktree: Worktree, observed: Observed, live: Iterable[str]
) -> Mapping[str, _Look]:
    """Read these models, and those that they take something from."""
    looks: dict[str, _Look] = {}
    left = sorted(live, reverse=True)
    while left:
        name = left.pop()
        if name in looks:
            continue
        with worktree.watch() as watch:
            resources = tuple(resolver.model(name))
            observe_resources(resources, worktree, observed)
        looks[name] = look = _Look(resources, frozenset(watch.paths))
        stages = (each for each in look.producers if each.startswith("stage."))
        left += {each.removeprefix("stage.").rpartition(".")[0] for each in stages} - looks.keys()
    return looks


def _seen(facts: Facts, looks: Mapping[str, _Look], resolver: Resolver) -> Iterable[Seen]:
    """The models that need nothing and take nothing from others but through files and datasets."""
    for name, look in looks.items():
        if any(each.address in facts.steps for each in look.resources):
            continue
        if look.has_made_code:
            continue
        addresses = {each.address for each in look.resources}
        model = facts.desired.get(ModelResource, f"model.{name}")
        yield Seen(
            name=name,
            paths=look.paths,
            datasets=look.datasets,
            resources=len(addresses),
            held=(facts.held[model.address],) if model.address in facts.held else (),
            version=facts.outlooks[name].version if name in resolver.deployed else None,
        )


def _to_be_served(facts: Facts) -> set[str]:
    """The models of deployments that have a step: apply looks at them, whatever they need."""
    return {
        each.deployment.model
        for each in facts.desired.of(DeploymentResource)
        if each.address in facts.steps
    }


def _departs(address: str, action: Action) -> bool:
    return action is Action.DELETE and address.startswith("model.")
