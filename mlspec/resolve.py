"""From a spec to the desired state: every resource, with what it is made of.

Comes in: a :class:`~mlspec.spec.models.Spec` and the files of the repository, read through a
:class:`~mlspec.worktree.Worktree`. Goes out: :class:`~mlspec.resources.Desired`. The compilers run
here, for generated files are resources like the others. Needs no data: what is not in the worktree
counts as last recorded.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlspec.compilers.batch import compile_batch
from mlspec.compilers.bento import TREES, compile_bento
from mlspec.compilers.card import compile_card
from mlspec.compilers.containerfile import base_image
from mlspec.compilers.dvc import (
    compile_pipeline,
    compile_storage,
    params_path,
    stage_command,
    stage_params,
    stage_paths,
)
from mlspec.compilers.generated import GeneratedFile
from mlspec.compilers.gitattributes import compile_gitattributes, merge_block
from mlspec.compilers.github import compile_github
from mlspec.errors import Diagnostic, SpecError
from mlspec.imports import trace_class, trace_code
from mlspec.resources import (
    DatasetResource,
    Demand,
    Dependency,
    DependencyKind,
    DeploymentResource,
    Desired,
    FileResource,
    GateResource,
    ModelResource,
    Resource,
    StageResource,
)
from mlspec.spec.flows import Flows
from mlspec.spec.load import Loaded
from mlspec.spec.models import (
    AUTH_KEYS,
    TARGET_KEYS,
    Batch,
    Challenging,
    Convert,
    Dataset,
    Deployment,
    Model,
    Own,
    Spec,
    Stage,
    Target,
)
from mlspec.spec.moves import Renames, renames_of
from mlspec.spec.paths import parents
from mlspec.spec.repeated import Repeated
from mlspec.worktree import Worktree

MOST_BYTES_IN_GIT = 10 * 1024 * 1024
"""Data of a team's own that are new and larger are kept in storage, not in Git."""

MOST_ALIKE = 10
"""Problems of one code that are told, with their places; more are counted."""

BLOCKS = (".gitattributes",)
"""Files that people own and mlspec keeps a block of."""

