"""From a DVC repository to a spec. Comes in: a :class:`Repository` and its files.

Goes out: an :class:`Adoption`: the spec as plain data, what each stage of it was before, and what
could not be taken over. Writes nothing.

A dvc.yaml becomes a model. Params become inputs of the stage, as the whole file, for that is what
its code reads; only where no code names the file they become `params`. A stage that is frozen while
what it reads has changed would run: what it wrote becomes data.
"""

from __future__ import annotations

import json
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mlspec.adoption.names import make_name
from mlspec.adoption.repository import (
    MD5,
    Data,
    Known,
    OldStage,
    Out,
    Params,
    Place,
    Repository,
)
from mlspec.adoption.stages import as_input, command_of, find_obstacle, why_stale
from mlspec.compilers.yaml_text import Noted
from mlspec.errors import MlspecError
from mlspec.imports import trace_code
from mlspec.metrics import parse_metrics
from mlspec.spec.checks import values as value_checks
from mlspec.spec.checks.disk import Disk
from mlspec.spec.models import Spec
from mlspec.spec.paths import parents
from mlspec.worktree import Worktree

FORMATS = {".onnx": "onnx", ".skops": "skops"}
NO_REQUIREMENTS = "requirements.mlspec.txt"
"""Named where the usual file is none that mlspec reads; there is no such file."""


@dataclass(frozen=True, slots=True)
class Note:
    """What could not be taken over as it was, where that stands, and what to do."""

    place: Place
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Taken:
    """A stage that was taken over; `stale` says why it has to run, empty if it need not."""

    model: str
    name: str
    old: OldStage
    stale: str

    @property
    def address(self) -> str:
        return f"stage.{self.model}.{self.name}"


@dataclass(frozen=True, slots=True)
class TakenData:
    """A dataset; `source` is as the spec has it."""

    name: str
    known: Known
    source: Mapping[str, str] | None


@dataclass(slots=True)
class Adoption:
    """What comes of a repository. `contents`: the digest of all that was added or made, by path."""

    spec: dict[str, Any] = field(default_factory=dict)
    stages: list[Taken] = field(default_factory=list)
    data: list[TakenData] = field(default_factory=list)
    data_files: dict[str, str] = field(default_factory=dict)
    """`.dvc` files to write, by path."""
    left: list[OldStage] = field(default_factory=list)
    """Stages that were not taken over."""
    notes: list[Note] = field(default_factory=list)
    contents: dict[str, Known] = field(default_factory=dict)

    def say(self, place: Place, message: str, hint: str) -> None:
        self.notes.append(Note(place, message, hint))


def convert(old: Repository, tree: Worktree) -> Adoption:
    """The spec of a repository, and all that has to be known to carry its runs over."""
    return _Conversion(old, tree).run()


