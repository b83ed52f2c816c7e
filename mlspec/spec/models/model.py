"""Models of the spec: their stages, artifacts, origins, gates and cards."""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from mlspec.fingerprint import CONVERT, DECLARE, FETCH, taken_as
from mlspec.spec.models.compute import Resources
from mlspec.spec.models.section import Section
from mlspec.spec.paths import RepositoryPath
from mlspec.spec.quantities import (
    Bytes,
    Seconds,
)


class Stage(Section):
    """One command of a model's pipeline; `inputs` are dataset names or paths."""

    command: str
    """Runs at the top of the repository."""
    inputs: tuple[RepositoryPath, ...] = ()
    """Names of datasets, or paths of files and folders."""
    outputs: tuple[RepositoryPath, ...] = ()
    """Paths that the command writes."""
    params: Mapping[str, Any] = Field(default_factory=dict)
    """What the command reads from pipelines/<model>/params.json, under the stage's name."""
    code: tuple[RepositoryPath, ...] = ()
    """Code that no import leads to: imported dynamically, or not Python."""
    metrics: RepositoryPath | None = None
    """A JSON file of numbers that the command writes; gates ask for them by name."""
    predictions: RepositoryPath | None = None
    """A table that the command writes: a row for each row of the test data."""
    resources: Resources = Resources()
    """What the command needs: it is not started on a machine that has less."""
    timeout: Seconds | None = None
    """The command is stopped after this time, for example 30m."""
    retries: int = Field(default=0, ge=0, le=10)
    """How often a failed command is started again."""
    executor: str | None = None
    """Where the command runs: the name of an executor; without it as the model says, else here."""

    @property
    def writes(self) -> tuple[str, ...]:
        """Every path that the stage writes: outputs, metrics and predictions."""
        return (*self.outputs, *(path for path in (self.metrics, self.predictions) if path))


class Inferred(Section):
    """Which data a model was trained on, for what a row has to be."""

    from_: RepositoryPath = Field(alias="from")
    """An input of one of the model's stages: the name of a dataset, or a path; CSV or Parquet."""
    target: str = ""
    """The column that is predicted."""
    without: tuple[str, ...] = ()
    """More columns that the model does not take."""


class Passes(Section):
    """A model that answers over HTTP, in whatever language; services ask it for each request."""

    url: str
    """Where requests are sent to, such as http://fraud.internal:8080/predict."""
    protocol: Literal["rows", "v2", "dataframe", "bento"] = "rows"
    """`rows`: as services of mlspec are asked. `v2`: the Open Inference Protocol of KServe, Triton
    and MLServer. `dataframe`: the records of MLflow. `bento`: one parameter of a BentoML API."""
    parameter: str | None = None
    """Of `bento`: the parameter that takes the list of rows."""
    answer: Literal["number", "integer", "string", "boolean", "numbers", "strings"] = "number"
    """What it answers for a row."""
    probabilities: bool = False
    """Whether it answers those of all classes, too."""
    timeout: Seconds = 10.0
    """The most that it may take for a request."""
    expect: Mapping[str, str] = Field(default_factory=dict)
    """Headers that each of its answers has, such as {x-model-digest: ...}: else it is another
    model."""

    def declare(self, artifact: Artifact) -> Declare:
        """The stage that writes down what is asked; its digest is that of the version."""
        said = self.model_dump(mode="json", exclude_none=True)
        said["columns"] = dict(artifact.columns)
        text = json.dumps(said, sort_keys=True, separators=(",", ":"))
        command = shlex.join(["mlspec", "declare", artifact.path, text])
        return Declare(command=command, outputs=(artifact.path,), params={"url": self.url})


class Artifact(Section):
    """The file that is registered and served."""

    path: RepositoryPath
    format: Literal[
        "catboost",
        "http",
        "joblib",
        "keras",
        "lightgbm",
        "onnx",
        "python",
        "pytorch",
        "safetensors",
        "skops",
        "torchscript",
        "transformers",
        "xgboost",
    ]
    trusted: str | None = None
    """Of `joblib`: why this file may be loaded, though it can run any code when it is."""
    class_: str | None = Field(default=None, alias="class")
    """Of `python`: what answers, as package.module:Class; made with the path of the artifact. Of
    `safetensors`: the module of PyTorch that the weights are of."""
    code: tuple[RepositoryPath, ...] = ()
    """Of a class: code that no import of it leads to."""
    input: Literal["rows", "frame"] = "rows"
    """Of `python`: what `predict` takes, a list of dicts or a data frame of pandas."""
    columns: Mapping[str, Literal["number", "integer", "string", "boolean"]] = Field(
        default_factory=dict
    )
    """What a row has. Of `python`, where the class has no `signature`; of models of tensors, where
    the file does not name its columns."""
    signature: Inferred | None = None
    """The data that tell names, types and missing values of columns where the file does not."""
    passes: Passes | None = None
    """Of `http`: what answers in another process, on this machine or another one."""
    example: Mapping[str, Any] = Field(default_factory=dict)
    """Of `python`: a row that the class can answer; without it zeros and empty texts."""

    @property
    def exception(self) -> str:
        """What is declared of a file that may run code when it is loaded; empty of any other."""
        said = " ".join((self.trusted or "").split())
        return f"a pickle, which can run any code; trusted: {said}" if said else ""


