"""The desired state: what the spec asks for, resolved against the files of the repository.

Made by :func:`mlspec.resolve.resolve`, read by the planner and by providers. Every resource has an
address, and :class:`Desired` holds them by address.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from mlspec.compilers.generated import GeneratedFile
from mlspec.spec.models import (
    Artifact,
    Challenging,
    Dataset,
    Deployment,
    Gate,
    Model,
    Spec,
    Stage,
    challenger_name,
)


class DependencyKind(StrEnum):
    """Why a stage reads a file; it decides the words of a reason."""

    CODE = "code"
    INPUT = "input"
    DATASET = "dataset"
    REQUIREMENTS = "requirements"


@dataclass(frozen=True, slots=True)
class Dependency:
    """A path that a stage reads. `md5` is unknown (`None`) when `producer` writes it.

    `producer` is the address of the stage or dataset that the content comes from.
    """

    path: str
    kind: DependencyKind
    md5: str | None = None
    producer: str | None = None


@dataclass(frozen=True, slots=True)
class FileResource:
    """A generated file."""

    generated: GeneratedFile

    @property
    def address(self) -> str:
        return f"file.{self.generated.path}"


@dataclass(frozen=True, slots=True)
class DatasetResource:
    """A dataset. `in_git`: the data are Git's, so nothing has to be kept in storage."""

    name: str
    dataset: Dataset
    in_git: bool
    files: tuple[str, ...]

    @property
    def address(self) -> str:
        return f"dataset.{self.name}"


@dataclass(frozen=True, slots=True)
class StageResource:
    """A stage with everything that its fingerprint is made of.

    `params` has the shape of dvc.lock: file, then key, then value. `files` are the addresses of the
    generated files that define the stage. `former` are earlier names of the model, the
    latest first.
    """

    model: str
    name: str
    stage: Stage
    dependencies: tuple[Dependency, ...]
    params: Mapping[str, Mapping[str, Any]]
    command: str
    writes: tuple[str, ...]
    files: tuple[str, ...]
    former: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"stage.{self.model}.{self.name}"

    @property
    def producers(self) -> tuple[str, ...]:
        return tuple(
            dict.fromkeys(dep.producer for dep in self.dependencies if dep.producer is not None)
        )


@dataclass(frozen=True, slots=True)
class GateResource:
    """A gate of a model."""

    model: str
    name: str
    gate: Gate

    @property
    def address(self) -> str:
        return f"gate.{self.model}.{self.name}"

    @property
    def question(self) -> dict[str, Any]:
        """The gate as the ledger keeps it: the fields that differ from their defaults."""
        return self.gate.model_dump(mode="json", exclude_defaults=True)


@dataclass(frozen=True, slots=True)
class ModelResource:
    """A model as something that has versions."""

    name: str
    model: Model
    stages: tuple[str, ...]
    gates: tuple[str, ...]
    files: tuple[str, ...] = ()
    """Of a model that others made: generated files that it takes to have its artifact kept."""
    code: tuple[str, ...] = ()
    """The files of the class that answers, if the artifact has one."""
    training: str = ""
    """Where the data are that the signature is inferred from, if it is."""

    @property
    def address(self) -> str:
        return f"model.{self.name}"

    @property
    def artifact(self) -> Artifact | None:
        return self.model.artifact

    def stage(self, address: str) -> Stage:
        """The stage at one of the addresses of `stages`."""
        return self.model.stages[address.rpartition(".")[2]]

    @property
    def taken(self) -> str | None:
        """What names the artifact by its content, if others made it."""
        return self.model.from_.taken if self.model.from_ is not None else None

    @property
    def source(self) -> dict[str, str] | None:
        """Where the artifact comes from, with its digest and licence, if others made it."""
        return self.model.from_.record if self.model.from_ is not None else None

    @property
    def brought(self) -> bool:
        """Whether others made the artifact, and no stage fetches it: people have put it there."""
        return self.model.from_ is not None and self.model.from_.mlflow is not None


@dataclass(frozen=True, slots=True)
class Demand:
    """How many approvals a release needs, and of whom; of anybody if there are no `approvers`."""

    approvals: int = 0
    approvers: tuple[str, ...] = ()


NO_DEMAND = Demand()