class _Conversion:
    def __init__(self, old: Repository, tree: Worktree) -> None:
        self.old = old
        self.tree = tree
        self.made = Adoption()
        self.datasets: dict[str, str] = {}
        """Name by path."""
        self.project = make_name(tree.root.name, (), otherwise="project")

    def run(self) -> Adoption:
        stages = self._usable(self.old.stages)
        for data in self.old.data:
            self._data(data)
        outs = [out.known for stage in stages for out in stage.outs]
        self.made.contents |= {known.path: known for known in outs}
        frozen = [stage for stage in stages if stage.frozen and self._stale(stage)]
        for stage in frozen:
            self._freeze(stage)
        models = self._models([stage for stage in stages if stage not in frozen])
        for artifact in self.old.artifacts:
            self._artifact(artifact.place, artifact.path, models)
        for extra in self.old.extras:
            message = f"`{extra.section}` is not taken over: a spec has no word for it"
            hint = "keep that section in the file and delete the others; DVC still reads it"
            self.made.say(extra.place, message, hint)
        self.made.spec |= self._head()
        if self.made.data:
            self.made.spec["datasets"] = {
                each.name: self._dataset(each) for each in sorted(self.made.data, key=_by_name)
            }
        if models:
            self.made.spec["models"] = models
        return self.made

    # what can be taken over ---------------------------------------------------------------------

    def _usable(self, stages: Iterable[OldStage]) -> list[OldStage]:
        """The stages that a spec can say; the others stay where they are."""
        usable = []
        for stage in stages:
            if found := find_obstacle(stage, self.tree, self._all_outs):
                message, hint = found
                self.made.left.append(stage)
                self.made.say(stage.place, f"{stage.title} is not taken over: {message}", hint)
            else:
                usable.append(stage)
        return usable

    @cached_property
    def _all_outs(self) -> set[str]:
        stages = {out.path for stage in self.old.stages for out in stage.outs}
        return stages | {out.path for data in self.old.data for out in data.outs}

    # data ---------------------------------------------------------------------------------------

    def _data(self, data: Data) -> None:
        where = data.place.file
        out = data.outs[0] if len(data.outs) == 1 else None
        if out is None or f"{out.path}.dvc" != where:
            message = "this file is not the one that `dvc add` gives its data"
            hint = "`dvc remove` it and `dvc add` each file of it, then adopt again"
            self.made.say(data.place, message, hint)
            return
        if not out.known.md5 or out.known.kind != MD5 or not out.cache:
            message = f"DVC has no digest of {out.path} that mlspec reads"
            hint = f"run `dvc pull {where}`, then `dvc add {out.path}`"
            self.made.say(data.place, message, hint)
            return
        source = data.source
        if source and (data.special or (problem := _source_problem(out.path, source))):
            special = f"it is imported with {', '.join(data.special)}"
            why = special if data.special else problem
            message = f"where {out.path} comes from is not taken over: {why}"
            hint = "the data stay as they are; `dvc update` brings newer ones"
            self.made.say(data.place, message, hint)
            source = None
        self._add_data(out.known, source)

    def _add_data(self, known: Known, source: Mapping[str, str] | None) -> None:
        taken = self.datasets.values()
        stem = posixpath.basename(known.path).partition(".")[0]
        name = make_name(stem, taken, otherwise="data")
        if name != make_name(stem, (), otherwise="data") or self.tree.exists(name):
            name = make_name(posixpath.splitext(known.path)[0], taken, otherwise="data")
        self.datasets[known.path] = name
        self.made.contents[known.path] = known
        self.made.data.append(TakenData(name, known, source))

    def _dataset(self, data: TakenData) -> dict[str, Any]:
        body: dict[str, Any] = {"path": data.known.path}
        return {**body, "source": dict(data.source)} if data.source else body

    def _freeze(self, stage: OldStage) -> None:
        """What a frozen stage wrote, as data of the team's own."""
        written = [out for out in stage.outs if out.known.md5 and out.cache]
        for out in written:
            self._add_data(out.known, None)
            self.made.data_files[f"{out.path}.dvc"] = _data_file(out.known)
        for out in set(stage.outs) - set(written):
            del self.made.contents[out.path]
        self.made.say(
            stage.place,
            f"{stage.title} is frozen and {self._stale(stage)}: what it wrote is data from now on",
            f"to run it again, make it a stage of the spec: command: {command_of(stage)}",
        )

    # stages -------------------------------------------------------------------------------------

    def _models(self, stages: Iterable[OldStage]) -> dict[str, Any]:
        """The models by name; each has the stages of one file or folder."""
        models: dict[str, Any] = {}
        names: dict[str, str] = {}
        measured: dict[str, dict[str, str]] = {}
        for stage in stages:
            folder = posixpath.dirname(stage.place.file)
            if folder not in names:
                there = {path.name for path in (self.tree.root / "pipelines").glob("*")}
                wanted = folder or self.project
                names[folder] = make_name(wanted, {*there, *models}, otherwise="model")
                models[names[folder]] = {"stages": {}}
            model = names[folder]
            into = models[model]["stages"]
            stem = posixpath.basename(stage.place.file).partition(".")[0]
            name = make_name(stage.name or stem, into, otherwise="stage")
            origin = f"{stage.name} of {stage.place}" if stage.name != name else str(stage.place)
            body = self._stage(stage, measured.setdefault(model, {}))
            into[name] = Noted(body, origin.strip())
            self.made.stages.append(Taken(model, name, stage, self._stale(stage)))
        return models

    def _stage(self, stage: OldStage, measured: dict[str, str]) -> dict[str, Any]:
        """The stage as a spec has it. `measured`: by metric, who measures it in the same model."""
        command = command_of(stage)
        traced = set(trace_code(command, self.tree, (), self._data_paths))
        inputs: dict[str, None] = {}
        code: dict[str, None] = {}
        params: dict[str, Any] = {}
        for dep in stage.deps:
            self._dep(stage, dep.path, traced, inputs, code)
        for each in stage.params:
            if each.path in self.made.contents or self._is_read(each, stage, traced):
                self._dep(stage, each.path, traced, inputs, code)
            else:
                self._merge(params, each)
        metrics = self._metrics(stage, measured)
        outputs = [out.path for out in stage.outs if out.path != metrics]
        for out in stage.outs:
            self._about(stage, out)
        if stage.always:
            message = f"{stage.title} always runs; a spec runs a stage when what it reads changes"
            self.made.say(stage.place, message, "name what it depends on as `inputs`")
        if stage.frozen:
            message = f"{stage.title} is frozen; a spec has no word for that"
            self.made.say(stage.place, message, "it runs when what it reads changes")
        body: dict[str, Any] = {"command": command, "inputs": list(inputs), "code": list(code)}
        body |= {"params": params, "outputs": outputs, "metrics": metrics}
        return {key: value for key, value in body.items() if value}

    def _dep(
        self,
        stage: OldStage,
        path: str,
        traced: set[str],
        inputs: dict[str, None],
        code: dict[str, None],
    ) -> None:
        """Have the stage read `path`: by what it is, or by whom it belongs to."""
        known = self.made.contents
        if path in self.datasets:
            inputs[self.datasets[path]] = None
        elif path in known:
            inputs[as_input(path)] = None
        elif owner := next((parent for parent in parents(path) if parent in known), None):
            self._dep(stage, owner, traced, inputs, code)
        elif inner := [owned for owned in known if owned.startswith(f"{path}/")]:
            for owned in sorted(inner):
                self._dep(stage, owned, traced, inputs, code)
            message = f"{stage.title} reads the folder {path}, which holds what others write"
            hint = "only these are its inputs; name what else in it it reads"
            self.made.say(stage.place, message, hint)
        elif path in traced or path == self._requirements:
            pass
        elif path.endswith((".py", ".sh")) or self._holds_code(path):
            code[path] = None
        else:
            inputs[as_input(path)] = None

    def _holds_code(self, path: str) -> bool:
        return self.tree.is_folder(path) and any(
            file.endswith(".py") for file in self.tree.files_below(path)
        )

    def _is_read(self, params: Params, stage: OldStage, traced: Iterable[str]) -> bool:
        """Whether code may read the file: only where all code is known and none says so."""
        stem = posixpath.basename(params.path).partition(".")[0]
        code = [path for path in traced if path.endswith((".py", ".sh"))]
        texts = [self.tree.read_bytes(path) or b"" for path in code]
        found = rb"\b" + re.escape(stem.encode()) + rb"\b|params_show|dvclive"
        return not code or any(re.search(found, text) for text in (*texts, *_bytes(stage.lines)))

    def _merge(self, into: dict[str, Any], params: Params) -> None:
        """The values by their keys, which DVC writes with dots."""
        for dotted, value in params.values.items():
            *above, last = dotted.split(".")
            inner = into
            for key in above:
                inner = inner.setdefault(key, {})
            inner[last] = value

    def _metrics(self, stage: OldStage, measured: dict[str, str]) -> str | None:
        """The one file of metrics that a stage may have; no two of a model have a metric both."""
        found = None
        for out in stage.outs:
            if not out.metric:
                continue
            try:
                if found:
                    raise MlspecError("a stage has one file of metrics")
                names = self._metric_names(out.path)
                if twice := sorted(names & measured.keys()):
                    raise MlspecError(f"{measured[twice[0]]} measures {twice[0]}, too")
            except MlspecError as error:
                message = f"{out.path} is an output and not `metrics`: {error.message}"
                hint = "gates read one JSON file of numbers, and each number of one stage"
                self.made.say(stage.place, message, hint)
            else:
                found = out.path
                measured |= dict.fromkeys(names, stage.title)
        return found

    def _metric_names(self, path: str) -> set[str]:
        """What the file measures, if it is here; raises :class:`MlspecError` if it is no such."""
        if not path.endswith(".json"):
            raise MlspecError("it is not JSON")
        data = self.tree.read_bytes(path)
        return set(parse_metrics(data or b"{}", path))

    def _about(self, stage: OldStage, out: Out) -> None:
        if out.persist:
            message = f"{out.path} persists between runs, which a spec has no word for"
            self.made.say(stage.place, message, "read what was there before from another path")
        if out.plotted:
            message = f"how {out.path} is plotted is not taken over: a spec has no word for it"
            hint = "for `dvc plots`, say it under `plots` in a dvc.yaml without stages"
            self.made.say(stage.place, message, hint)
        if out.remote or not out.push:
            message = f"{out.path} is kept apart ({out.remote or 'not pushed'}); mlspec does not"
            self.made.say(stage.place, message, "it goes to the storage of the spec")

    def _stale(self, stage: OldStage) -> str:
        return why_stale(stage, self.made.contents, self.tree)

    # the rest -----------------------------------------------------------------------------------

    @property
    def _data_paths(self) -> frozenset[str]:
        return frozenset({"pipelines", *self.made.contents})

    def _artifact(self, place: Place, path: str, models: Mapping[str, Any]) -> None:
        makers = [each.model for each in self.made.stages if path in map(_path, each.old.outs)]
        form = FORMATS.get(posixpath.splitext(path)[1])
        if not makers:
            message, hint = f"{path} is no output of a stage", "name the file itself as an output"
        elif form is None:
            message = f"the format of {path} is none that mlspec serves"
            hint = "write the model as ONNX or skops, then add `artifact` to the spec"
        elif "artifact" in models[makers[0]]:
            message = f"model {makers[0]} has an artifact already"
            hint = "a model has one artifact: make two models of the pipeline"
        else:
            models[makers[0]]["artifact"] = {"path": path, "format": form}
            return
        self.made.say(place, f"the artifact is not taken over: {message}", hint)

    @property
    def _requirements(self) -> str:
        return "requirements.txt"

    def _head(self) -> dict[str, Any]:
        version = "{}.{}".format(*sys.version_info)
        head: dict[str, Any] = {"mlspec": 1, "project": self.project}
        settings = self.old.settings
        if settings.url:
            url = settings.url
            if "://" not in url and not url.startswith(("/", "~")):
                url = posixpath.normpath(posixpath.join(".dvc", url))
            head["storage"] = {"url": url}
        elif not settings.remote:
            message = "there is no default remote: storage is a folder of this checkout"
            hint = "write `storage: {url: ...}` into the spec"
            self.made.say(Place(".dvc/config"), message, hint)
        head["python"] = {"version": version}
        spec = Spec.model_validate_json(json.dumps(head))
        if problem := next(iter(Disk(self.tree.root).check_head(spec)), None):
            head["python"]["requirements"] = NO_REQUIREMENTS
            line = problem.place.line if problem.place else 0
            message = f"packages are not taken over: {problem.message}"
            hint = f"write NAME==VERSION lines into {NO_REQUIREMENTS}; stages then run again"
            self.made.say(Place(self._requirements, line), message, hint)
        if settings.moved:
            message = f"kept for this checkout, in .dvc/config.local: {', '.join(settings.moved)}"
            hint = "each checkout needs them: a spec has only the address of storage"
            self.made.say(Place(".dvc/config"), message, hint)
        ignores = self.tree.read_text(".dvcignore") or ""
        for number, pattern in enumerate(map(str.strip, ignores.splitlines()), start=1):
            if pattern and not pattern.startswith("#"):
                message = f"{pattern} is not ignored any more"
                hint = "move it into a `.dvcignore` of a folder below, or keep such files elsewhere"
                self.made.say(Place(".dvcignore", number), message, hint)
        return head


def _source_problem(path: str, source: Mapping[str, str]) -> str:
    """Why a spec cannot have the source; empty if it can."""
    data = {"mlspec": 1, "project": "p", "datasets": {"d": {"path": path, "source": dict(source)}}}
    spec = Spec.model_validate_json(json.dumps(data))
    return next((problem.message for problem in value_checks.check(spec)), "")


def _data_file(known: Known) -> str:
    """As `dvc add` writes it."""
    lines = [f"- md5: {known.md5}", f"  size: {known.size or 0}"]
    lines += [f"  nfiles: {known.nfiles}"] if known.nfiles is not None else []
    name = json.dumps(posixpath.basename(known.path), ensure_ascii=False)
    return "\n".join(["outs:", *lines, "  hash: md5", f"  path: {name}", ""])


def _bytes(lines: Iterable[str]) -> Iterator[bytes]:
    return (line.encode() for line in lines)


def _path(out: Out) -> str:
    return out.path


def _by_name(data: TakenData) -> str:
    return data.name