_SCRIPT = re.compile(
    r"(?:^|[\s/])python[0-9.]*(?:\s+-[a-zA-Z]+)*\s+([A-Za-z0-9_][\w./-]*\.py)(?=\s|$)"
)
_PIN = re.compile(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?\s*==\s*([A-Za-z0-9.+!_-]+)")
_FOLDER = re.compile(r"cd ([A-Za-z0-9_][\w./-]*) && ")


@dataclass(frozen=True, slots=True)
class GitFiles:
    """What resolving asks Git: which datasets it tracks, and which it ignores."""

    tracked: frozenset[str] = frozenset()
    ignored: frozenset[str] = frozenset()


def resolve(loaded: Loaded, worktree: Worktree, git_files: GitFiles) -> Desired:
    """The whole desired state; raises :class:`SpecError` when files that it names are missing."""
    return Resolver(loaded, worktree, git_files).all()


class Resolver:
    """Resolves a spec part by part; what is wrong is collected in `problems`."""

    def __init__(self, loaded: Loaded, worktree: Worktree, git_files: GitFiles) -> None:
        self.loaded = loaded
        self.spec: Spec = loaded.spec
        self.worktree = worktree
        self.git_files = git_files
        self._problems = Repeated(MOST_ALIKE, "others")
        self.dataset_paths = {d.path: name for name, d in self.spec.datasets.items()}
        self.storage = tuple(f"file.{g.path}" for g in compile_storage(self.spec.storage))

    @property
    def problems(self) -> list[Diagnostic]:
        return self._problems.told

    @cached_property
    def renames(self) -> Renames:
        """What the spec says was renamed."""
        return renames_of(self.spec.moved)

    @property
    def requirements(self) -> str | None:
        """The file of packages, if there is one; looked at anew, so that every watch has it."""
        path = self.spec.python.requirements
        return path if self.worktree.exists(path) else None

    @cached_property
    def flows(self) -> Flows:
        """Who writes a path, and who reads what another model writes."""
        return self.loaded.find_flows()

    @property
    def producers(self) -> Mapping[str, str]:
        """The address of the stage that writes a path."""
        return self.flows.producers

    def producer(self, path: str) -> str:
        """The address of what an input comes from; none of a file that people write."""
        if path in self.dataset_paths:
            return f"dataset.{self.dataset_paths[path]}"
        return self.producers.get(path, "")

    @cached_property
    def data(self) -> Set[str]:
        """Dependencies only when a stage names them as inputs; params go by their values."""
        paths = ("pipelines", *self.producers, *self.dataset_paths)
        return frozenset(map(posixpath.normpath, paths))

    @cached_property
    def deployed(self) -> Mapping[str, Mapping[str, Deployment]]:
        """The deployments of each model that has any."""
        found: dict[str, dict[str, Deployment]] = {}
        for name, deployment in self.spec.served.items():
            found.setdefault(deployment.model, {})[name] = deployment
        return found

    def all(self) -> Desired:
        """Everything that the spec asks for; raises as :meth:`desired`."""
        models = (resource for name in self.spec.models for resource in self.model(name))
        return self.desired((*self.project(), *models, *self.deployments()))

    def desired(self, resources: Iterable[Resource]) -> Desired:
        """These resources; raises :class:`SpecError` if anything is wrong with one of them."""
        if self.problems:
            raise SpecError(self.problems)
        by_address = {resource.address: resource for resource in resources}
        return Desired(self.spec, self.loaded.digest, dict(sorted(by_address.items())))

    def project(self) -> Iterator[Resource]:
        """What belongs to no model: the project's files, and datasets."""
        yield from map(FileResource, self.project_files())
        for name in self.spec.datasets:
            yield self.dataset(name)

    def project_files(self) -> Iterator[GeneratedFile]:
        yield from compile_storage(self.spec.storage)
        block = compile_gitattributes()
        text = merge_block(self.worktree.read_text(block.path) or "", block.text)
        yield GeneratedFile(block.path, text, block.owner, block.consequence)
        yield from compile_github(self.spec)

    def dataset(self, name: str) -> DatasetResource:
        dataset = self.spec.datasets[name]
        seen = self.worktree.digest(dataset.path)
        recorded = self.worktree.recorded_digest(dataset.path)
        in_git = dataset.path in self.git_files.tracked or (
            recorded is None
            and dataset.path not in self.git_files.ignored
            and seen is not None
            and seen.size <= MOST_BYTES_IN_GIT
        )
        if seen is None and recorded is None and dataset.source is None:
            self.problem(
                "MLS601",
                f"{dataset.path} does not exist",
                f"dataset.{name}",
                "path",
                "put the data there, or say where they come from: source: {url: ...}",
            )
        return DatasetResource(name, dataset, in_git, self.storage)

    def model(self, name: str) -> Iterator[Resource]:
        """A model with its stages, its gates and its generated files."""
        model = self.spec.models[name]
        joined = {
            stage_name: stage.model_copy(update={"command": command})
            for stage_name, stage in model.stages.items()
            if (command := self.command(stage)) != stage.command
        }
        if joined:
            model = model.model_copy(update={"stages": {**model.stages, **joined}})
        for stage_name, stage in model.stages.items():
            for given in stage.code:
                if not self.worktree.exists(given):
                    self.problem(
                        "MLS603",
                        f"code {given} does not exist",
                        f"stage.{name}.{stage_name}",
                        "code",
                        "name a file or a folder of the repository",
                    )
        for stage_name, stage in model.stages.items():
            for script in _scripts(stage.command):
                if not self.worktree.exists(script) and script not in self.producers:
                    self.problem(
                        "MLS605",
                        f"the command runs {script}, which does not exist",
                        f"stage.{name}.{stage_name}",
                        "command",
                        "write the script, or mend its name",
                    )
        code = {
            stage_name: trace_code(stage.command, self.worktree, stage.code, self.data)
            for stage_name, stage in model.stages.items()
        }
        for stage_name, paths in code.items():
            self.check_code(f"stage.{name}.{stage_name}", paths)
        self.check_taken(name, model)
        self.check_serving(name, model)
        requirements = self.requirements
        pipeline = compile_pipeline(
            name,
            model,
            python=self.spec.python,
            datasets=self.spec.datasets,
            code=code,
            requirements=requirements,
        )
        yield from map(FileResource, pipeline)
        read = self.datasets_of(model)
        yield FileResource(compile_card(name, model, read, self.deployed.get(name, {})))
        files = tuple(sorted({*(f"file.{g.path}" for g in pipeline), *self.storage}))
        for stage_name, stage in model.stages.items():
            yield StageResource(
                model=name,
                name=stage_name,
                stage=stage,
                dependencies=tuple(
                    self.dependencies(name, stage_name, stage, code[stage_name], requirements)
                ),
                params={params_path(name): stage_params(self.spec.python, stage_name, stage)},
                command=stage_command(stage),
                writes=stage_paths(stage, datasets=self.spec.datasets).writes,
                files=files,
                former=self.renames.former_names("model", name),
            )
        for gate_name, gate in model.gates.items():
            yield GateResource(name, gate_name, gate)
        yield ModelResource(
            name,
            model,
            stages=tuple(f"stage.{name}.{stage}" for stage in sorted(model.stages)),
            gates=tuple(f"gate.{name}.{gate}" for gate in sorted(model.gates)),
            files=self.storage if model.from_ is not None and model.from_.mlflow else (),
            code=tuple(self.serving_code(model)),
            training=self.training(model),
        )

    def command(self, stage: Stage) -> str:
        """The command as DVC gets it, with the place of a sample that is a dataset."""
        if isinstance(stage, Convert):
            dataset = self.spec.datasets.get(stage.inputs[1])
            stage = stage.reading(dataset.path if dataset else stage.inputs[1])
        return stage_command(stage)

    def training(self, model: Model) -> str:
        """Where the data are that a model's signature is inferred from, if it is."""
        if model.artifact is None or model.artifact.signature is None:
            return ""
        given = model.artifact.signature.from_
        dataset = self.spec.datasets.get(given)
        return dataset.path if dataset else given

    def serving_code(self, model: Model) -> dict[str, str]:
        """The md5 of each file of the class that answers for a model, by its path."""
        artifact = model.artifact
        if artifact is None or artifact.class_ is None:
            return {}
        paths = trace_class(artifact.class_, self.worktree, artifact.code)
        found = {path: self.worktree.digest(path) for path in paths}
        return {path: digest.md5 for path, digest in found.items() if digest is not None}

    def check_serving(self, name: str, model: Model) -> None:
        """The class that answers is one of the repository, and so is what it names beside."""
        artifact = model.artifact
        if artifact is None or artifact.class_ is None:
            return
        if not trace_class(artifact.class_, self.worktree):
            self.problem(
                "MLS607",
                f"the module {artifact.class_.partition(':')[0]} is not in this repository",
                f"model.{name}",
                "artifact.class",
                "write it, or mend its name; it is looked for from the top and from src",
            )
        for given in artifact.code:
            if not self.worktree.exists(given):
                self.problem(
                    "MLS603",
                    f"code {given} does not exist",
                    f"model.{name}",
                    "artifact.code",
                    "name a file or a folder of the repository",
                )

    def check_taken(self, name: str, model: Model) -> None:
        """An artifact that others made is the one that the spec names, or in storage."""
        if model.from_ is None or model.from_.mlflow is None or model.artifact is None:
            return
        path, digest = model.artifact.path, model.from_.digest
        sha256 = self.worktree.sha256(path)
        kept = self.worktree.exists(f"{path}.dvc")
        if sha256 is None and not kept:
            self.problem(
                "MLS606",
                f"{path} does not exist",
                f"model.{name}",
                "artifact.path",
                "`mlspec adopt --from-mlflow` brings it, or put it there yourself",
            )
        elif sha256 is not None and f"sha256:{sha256}" != digest:
            back = f"`dvc checkout {path}.dvc` brings it back; if" if kept else "if"
            self.problem(
                "MLS606",
                f"{path} is not the file that was taken: it is sha256:{sha256}",
                f"model.{name}",
                "from.digest",
                f"{back} it is meant, say so: `digest: sha256:{sha256}`, with its source",
            )

    def datasets_of(self, model: Model) -> dict[str, Dataset]:
        """The datasets that the model's stages read, by name or by path."""
        given = (given for stage in model.stages.values() for given in stage.inputs)
        named = (self.dataset_paths.get(each, each) for each in given)
        return {name: self.spec.datasets[name] for name in named if name in self.spec.datasets}

    def check_code(self, address: str, code: tuple[str, ...]) -> None:
        """Code that a stage wrote is known by the whole output, so it cannot be a part of one."""
        for path in code:
            folder = next((parent for parent in parents(path) if parent in self.producers), None)
            if folder is not None or self.producers.get(path) == address:
                maker = self.producers[folder or path]
                self.problem(
                    "MLS604",
                    f"{path} is code, and {maker} writes {folder or 'it'}",
                    address,
                    "command",
                    "keep code in a folder that no stage writes",
                )

    def dependencies(
        self,
        model: str,
        name: str,
        stage: Stage,
        code: tuple[str, ...],
        requirements: str | None,
    ) -> Iterator[Dependency]:
        found: dict[str, Dependency] = {}
        for given in stage.inputs:
            dataset = self.spec.datasets.get(given)
            path = dataset.path if dataset else given
            found.setdefault(path, self.input(path, f"stage.{model}.{name}", given))
        for path in code:
            found.setdefault(path, self.known(path, DependencyKind.CODE))
        if requirements is not None and not isinstance(stage, Own):
            known = self.known(requirements, DependencyKind.REQUIREMENTS)
            found.setdefault(requirements, known)
        yield from (found[path] for path in sorted(found))

    def input(self, path: str, address: str, given: str) -> Dependency:
        producer = self.producer(path)
        if producer:
            is_dataset = path in self.dataset_paths
            kind = DependencyKind.DATASET if is_dataset else DependencyKind.INPUT
            return Dependency(path, kind, producer=producer)
        seen = self.worktree.digest(path) or self.worktree.recorded_digest(path)
        if seen is None:
            self.problem(
                "MLS602",
                f"input {given} does not exist, and no stage writes it",
                address,
                "inputs",
                "name a dataset, a file of the repository or an output of a stage",
            )
        return Dependency(path, DependencyKind.INPUT, seen.md5 if seen else "")

    def known(self, path: str, kind: DependencyKind) -> Dependency:
        if path in self.producers:
            return Dependency(path, kind, producer=self.producers[path])
        seen = self.worktree.digest(path)
        return Dependency(path, kind, seen.md5 if seen else "")

    def deployments(self) -> Iterator[Resource]:
        """Deployments, and the files of their services."""
        pins = self.pins()
        for name, deployment in self.spec.served.items():
            model = self.spec.models[deployment.model]
            if isinstance(deployment, Challenging):
                # it gets the rows of its champion's clients
                champion = self.spec.models[self.spec.deployments[deployment.champion].model]
                sensitive = (*model.sensitive, *champion.sensitive)
                model = model.model_copy(update={"sensitive": sensitive})
            if deployment.batch is not None:
                yield from self.batch(name, deployment, deployment.batch)
                continue
            sagemaker = any(
                self.spec.targets[each].kind == "sagemaker" for each in deployment.targets
            )
            files = compile_bento(
                name, deployment, deployment.model, model, pins, sagemaker=sagemaker
            )
            converted: tuple[GeneratedFile, ...] = ()
            if model.serve.runtime != "native":
                converted = compile_bento(
                    name,
                    deployment,
                    deployment.model,
                    model,
                    pins,
                    converted=True,
                    sagemaker=sagemaker,
                )
            yield from map(FileResource, (*files, *converted))
            code = self.serving_code(model) | self.background(name, deployment, model)
            for target_name in deployment.targets:
                target = self.spec.targets[target_name]
                # on a machine, the port is the champion's
                inner = isinstance(deployment, Challenging) and target.kind != "kubernetes"
                port = 0 if inner else target.port
                self.check_passing(name, deployment, model, target)
                yield DeploymentResource(
                    name=name,
                    target=target_name,
                    deployment=deployment,
                    port=port,
                    service={g.path.rpartition("/")[2]: g.text for g in files},
                    converted={g.path.rpartition("/")[2]: g.text for g in converted},
                    settings={
                        **deployment.resources.model_dump(mode="json", exclude={"replicas"}),
                        **self.place(deployment, target),
                        "port": port,
                        "capture": deployment.capture and deployment.capture.model_dump(),
                        **({"code": code} if code else {}),
                        **self.auth(deployment, target),
                        **_together(deployment),
                    },
                    files=tuple(f"file.{each.path}" for each in (*files, *converted)),
                    after=tuple(self.spec.earlier(name, target_name)),
                    kind=target.kind,
                    demand=Demand(
                        target.approvals, self.spec.policy.approvers.get(target_name, ())
                    ),
                )

    def background(self, name: str, deployment: Deployment, model: Model) -> dict[str, str]:
        """The md5 of the rows that predictions are explained by, by their path."""
        explain, artifact = deployment.explain, model.artifact
        if explain is None or artifact is None:
            return {}
        address, field = f"deployment.{name}", "explain.method"
        if artifact.passes is not None:
            said = "a model that answers elsewhere is not asked over and over to explain one answer"
            self.problem("MLS608", said, address, field, "remove `explain`")
            return {}
        if explain.method == "shap":
            hint = "write `method: permutation`, with `background`"
            if artifact.format not in TREES:
                said = f"a model of format {artifact.format} has no trees to ask"
                self.problem("MLS608", f"`shap` explains trees; {said}", address, field, hint)
            elif model.serve.runtime != "native":
                said = "as ONNX a model tells nothing of its trees"
                self.problem("MLS608", f"`shap` explains trees; {said}", address, field, hint)
            return {}
        path = explain.background or ""
        seen = self.worktree.digest(path) if not path or path not in self.producers else None
        if seen is None:
            made = path in self.producers
            said = f"{self.producers[path]} writes it" if made else "it does not exist"
            hint = "name a CSV file that is in Git" if made else "write it, or mend its path"
            self.problem("MLS608", f"{path}: {said}", address, "explain.background", hint)
            return {}
        return {path: seen.md5}

    def batch(self, name: str, deployment: Deployment, batch: Batch) -> Iterator[Resource]:
        """A deployment that scores, and its stage. Its resources do not change what it writes."""
        dataset = self.spec.datasets[batch.input]
        generated = compile_batch(name, deployment, dataset)
        yield FileResource(generated)
        code = self.serving_code(self.spec.models[deployment.model])
        place = {"project": self.spec.project, "input": dataset.path, "output": batch.output}
        for target_name in deployment.targets:
            target = self.spec.targets[target_name]
            yield DeploymentResource(
                name=name,
                target=target_name,
                deployment=deployment,
                port=target.port,
                service={},
                settings={
                    "batch": {**place, "id": batch.id},
                    "port": target.port,
                    **({"code": code} if code else {}),
                },
                files=(f"file.{generated.path}", *self.storage),
                after=tuple(self.spec.earlier(name, target_name)),
                kind=target.kind,
                demand=Demand(target.approvals, self.spec.policy.approvers.get(target_name, ())),
                reads=Dependency(
                    dataset.path, DependencyKind.DATASET, producer=f"dataset.{batch.input}"
                ),
            )

    def auth(self, deployment: Deployment, target: Target) -> Mapping[str, Any]:
        """Where a release finds the tokens of its clients."""
        key = AUTH_KEYS.get(target.kind)
        if deployment.auth is None or key is None:
            return {}
        return {"auth": {key: getattr(deployment.auth, key)}}

    def check_passing(
        self, name: str, deployment: Deployment, model: Model, target: Target
    ) -> None:
        """A service that passes requests on may call others."""
        if model.artifact is None or model.artifact.passes is None:
            return
        closed = "network" in TARGET_KEYS[target.kind] and not target.network.outgoing
        if closed or target.kind == "sagemaker":
            self.problem(
                "MLS609",
                f"model.{deployment.model} answers elsewhere, and services of this target may not "
                "call others",
                f"deployment.{name}",
                "targets",
                "let them: `network: {outgoing: true}` of the target"
                if closed
                else "take the target away: services on SageMaker reach no network",
            )

    def place(self, deployment: Deployment, target: Target) -> Mapping[str, Any]:
        """What a release on a target beside this machine is made with."""
        if target.kind == "local":
            return {}
        python, replicas = self.spec.python, deployment.resources.replicas
        place = target.model_dump(mode="json", include=set(TARGET_KEYS[target.kind]))
        if place.get("tls", ...) is None:  # without it a release is the same as ever
            del place["tls"]
        if target.kind == "ssh":
            version = ".".join(python.version.split(".")[:2])
            place |= {"python": target.python or f"python{version}", "version": version}
            return {"ssh": {**place, "project": self.spec.project}}
        return {
            "replicas": replicas and replicas.model_dump(mode="json"),
            target.kind: {
                **place,
                "base": base_image(python.image, python.version),
                "project": self.spec.project,
            },
        }

    def pins(self) -> Mapping[str, str]:
        """Package to version, of what the requirements file pins."""
        if self.requirements is None:
            return {}
        text = self.worktree.read_text(self.requirements) or ""
        found = (_PIN.match(line) for line in text.splitlines())
        return {m[1].lower().replace("_", "-"): m[2] for m in found if m}

    def problem(self, code: str, message: str, address: str, field: str, hint: str) -> None:
        if self._problems.is_new((code, message), code):
            place = self.loaded.place(address)
            self.problems.append(Diagnostic(code, message, address, field, place, hint))


def _together(deployment: Deployment) -> dict[str, Any]:
    """What a release of a champion is told of its challenger, and the other way round."""
    if isinstance(deployment, Challenging):
        return {"challenges": deployment.champion}
    return {} if deployment.challenger is None else {"challenger": deployment.challenger.part}


def _scripts(command: str) -> Iterator[str]:
    """The scripts that Python is given, by their paths from the root."""
    for line in command.splitlines():
        folder = _FOLDER.match(line)
        for script in _SCRIPT.findall(line):
            yield posixpath.normpath(posixpath.join(folder[1], script)) if folder else script
