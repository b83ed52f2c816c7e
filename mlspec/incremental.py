"""A survey of what changed since the last one, equal to a survey of everything.

Comes in: a spec that is loaded, the worktree, the ledger. Goes out:
:class:`~mlspec.planner.Facts`, in which models that are known to need nothing are only counted.
What may be left out is for :mod:`mlspec.memo` to say; here the others are read, and what turns out
to need nothing is handed to it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from mlspec.compilers.dvc import pipeline_path
from mlspec.fingerprint import digest_of
from mlspec.ledger.moves import Moves, moved_recorded
from mlspec.ledger.paths import MODELS, model_path, shard_of
from mlspec.ledger.snapshot import Snapshot
from mlspec.ledger.state import Recorded
from mlspec.memo import Memo, Seen, Surroundings
from mlspec.observe import observe_resources, observe_surroundings, place_of
from mlspec.plan import Action
from mlspec.planner import (
    Facts,
    Settled,
    outputs_left,
    plan_dataset,
    survey,
    survey_alone,
    survey_files,
)
from mlspec.resolve import Resolver
from mlspec.resources import (
    DatasetResource,
    DependencyKind,
    DeploymentResource,
    Desired,
    FileResource,
    Observed,
    Resource,
    StageResource,
)
from mlspec.spec.models import Section
from mlspec.worktree import Worktree

Contents = Mapping[str, Mapping[str, str]]
FEW = 200
"""Models that are read together; of more, not all readings are held at a time."""


@dataclass(frozen=True, slots=True)
class _Look:
    """What was found of one model, and at which paths."""

    name: str
    resources: tuple[Resource, ...]
    paths: frozenset[str]

    @property
    def producers(self) -> set[str]:
        stages = (each for each in self.resources if isinstance(each, StageResource))
        return {producer for stage in stages for producer in stage.producers}

    @property
    def generated(self) -> Iterator[str]:
        files = (each for each in self.resources if isinstance(each, FileResource))
        return (file.generated.path for file in files)

    @property
    def upstream(self) -> set[str]:
        """The other models that it takes something from."""
        stages = (each for each in self.producers if each.startswith("stage."))
        return {each.removeprefix("stage.").rpartition(".")[0] for each in stages} - {self.name}

    @property
    def is_alone(self) -> bool:
        return not self.upstream and not self.has_made_code

    @property
    def datasets(self) -> tuple[str, ...]:
        found = (each for each in self.producers if each.startswith("dataset."))
        return tuple(sorted(each.removeprefix("dataset.") for each in found))

    @property
    def inputs(self) -> dict[str, str]:
        """What it reads of others, and of people: who writes each."""
        stages = [each for each in self.resources if isinstance(each, StageResource)]
        own = {stage.address for stage in stages}
        found = {
            dependency.path: dependency.producer or ""
            for stage in stages
            for dependency in stage.dependencies
            if dependency.kind is DependencyKind.INPUT
        }
        return {path: producer for path, producer in found.items() if producer not in own}

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


def survey_changes(
    resolver: Resolver,
    worktree: Worktree,
    snapshot: Snapshot,
    memo: Memo,
) -> Facts:
    """What :func:`mlspec.planner.survey` finds of everything."""
    with _no_collection():
        return _survey(resolver, worktree, snapshot, memo)


def survey_file_changes(
    resolver: Resolver, worktree: Worktree, snapshot: Snapshot, memo: Memo
) -> Facts:
    """What :func:`mlspec.planner.survey_files` finds of everything.

    Models whose files are as they should be may be missing.
    """
    with _no_collection():
        return _survey_files(resolver, worktree, snapshot, memo)


def survey_model(resolver: Resolver, worktree: Worktree, snapshot: Snapshot, name: str) -> Facts:
    """What :func:`mlspec.planner.survey` finds of a model, and of those it takes from."""
    observed = Observed({}, {}, {}, {}, place_of(worktree.root))
    recorded = _recorded(resolver, snapshot)
    project = tuple(resolver.project())
    observe_resources(project, worktree, observed)
    contents = _contents(resolver.desired(project), observed, recorded)
    looks: dict[str, _Look] = {}
    _look(resolver, worktree, observed, (name,), looks)
    resources = (each for look in looks.values() for each in look.resources)
    return survey_alone(resolver.desired(resources), observed, recorded, contents)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Nothing that is made has cycles: looking for them would take a third of a cold plan."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _survey(
    resolver: Resolver,
    worktree: Worktree,
    snapshot: Snapshot,
    memo: Memo,
) -> Facts:
    began = time.time_ns()
    observed = Observed({}, {}, {}, {}, place_of(worktree.root))
    recorded = _recorded(resolver, snapshot)
    project = tuple(resolver.project())
    observe_resources(project, worktree, observed)
    contents = _contents(resolver.desired(project), observed, recorded)
    now = _surroundings(resolver, contents, snapshot, recorded)
    live = memo.compare(now)
    live |= _readers(resolver, live)
    deployments = tuple(resolver.deployments())
    observe_resources(deployments, worktree, observed)
    looks, seen = _sift(resolver, worktree, observed, snapshot, recorded, contents, live)
    live -= seen.keys()
    while True:
        _look(resolver, worktree, observed, live, looks)
        models = (each for look in looks.values() for each in look.resources)
        desired = resolver.desired((*project, *models, *deployments))
        observe_surroundings(desired, worktree, observed)
        facts = survey(
            desired,
            observed,
            recorded,
            settled=_with(memo.settled(looks.keys() | seen.keys()), seen, looks),
            known=[name for shard in sorted(memo.changed) for name in now.folders(shard)],
        )
        more = (_to_be_served(facts) | _reading_on(facts, memo, seen)) - looks.keys()
        if not more:
            break
        live |= more
    memo.keep(
        (seen | _seen(facts, looks)).values(),
        looks.keys() | seen.keys(),
        now,
        departing=[
            a.removeprefix("model.") for a, s in facts.steps.items() if _departs(a, s.action)
        ],
        moment=began,
    )
    return facts


def _survey_files(resolver: Resolver, worktree: Worktree, snapshot: Snapshot, memo: Memo) -> Facts:
    began = time.time_ns()
    observed = Observed({}, {}, {}, {}, place_of(worktree.root))
    recorded = _recorded(resolver, snapshot)
    project = (*resolver.project(), *resolver.deployments())
    observe_resources(project, worktree, observed)
    contents = _contents(resolver.desired(project), observed, recorded)
    now = _surroundings(resolver, contents, snapshot, recorded)
    live = memo.compare(now, files_only=True)
    live |= _readers(resolver, live)
    files: list[FileResource] = []
    seen: dict[str, Seen] = {}
    for name in sorted(live):
        readings = Observed({}, {}, {}, {}, observed.place)
        with worktree.watch() as watch:
            resources = tuple(resolver.model(name))
            own = [each for each in resources if isinstance(each, FileResource)]
            observe_resources(own, worktree, readings)
        if resolver.problems:
            continue
        facts = survey_files(resolver.desired(own), readings, recorded)
        if facts.steps:
            files += own
            observed.files.update(readings.files)
        else:
            look = _Look(name, resources, frozenset(watch.paths))
            seen |= _seen(facts, {name: look}, settled=False)
    desired = resolver.desired((*project, *files))
    observe_surroundings(desired, worktree, observed)
    known = (name for shard in memo.changed for name in now.folders(shard))
    departing = [name for name in known if name not in now.models]
    memo.keep(seen.values(), live, now, departing=departing, moment=began)
    return survey_files(desired, observed, recorded)


def _contents(desired: Desired, observed: Observed, recorded: Recorded) -> Contents:
    """What datasets hold, where that is known."""
    facts = Facts(desired, observed, recorded)
    for dataset in desired.of(DatasetResource):
        plan_dataset(facts, dataset)
    return facts.contents


def _recorded(resolver: Resolver, snapshot: Snapshot) -> Recorded:
    return moved_recorded(snapshot, Moves(resolver.renames, resolver.worktree.read_bytes))


def _surroundings(
    resolver: Resolver, contents: Contents, snapshot: Snapshot, recorded: Recorded
) -> Surroundings:
    spec = resolver.spec
    datasets = {
        name: digest_of([_plain(dataset), contents.get(f"dataset.{name}")])
        for name, dataset in spec.datasets.items()
    }
    deployments = {
        model: digest_of({name: _plain(each) for name, each in by_name.items()})
        for model, by_name in resolver.deployed.items()
    }
    return Surroundings(
        flows=resolver.loaded.flow_digest,
        around=digest_of([_plain(spec.python), _plain(spec.storage)]),
        models=resolver.loaded.model_digests,
        shards=_shards(snapshot, recorded),
        folders=partial(_folders, snapshot, recorded),
        datasets=datasets,
        deployments=deployments,
        producer=resolver.producer,
    )


def _shards(snapshot: Snapshot, recorded: Recorded) -> dict[str, str]:
    """The folders of models; those in which one has another name now are as no other was."""
    shards = snapshot.ids(MODELS)
    found = dict(shards)
    for former, now in recorded.moving.items():
        if former.startswith("model."):
            old, new = (shard_of(each.removeprefix("model.")) for each in (former, now))
            for shard in (old, new):  # the new one has what the old one is at
                found[shard] = f"{found.get(shard, '')} {former} {now} {shards[old]}"
    return found


def _folders(snapshot: Snapshot, recorded: Recorded, shard: str) -> dict[str, str]:
    """What the ledger has in a folder of models, under the names of the spec."""
    folders = snapshot.ids(f"{MODELS}/{shard}")
    for former, now in recorded.moving.items():
        if former.startswith("model."):
            old, new = former.removeprefix("model."), now.removeprefix("model.")
            if shard_of(new) == shard:
                known = snapshot.ids(f"{MODELS}/{shard_of(old)}")
                folders[new] = f"{former} {known[old]}"
            if shard_of(old) == shard:
                del folders[old]
    return folders


def _plain(section: Section) -> object:
    return section.model_dump(mode="json")


def _readers(resolver: Resolver, live: Iterable[str]) -> set[str]:
    """The models that read, directly or not, what these write: it may change."""
    found, left = set[str](), list(live)
    while left:
        new = set(resolver.flows.readers.get(left.pop(), ())) - found
        found |= new
        left += new
    return found


def _sift(
    resolver: Resolver,
    worktree: Worktree,
    observed: Observed,
    snapshot: Snapshot,
    recorded: Recorded,
    contents: Contents,
    live: Iterable[str],
) -> tuple[dict[str, _Look], dict[str, Seen]]:
    """Read many models, a few at a time, and forget the readings of those that need nothing.

    The others, with their readings in `observed`, are what there is to plan.
    """
    looks: dict[str, _Look] = {}
    seen: dict[str, Seen] = {}
    names = sorted(live)
    if len(names) <= FEW:
        return looks, seen
    for start in range(0, len(names), FEW):
        batch: dict[str, _Look] = {}
        readings = Observed({}, {}, {}, {}, observed.place)
        for name in names[start : start + FEW]:
            batch[name] = _read(resolver, worktree, readings, name)
        if resolver.problems:
            looks |= batch
            continue
        snapshot.read_ahead(map(model_path, batch))
        alone = {name: look for name, look in batch.items() if look.is_alone}
        resources = (each for look in alone.values() for each in look.resources)
        desired = resolver.desired(resources)
        facts = survey_alone(desired, readings, recorded, contents)
        found = _seen(facts, alone)
        done = {name: each for name, each in found.items() if each.settled}
        seen |= done
        rest = {name: look for name, look in batch.items() if name not in done}
        looks |= rest
        for look in rest.values():
            _move(look, readings, observed)
    return looks, seen


def _move(look: _Look, readings: Observed, into: Observed) -> None:
    for each in look.resources:
        match each:
            case StageResource(address=address):
                into.stages[address] = readings.stages[address]
            case FileResource(generated=generated) if generated.path in readings.files:
                into.files[generated.path] = readings.files[generated.path]


def _look(
    resolver: Resolver,
    worktree: Worktree,
    observed: Observed,
    live: Iterable[str],
    looks: dict[str, _Look],
) -> None:
    """Add these models to `looks`, and those that they, or the others there, take from."""
    left = [*sorted(live, reverse=True), *(up for look in looks.values() for up in look.upstream)]
    while left:
        name = left.pop()
        if name not in looks:
            looks[name] = look = _read(resolver, worktree, observed, name)
            left += look.upstream


def _read(resolver: Resolver, worktree: Worktree, into: Observed, name: str) -> _Look:
    with worktree.watch() as watch:
        resources = tuple(resolver.model(name))
        observe_resources(resources, worktree, into)
    return _Look(name, resources, frozenset(watch.paths))


def _seen(facts: Facts, looks: Mapping[str, _Look], *, settled: bool = True) -> dict[str, Seen]:
    """The models whose files are written, and that take nothing from others but files and data.

    Not `settled`: `facts` are only of files, so whether more is needed is not known.
    """
    return {
        name: Seen(
            name=name,
            paths=look.paths,
            datasets=look.datasets,
            inputs=look.inputs,
            settled=settled and not any(each.address in facts.steps for each in look.resources),
            resources=len(look.resources),
            held=(facts.held[address],) if (address := f"model.{name}") in facts.held else (),
            version=facts.outlooks[name].version if settled else None,
        )
        for name, look in looks.items()
        if not look.has_made_code
        # what is left of a pipeline, where the model has no stages any more
        and f"file.{pipeline_path(name)}" not in facts.steps
        and not any(f"file.{path}" in facts.steps for path in look.generated)
    }


def _with(settled: Settled, seen: Mapping[str, Seen], looks: Mapping[str, _Look]) -> Settled:
    """`settled`, with those that were seen just now and are not among what is planned."""
    new = [each for name, each in seen.items() if name not in looks and each.settled]
    return Settled(
        resources=settled.resources + sum(each.resources for each in new),
        held=(*settled.held, *(held for each in new for held in each.held)),
        versions={**settled.versions, **{each.name: each.version for each in new}},
    )


def _to_be_served(facts: Facts) -> set[str]:
    """The models of deployments that have a step: apply looks at them, whatever they need."""
    return {
        each.deployment.model
        for each in facts.desired.of(DeploymentResource)
        if each.address in facts.steps
    }


def _reading_on(facts: Facts, memo: Memo, seen: Mapping[str, Seen]) -> set[str]:
    """The models that may read what those made that are deleted: the plan names them."""
    gone = [
        address.removeprefix("model.")
        for address, step in facts.steps.items()
        if step.action is Action.DELETE and address.startswith("model.")
    ]
    left = {path for name in gone for path in outputs_left(facts, name)}
    if not left:
        return set()
    return memo.found_from(left) | {
        n for n, each in seen.items() if not left.isdisjoint(each.paths)
    }


def _departs(address: str, action: Action) -> bool:
    return action in (Action.DELETE, Action.FORGET) and address.startswith("model.")
