"""Who needs whom, by address: the resources of a spec as selection sees them.

Made of what the spec declares; no file is looked at. Neighbours are found when they are asked for,
so that ten thousand models cost nothing until a question is about them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from typing import Protocol

from mlspec.compilers.batch import stage_path
from mlspec.compilers.bento import service_paths
from mlspec.compilers.card import card_path
from mlspec.compilers.dvc import compile_storage, params_path, pipeline_path
from mlspec.compilers.gitattributes import compile_gitattributes
from mlspec.compilers.github import compile_github
from mlspec.fingerprint import CONVERT
from mlspec.spec.models import Spec


class StageLike(Protocol):
    """What of a stage makes an edge."""

    @property
    def inputs(self) -> Collection[str]: ...
    @property
    def code(self) -> Collection[str]: ...
    @property
    def writes(self) -> Collection[str]: ...


class ModelLike(Protocol):
    """What of a model can be selected by."""

    @property
    def stages(self) -> Mapping[str, StageLike]: ...
    @property
    def gates(self) -> Collection[str]: ...
    @property
    def owner(self) -> str: ...
    @property
    def tags(self) -> Collection[str]: ...


class _Once(Mapping[str, ModelLike]):
    """A mapping that is asked for each value once: it may make them as they are asked for."""

    def __init__(self, source: Mapping[str, ModelLike]) -> None:
        self._source = source
        self._known: dict[str, ModelLike] = {}

    def __getitem__(self, name: str) -> ModelLike:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = self._source[name]
        return known

    def __contains__(self, name: object) -> bool:
        return name in self._source

    def __iter__(self) -> Iterator[str]:
        return iter(self._source)

    def __len__(self) -> int:
        return len(self._source)


class Graph:
    """Addresses of resources, and the edges between them.

    Files are not a part of any edge: each belongs to what it is generated from.
    """

    def __init__(
        self,
        spec: Spec,
        models: Mapping[str, ModelLike],
        find_matrices: Callable[[], Mapping[str, Sequence[str]]] = dict,
    ) -> None:
        """`models` are those of `spec`, or as much of each as is asked for here.

        `find_matrices` is asked for members by the model that they are written as, where a name is
        not known.
        """
        self.spec = spec
        self._find_matrices = find_matrices
        self.models = _Once(models)
        self._storage = tuple(f"file.{each.path}" for each in compile_storage(spec.storage))
        self._dataset_at = {dataset.path: name for name, dataset in spec.datasets.items()}

    def __contains__(self, address: str) -> bool:
        kind, _, rest = address.partition(".")
        name, _, inner = rest.partition(".")
        match kind:
            case "model":
                return rest in self.models
            case "stage":
                return name in self.models and inner in self.models[name].stages
            case "gate":
                return name in self.models and inner in self.models[name].gates
            case "dataset":
                return rest in self.spec.datasets
            case "deployment":
                name, _, target = rest.partition("@")
                deployment = self.spec.served.get(name)
                return deployment is not None and target in deployment.targets
        return address in self._files

    def unit(self, model: str) -> Iterator[str]:
        """A model with its stages and gates."""
        yield f"model.{model}"
        yield from self._stages(model)
        yield from self._gates(model)

    def served(self, deployment: str) -> Iterator[str]:
        """A deployment on each of its targets."""
        for target in self.spec.served[deployment].targets:
            yield f"deployment.{deployment}@{target}"

    def of(self, kind: str) -> Iterable[str]:
        """Every address of a kind."""
        match kind:
            case "model" | "dataset":
                names = self.models if kind == "model" else self.spec.datasets
                return (f"{kind}.{name}" for name in names)
            case "stage":
                return chain.from_iterable(map(self._stages, self.models))
            case "gate":
                return chain.from_iterable(map(self._gates, self.models))
            case "deployment":
                return chain.from_iterable(map(self.served, self.spec.served))
        return self._files

    def everything(self) -> Iterator[str]:
        """What all else comes with, and the files that come with nothing."""
        kinds = ("model", "stage", "gate", "dataset", "deployment")
        return chain(self._project_files, *map(self.of, kinds))

    def files(self, address: str) -> Iterable[str]:
        """The generated files that belong to a resource, or define it."""
        kind, _, rest = address.partition(".")
        match kind:
            case "dataset":
                return self._storage
            case "stage":
                model = rest.partition(".")[0]
                own = (f"file.{pipeline_path(model)}", f"file.{params_path(model)}")
                return (*own, *self._storage)
            case "model":
                return (f"file.{card_path(rest)}",)
            case "deployment":
                return self._service(rest.partition("@")[0])
        return ()

    def _service(self, name: str) -> Iterable[str]:
        """The files of the service of a deployment; it may have left the spec."""
        converted = sagemaker = False
        if (deployment := self.spec.served.get(name)) is not None:
            if deployment.batch is not None:
                return (f"file.{stage_path(name)}", *self._storage)
            converted = CONVERT in self.models[deployment.model].stages
            kinds = {self.spec.targets[each].kind for each in deployment.targets}
            sagemaker = "sagemaker" in kinds
        paths = service_paths(name, converted=converted, sagemaker=sagemaker)
        return (f"file.{path}" for path in paths)

    def upstream(self, address: str) -> Iterable[str]:
        """What a resource needs at once: the producers of what it reads, or what it is made of."""
        kind, _, rest = address.partition(".")
        match kind:
            case "stage":
                model, _, stage = rest.partition(".")
                return self._read(self.models[model].stages[stage])
            case "gate":
                return self._stages(rest.partition(".")[0])
            case "model":
                return (*self._stages(rest), *self._gates(rest))
            case "deployment":
                name, _, target = rest.partition("@")
                deployment = self.spec.served[name]
                read = () if deployment.batch is None else (f"dataset.{deployment.batch.input}",)
                return (f"model.{deployment.model}", *read, *self.spec.earlier(name, target))
        return ()

    def downstream(self, address: str) -> Iterable[str]:
        """What needs a resource at once."""
        kind, _, rest = address.partition(".")
        readers = self._readers.get(address, ())
        match kind:
            case "stage":
                model = rest.partition(".")[0]
                return (*readers, *self._gates(model), f"model.{model}")
            case "gate":
                return (f"model.{rest.partition('.')[0]}",)
        return readers

    def labelled(self, key: str) -> Mapping[str, list[str]]:
        """The addresses of each owner, or with each tag."""
        return self._owned if key == "owner" else self._tagged

    def _stages(self, model: str) -> Iterator[str]:
        return (f"stage.{model}.{stage}" for stage in self.models[model].stages)

    def _gates(self, model: str) -> Iterator[str]:
        return (f"gate.{model}.{gate}" for gate in self.models[model].gates)

    def _read(self, stage: StageLike) -> Iterator[str]:
        """Datasets by name or path, and stages by what they write."""
        datasets, at, writers = self.spec.datasets, self._dataset_at, self._writers
        for given in stage.inputs:
            if given in datasets:
                yield f"dataset.{given}"
            elif given in at:
                yield f"dataset.{at[given]}"
            elif given in writers:
                yield writers[given]
        for given in (*stage.code, self.spec.python.requirements):
            if given in writers:
                yield writers[given]

    @cached_property
    def matrices(self) -> Mapping[str, Sequence[str]]:
        """Of each model that is written with a `matrix`, those that it stands for."""
        return self._find_matrices()

    @cached_property
    def _writers(self) -> dict[str, str]:
        """The stage that writes a path."""
        return {
            path: f"stage.{name}.{stage_name}"
            for name, model in self.models.items()
            for stage_name, stage in model.stages.items()
            for path in stage.writes
        }

    @cached_property
    def _readers(self) -> dict[str, list[str]]:
        """The stages that read from a stage or a dataset; the deployments after a model or one."""
        found: dict[str, list[str]] = {}
        for address in chain(self.of("stage"), self.of("deployment")):
            for needed in self.upstream(address):
                found.setdefault(needed, []).append(address)
        return found

    @cached_property
    def _project_files(self) -> tuple[str, ...]:
        """Those that belong to no resource of another kind."""
        whole = (compile_gitattributes(), *compile_github(self.spec))
        return (*self._storage, *(f"file.{each.path}" for each in whole))

    @cached_property
    def _files(self) -> dict[str, None]:
        kinds = ("stage", "model", "deployment")
        owned = (file for kind in kinds for each in self.of(kind) for file in self.files(each))
        return dict.fromkeys(chain(self._project_files, owned))

    @cached_property
    def _owned(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for owner, _, addresses in self._labels():
            if owner:
                found.setdefault(owner, []).extend(addresses)
        return found

    @cached_property
    def _tagged(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for _, tags, addresses in self._labels():
            for tag in tags:
                found.setdefault(tag, []).extend(addresses)
        return found

    def _labels(self) -> Iterator[tuple[str, Collection[str], Collection[str]]]:
        """Owner, tags and addresses of everything that may have them."""
        for name, model in self.models.items():
            if model.owner or model.tags:
                yield model.owner, model.tags, tuple(self.unit(name))
        for name, dataset in self.spec.datasets.items():
            yield dataset.owner, dataset.tags, (f"dataset.{name}",)
        for name, deployment in self.spec.served.items():
            yield deployment.owner, deployment.tags, tuple(self.served(name))