CONVERTED = ("catboost", "joblib", "lightgbm", "pytorch", "skops", "xgboost")
"""Formats that `mlspec convert` takes."""


class Origin(Section):
    """Where a model that others made comes from. One source, and exactly these bytes."""

    url: str | None = None
    """Where to download it: https://HOST/FILE."""
    git: str | None = None
    """A Git repository that holds it, with `rev` and `path`."""
    rev: str | None = None
    """A tag of that repository, or a whole commit."""
    hf_folder: str | None = Field(default=None, alias="hf-folder")
    """A folder of this machine in the layout of a snapshot of Hugging Face."""
    oci: str | None = None
    """An artifact in a registry, HOST/REPOSITORY; `digest` is that of its manifest."""
    mlflow: str | None = None
    """A version in a registry of MLflow: http://HOST#MODEL/VERSION, or FOLDER#MODEL/VERSION."""
    path: str | None = None
    """The file that is meant, of a repository, a folder, an archive or an artifact of several."""
    unpack: Literal["tar", "zip"] | None = None
    """What the URL leads to is an archive, and `path` the file in it that is the model."""
    max_size: Bytes | None = None
    """The most that is fetched, for example 20GiB; without it 8GiB."""
    token_env: str | None = None
    """The environment variable that holds a token for the server, or `user:password`."""
    digest: str
    """Of the bytes that are fetched: sha256:... `mlspec fetch` tells it."""
    licence: str
    """What allows its use: an SPDX expression such as Apache-2.0, `unknown`, or `other`."""
    licence_url: str | None = None
    """Where an `other` licence can be read."""

    @property
    def place(self) -> str:
        """Which it is, for people."""
        at = f"@{self.rev}" if self.rev else ""
        inside = f"#{self.path}" if self.path else ""
        where = self.url or self.git or self.hf_folder or self.oci or self.mlflow or ""
        return f"{where}{at}{inside}"

    @property
    def taken(self) -> str:
        """Names the artifact by its content: of one digest, there may be several paths."""
        return taken_as(self.digest, self.path)

    @property
    def record(self) -> dict[str, str]:
        """What the ledger keeps of it."""
        plain = self.model_dump(by_alias=True, exclude_none=True, exclude={"max_size", "token_env"})
        return {key: str(value) for key, value in plain.items()}

    def fetch(self, to: str) -> Fetch:
        """The stage that has it at `to`; `mlspec fetch` says what the command does."""
        words = ["mlspec", "fetch"]
        for key in ("url", "git", "rev", "hf_folder", "oci", "path", "unpack", "token_env"):
            if (value := getattr(self, key)) is not None:
                words += [f"--{key.replace('_', '-')}", value]
        if self.max_size is not None:
            words += ["--max-bytes", f"{self.max_size:.0f}"]
        words += ["--digest", self.digest, "--to", to]
        return Fetch(command=shlex.join(words), outputs=(to,), params={"digest": self.digest})


class Own(Stage):
    """A stage whose command is mlspec's own. Its model makes it: nobody writes it."""


class Fetch(Own):
    """The stage that brings what others made."""


class Convert(Own):
    """The stage that writes the artifact as ONNX and compares the two on a sample."""

    def reading(self, sample: str) -> Convert:
        """With the path of the sample in the command, of which the model knows only the name."""
        return self.model_copy(update={"command": f"{self.command} --sample {shlex.quote(sample)}"})


class Declare(Own):
    """The stage that writes down what a model is that answers elsewhere."""


class Serve(Section):
    """What runs the model in services: its own framework, or ONNX Runtime."""

    runtime: Literal["auto", "native", "onnx"] = "native"
    """`auto`: ONNX where it answers the sample alike and faster, else as it is. `onnx`: it must
    answer alike."""
    sample: RepositoryPath | None = None
    """The rows that both are asked: the name of a dataset, or a path; CSV or Parquet."""
    tolerance: float = Field(default=1e-5, gt=0, le=0.1)
    """By how much numbers may differ and count as equal; of large ones, the share of the number."""

    def convert(self, artifact: Artifact) -> Convert:
        """The stage that compares; `mlspec convert` says what the command does."""
        out = converted_path(artifact.path)
        metrics = f"{out}.json"
        words = ["mlspec", "convert", artifact.path, out, "--format", artifact.format]
        words += ["--metrics", metrics, "--tolerance", f"{self.tolerance:g}"]
        if artifact.trusted is not None:
            words += ["--trusted", artifact.trusted]
        if artifact.columns:
            words += ["--columns", json.dumps(dict(artifact.columns))]
        if self.runtime == "auto":
            words.append("--optional")
        return Convert(
            command=shlex.join(words),
            inputs=(artifact.path, self.sample or ""),
            outputs=(out,),
            metrics=metrics,
            params={"runtime": self.runtime},
        )