@dataclass(frozen=True, slots=True)
class DeploymentResource:
    """A deployment on one target.

    `service` are the texts of the generated service's files by name, `settings` what its processes
    get: both are part of a release. `demand` is what it has to be approved by, and no part of it.
    """

    name: str
    target: str
    deployment: Deployment
    port: int
    service: Mapping[str, str]
    settings: Mapping[str, Any]
    files: tuple[str, ...]
    after: tuple[str, ...] = ()
    kind: str = "local"
    demand: Demand = NO_DEMAND
    reads: Dependency | None = None
    """The dataset that a batch scores."""
    converted: Mapping[str, str] = field(default_factory=dict)
    """Likewise of the service that answers with ONNX, if the model may be served so."""

    @property
    def address(self) -> str:
        return f"deployment.{self.name}@{self.target}"

    @property
    def place(self) -> Mapping[str, Any]:
        """What the spec says of a target that is not this machine; empty for this machine."""
        place: Mapping[str, Any] = self.settings.get(self.kind) or {}
        return place

    @property
    def is_here(self) -> bool:
        """Whether it is of the machine that applies, and no other one can look at it."""
        return self.kind in ("local", "compose", "image", "batch")

    @property
    def where(self) -> Mapping[str, Any] | None:
        """The same as the ledger keeps it, to find the deployment when it has left the spec; and
        `resources`, which each copy gets."""
        if not self.place:
            return None
        rest = {key: value for key, value in self.settings.items() if key != self.kind}
        return {"kind": self.kind, "port": rest.pop("port"), **self.place, "resources": rest}

    @property
    def champion(self) -> str | None:
        """The address of the deployment whose requests it gets, if it is that of a challenger."""
        if not isinstance(self.deployment, Challenging):
            return None
        return f"deployment.{self.deployment.champion}@{self.target}"

    @property
    def challenger(self) -> str | None:
        """The address of the deployment of its challenger, if it has one."""
        if self.deployment.challenger is None:
            return None
        return f"deployment.{challenger_name(self.name)}@{self.target}"

    @property
    def pinned(self) -> int | None:
        """The version that this target serves, whatever is newer; none if it is not pinned."""
        return self.deployment.pin.get(self.target)

    @property
    def smoke(self) -> tuple[Mapping[str, Any], ...]:
        """The rows that a release must answer before it gets traffic."""
        return tuple(smoke.input for smoke in self.deployment.smoke)

    @property
    def terms(self) -> Mapping[str, Any] | None:
        """Those of its rollout, as data; none if a release is taken into service at once."""
        rollout = self.deployment.rollout
        return None if rollout is None else rollout.model_dump(mode="json")


Resource = (
    FileResource
    | DatasetResource
    | StageResource
    | GateResource
    | ModelResource
    | DeploymentResource
)
Kind = TypeVar("Kind", bound=Resource)


@dataclass(frozen=True, slots=True)
class Desired:
    """Every resource of the spec, by address."""

    spec: Spec
    digest: str
    resources: Mapping[str, Resource]
    _serving: dict[str, list[DeploymentResource]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def deployments_of(self, model: str) -> tuple[DeploymentResource, ...]:
        """Where a model is served, the target that comes last first; not as a challenger."""
        if not self._serving:
            self._serving[""] = []  # so that this is done once even if nothing is deployed
            for resource in self.of(DeploymentResource):
                if resource.champion is not None:
                    continue
                self._serving.setdefault(resource.deployment.model, []).append(resource)
        found = self._serving.get(model, ())
        return tuple(sorted(found, key=lambda each: (-len(each.after), each.address)))

    def of(self, kind: type[Kind]) -> Iterator[Kind]:
        """The resources of one kind, by address."""
        return (resource for resource in self.resources.values() if isinstance(resource, kind))

    def get(self, kind: type[Kind], address: str) -> Kind:
        """The resource at `address`, which must be of this kind."""
        resource = self.resources[address]
        if not isinstance(resource, kind):
            raise TypeError(f"{address} is not a {kind.__name__}")
        return resource


def upstream(desired: Desired, model: str) -> tuple[str, ...]:
    """The model and all models whose outputs it reads, directly or not; sorted."""
    found, left = set[str](), [model]
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            for address in desired.get(ModelResource, f"model.{name}").stages:
                producers = desired.get(StageResource, address).producers
                stages = map(desired.resources.get, producers)
                left += (stage.model for stage in stages if isinstance(stage, StageResource))
    return tuple(sorted(found))


def around(desired: Desired, address: str) -> Iterator[Resource]:
    """What is at `address`, with its model, all that this reads, and their stages."""
    match desired.resources.get(address):
        case DeploymentResource(deployment=deployment, reads=reads):
            yield from _with_upstream(desired, deployment.model)
            if reads is not None and reads.producer is not None:
                yield desired.get(DatasetResource, reads.producer)
        case StageResource(model=name) | GateResource(model=name) | ModelResource(name=name):
            yield from _with_upstream(desired, name)
        case DatasetResource() as dataset:
            yield dataset


def _with_upstream(desired: Desired, model: str) -> Iterator[Resource]:
    producers: dict[str, None] = {}
    for name in upstream(desired, model):
        for address in desired.get(ModelResource, f"model.{name}").stages:
            stage = desired.get(StageResource, address)
            producers.update(dict.fromkeys(stage.producers))
            yield stage
    datasets = (desired.resources.get(producer) for producer in producers)
    yield from (each for each in datasets if isinstance(each, DatasetResource))


@dataclass(frozen=True, slots=True)
class ObservedFile:
    """A file where a generated one belongs; `ours` tells whether mlspec wrote it."""

    text: str
    ours: bool


@dataclass(frozen=True, slots=True)
class ObservedDataset:
    """The md5 of the data that are there, and of those that their `.dvc` file names."""

    md5: str | None
    recorded_md5: str | None


@dataclass(frozen=True, slots=True)
class ObservedStage:
    """A stage in the worktree: its entry in dvc.lock, and the md5 of each output that is there."""

    entry: Mapping[str, Any] | None
    outputs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ObservedDeployment:
    """What runs for a deployment, on this machine or where any machine can see it.

    `differs`: what of it is not as it was deployed: a field, what was deployed, what is there.
    `unseen`: why it could not be looked at, if it could not.
    """

    running: bool
    release: str | None = None
    differs: tuple[tuple[str, Any, Any], ...] = ()
    unseen: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What is there, by address; an address that is missing was not found."""

    files: dict[str, ObservedFile]
    datasets: dict[str, ObservedDataset]
    stages: dict[str, ObservedStage]
    deployments: dict[str, ObservedDeployment]
    place: str
    """Names this machine and checkout, as :class:`mlspec.ledger.records.Deployed` does."""