def converted_path(artifact: str) -> str:
    """Where an artifact lies as ONNX: beside itself."""
    return f"{posixpath.splitext(artifact)[0]}.onnx"


class Gate(Section):
    """A question that a candidate must answer well before it becomes a version.

    `min` and `max` bound `metric`. `against: champion` compares it with the version that serves:
    where more is better, by `max_drop` and `min_gain`; where less is, as of a loss, by `max_rise`
    and `min_fall`.
    """

    metric: str
    """A name in the metrics file of one of the stages."""
    min: float | None = None
    """The value is at least this."""
    max: float | None = None
    """The value is at most this."""
    against: Literal["champion"] | None = None
    max_drop: float | None = Field(default=None, ge=0)
    """The value is below the champion's by this at most."""
    min_gain: float | None = Field(default=None, ge=0)
    """The value is above the champion's by this at least."""
    max_rise: float | None = Field(default=None, ge=0)
    """The value is above the champion's by this at most."""
    min_fall: float | None = Field(default=None, ge=0)
    """The value is below the champion's by this at least."""
    without_champion: Literal["pass", "fail"] = "pass"
    """The answer while nothing serves yet."""
    level: Literal["fail", "warn"] = "fail"
    """`fail` stops the candidate, `warn` is only said."""


class Card(Section):
    """What people should know before they use a model."""

    intended_use: str = ""
    limitations: str = ""
    risk: Literal["low", "medium", "high"] | None = None
    """How much harm a wrong answer can do."""


class Quarantine(Section):
    """A version that must not be deployed again."""

    version: int = Field(ge=1)
    """Its number in the ledger; a later version that is the same is held back too."""
    reason: str
    """What is wrong with it, for whoever asks why it is held."""


class Model(Section):
    """A pipeline, the artifact it makes and the gates that judge it.

    One that others made has `from` instead, and stages only if they evaluate it.
    """

    stages: Mapping[str, Stage] = Field(default={}, min_length=1)
    """The commands, by name; their order follows from inputs and outputs."""
    from_: Origin | None = Field(default=None, alias="from")
    """Where the artifact comes from, if no stage makes it; stages may evaluate it."""
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    """Words to select it by, as in `mlspec plan --select tag:nightly`."""
    executor: str | None = None
    """Where its stages run unless they say otherwise: the name of an executor."""
    artifact: Artifact | None = None
    """The file that is registered and served."""
    serve: Serve = Serve()
    """What runs it in services."""
    sensitive: tuple[str, ...] = ()
    """Columns whose values no deployment writes to its captures, such as [income]."""
    gates: Mapping[str, Gate] = Field(default_factory=dict)
    """What a candidate must answer well, by name."""
    card: Card | None = None
    quarantine: tuple[Quarantine, ...] = ()
    """Versions that are not deployed, until the entry is taken out."""

    @model_validator(mode="after")
    def _with_fetch(self) -> Self:
        """What others made, and can be fetched, is brought by a stage like any other."""
        origin, artifact = self.from_, self.artifact
        if origin is None or artifact is None or origin.mlflow or FETCH in self.stages:
            return self
        stages = {FETCH: origin.fetch(artifact.path), **self.stages}
        object.__setattr__(self, "stages", stages)
        return self

    @model_validator(mode="after")
    def _with_declaration(self) -> Self:
        """What answers elsewhere has an artifact that says so, of a stage like any other."""
        artifact = self.artifact
        if artifact is None or artifact.passes is None or DECLARE in self.stages:
            return self
        stages = {DECLARE: artifact.passes.declare(artifact), **self.stages}
        object.__setattr__(self, "stages", stages)
        return self

    @model_validator(mode="after")
    def _with_conversion(self) -> Self:
        """What may be served as ONNX is converted by a stage like any other."""
        serve, artifact = self.serve, self.artifact
        if serve.runtime == "native" or serve.sample is None or artifact is None:
            return self
        if artifact.format in CONVERTED and CONVERT not in self.stages:
            stages = {**self.stages, CONVERT: serve.convert(artifact)}
            object.__setattr__(self, "stages", stages)
        return self
