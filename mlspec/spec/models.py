"""The spec as types: what a user may write, frozen after load.

Comes in: plain data from :mod:`mlspec.spec.load`. Goes out: :class:`Spec`, which nothing changes
afterwards. The JSON Schema of the language is made from these classes (:mod:`mlspec.spec.schema`).
"""

from __future__ import annotations

import json
import posixpath
import shlex
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from mlspec.fingerprint import CONVERT, DECLARE, FETCH, taken_as
from mlspec.spec.paths import RepositoryPath
from mlspec.spec.quantities import (
    Bytes,
    Latency,
    Price,
    Rate,
    Seconds,
    Share,
    write_seconds,
    write_share,
)
from mlspec.spec.windows import Window


class Section(BaseModel):
    """A mapping of the spec: an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )


class Storage(Section):
    """Where data and models are kept: any DVC remote; a relative folder counts from the root."""

    url: str = ".mlspec/storage"
    """A folder, or a URL: s3://, gs://, azure://, ssh://, webdav://, https://."""


class Python(Section):
    """What stages run with; part of every fingerprint."""

    version: str = "3.11"
    """In quotes, such as "3.11", so that 3.10 stays 3.10."""
    requirements: RepositoryPath = "requirements.txt"
    """The file of locked packages that stages and services use."""
    image: str | None = None
    """What images of services are built on, such as python:3.11-slim@sha256:..."""


class Source(Section):
    """Where a dataset comes from: `url`, or `path` at `rev` of the repository `git`."""

    url: str | None = None
    """Where to download it."""
    git: str | None = None
    """A Git repository that holds it."""
    path: str | None = None
    """The file or folder in that repository."""
    rev: str | None = None
    """A tag, branch or commit of it."""


class Dataset(Section):
    """A file or folder that stages read; without `source` it is the team's own."""

    path: RepositoryPath
    """Where it is in this repository: a file or a folder."""
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    source: Source | None = None


class Resources(Section):
    """What a stage needs, or a service may use; memory in bytes, written `4GiB`."""

    cpus: float = Field(default=1.0, gt=0)
    """Processor cores."""
    gpus: int = Field(default=0, ge=0)
    """Graphics processors."""
    memory: Bytes | None = None
    """For example 4GiB: as much as a stage needs, and at most what a service gets."""
    price: Price | None = None
    """What an hour of these resources costs, such as "0.90 EUR/h"; plans then show money."""


class Replicas(Section):
    """How many copies of a service there are; under load more, if `max` is more than `min`."""

    min: int = Field(default=1, ge=1, le=1000)
    max: int | None = Field(default=None, ge=1, le=1000)
    """Without it as many as `min`, always."""
    cpu: int = Field(default=70, ge=10, le=100)
    """The percentage of their processors in use, above which there are more copies."""

    @property
    def most(self) -> int:
        """How many copies there can be."""
        return self.min if self.max is None else self.max


class ServiceResources(Resources):
    """What a service may use; on a target that has several machines, each copy of it."""

    replicas: Replicas | None = None
    """On targets of kind kubernetes and kserve: how many copies, such as {min: 2, max: 6}; on those
    of kind compose and sagemaker always as many as `min`."""


class Executor(Section):
    """Where commands of stages run. `dask`: the workers of a cluster that exists already."""

    kind: str
    """`dask`, or a kind that an installed package adds."""
    address: str = ""
    """Of the scheduler, such as tcp://10.0.0.5:8786."""
    repository: str | None = None
    """Where workers clone this repository from; without it, the address of its Git remote."""
    options: Mapping[str, Any] = Field(default_factory=dict)
    """More, for the kinds of other packages."""


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


class Image(Section):
    """Where images of services are kept: a registry, and how to be let in."""

    repository: str
    """Such as registry.example.org/ml; the image of a deployment is kept below it by its name."""
    auth_env: str | None = None
    """The environment variable that holds the path of a file with the registry's credentials."""
    pull_secret: str | None = None
    """The Secret of the namespace by which the cluster is let in."""


class Gateway(Section):
    """A gateway of the cluster; a deployment answers there at https://HOST/DEPLOYMENT."""

    name: str
    namespace: str | None = None
    """Where the gateway is, if not in the namespace of the target."""
    host: str
    """Such as models.example.org."""


class Metrics(Section):
    """Have a Prometheus operator collect the metrics of services."""

    namespace: str = "monitoring"
    """Where its Prometheus runs."""
    labels: Mapping[str, str] = Field(default_factory=dict)
    """By which it chooses what to collect, such as {release: prometheus}."""
    interval: Seconds = 30.0


class Network(Section):
    """Who may call services, beside the target's own namespace and its gateway."""

    clients: tuple[str, ...] = ()
    """Namespaces."""
    outgoing: bool = False
    """Whether services themselves may call others."""


class TLS(Section):
    """How a proxy speaks TLS: by files of the machine, outside of the repository."""

    certificate: str
    """The file with its private key and its certificates, such as /etc/mlspec/loans.pem."""
    client_ca: str | None = None
    """The file with the authorities of clients: whoever has no certificate of theirs is refused."""


class Target(Section):
    """Where deployments run.

    `local`: supervised processes of this machine behind one port. `kubernetes`: a namespace of a
    cluster, reached with kubectl, or manifests in a folder that Argo CD or Flux watches. `compose`:
    containers of this machine, run by podman or docker, behind HAProxy in one of them. `kserve`: an
    InferenceService in a namespace of a cluster that has KServe, or its manifest in a folder.
    `ssh`: a plain host with systemd and HAProxy, reached by OpenSSH. `sagemaker`: endpoints of
    Amazon SageMaker, of the image that other targets run. `image`: a registry that gets images,
    which others run. `batch`: none; its deployments score data on the machine that applies.
    """

    kind: Literal["local", "kubernetes", "compose", "kserve", "sagemaker", "ssh", "image", "batch"]
    port: int = Field(default=3000, ge=1024, le=65535)
    """Where the deployment of this target listens; on Kubernetes, the port of its Service."""
    after: str | None = None
    """The target that must be served first."""
    approvals: int = Field(default=0, ge=0, le=20)
    """How many people have to approve a release before it is deployed: `mlspec approve`."""
    context: str | None = None
    """Kubernetes, KServe: the name of the cluster in kubectl's own settings."""
    namespace: str | None = None
    """Kubernetes, KServe: it must exist."""
    mode: Literal["standard", "knative"] = "standard"
    """KServe: what it makes of a release, Deployments or services of Knative."""
    image: Image | None = None
    """Where images are kept. Compose can do without: then they stay on the machine."""
    gitops: RepositoryPath | None = None
    """Kubernetes, KServe: the folder that manifests are written to, instead of applying them."""
    gateway: Gateway | None = None
    """Kubernetes: how requests come in from outside the cluster."""
    metrics: Metrics | None = None
    """Kubernetes: a ServiceMonitor for each deployment."""
    network: Network = Network()
    """Kubernetes: who may call, and whom services may call."""
    captures: str | None = None
    """Kubernetes, KServe: the PersistentVolumeClaim that captured predictions are written to."""
    ready: Seconds = 300.0
    """Not local: a new release goes back if it is not ready after this time."""
    region: str | None = None
    """SageMaker: such as eu-central-1."""
    role: str | None = None
    """SageMaker: the ARN of the role that endpoints run as."""
    instance: str | None = None
    """SageMaker: the type of machine, such as ml.m5.large; `replicas.min` says how many."""
    profile: str | None = None
    """SageMaker: a profile of AWS' own settings, which has the credentials; without it, those that
    boto3 finds."""
    engine: Literal["podman", "docker"] | None = None
    """Compose: what runs containers and builds images; without it the first that is installed."""
    proxy: str | None = None
    """Compose: the image of HAProxy; best named with its digest."""
    tls: TLS | None = None
    """Compose: the port is for https, and if it says so for clients with a certificate alone."""
    listen: str = "127.0.0.1"
    """Compose, ssh: the address of the machine that the port is opened on; 0.0.0.0 is all of
    them."""
    host: str | None = None
    """Ssh: the name or address of the machine, or what your settings of ssh call it."""
    user: str | None = None
    """Ssh: whom to log in as; without it as your settings of ssh say."""
    ssh_port: int | None = Field(default=None, ge=1, le=65535)
    """Ssh: where its ssh server listens; without it as your settings of ssh say, else 22."""
    identity_env: str | None = None
    """Ssh: the environment variable that holds the path of a private key."""
    known_hosts: RepositoryPath | None = None
    """Ssh: the file with the key of the host; without it your own known hosts."""
    folder: str | None = None
    """Ssh: where releases are kept there; without it ~/mlspec, or /opt/mlspec for root."""
    python: str | None = None
    """Ssh: the Python that environments are made of; without it the one of `python.version`."""
    units: Literal["system", "user"] | None = None
    """Ssh: whose units of systemd services are; without it the machine's for root, else those of
    the user."""

    @model_validator(mode="after")
    def _patient(self) -> Self:
        """AWS takes minutes to start a machine."""
        if self.kind == "sagemaker" and "ready" not in self.model_fields_set:
            object.__setattr__(self, "ready", 1200.0)
        return self


TARGET_KEYS: Mapping[str, tuple[str, ...]] = {
    "local": (),
    "compose": ("image", "ready", "engine", "proxy", "listen", "tls"),
    "ssh": (
        "host",
        "user",
        "ssh_port",
        "identity_env",
        "known_hosts",
        "folder",
        "listen",
        "python",
        "ready",
        "units",
    ),
    "kubernetes": (
        "context",
        "namespace",
        "image",
        "gitops",
        "gateway",
        "metrics",
        "network",
        "captures",
        "ready",
    ),
    "image": ("image",),
    "batch": (),
    "kserve": ("context", "namespace", "mode", "image", "gitops", "captures", "ready"),
    "sagemaker": ("region", "role", "instance", "profile", "image", "ready"),
}
"""Keys of a target that its kind has a use for, beside those that every kind has."""


AUTH_KEYS: Mapping[str, str] = {
    "local": "file",
    "compose": "file",
    "ssh": "file",
    "kubernetes": "secret_name",
    "kserve": "secret_name",
}
"""By which key of `auth` targets of a kind find tokens; those of other kinds have no way to."""


class Smoke(Section):
    """A row that a new release must answer before it gets traffic."""

    input: Mapping[str, Any]
    """A value for each column of the model."""


class Capture(Section):
    """Which predictions a deployment keeps, with their inputs, where it runs; without it none."""

    sample: float = Field(default=1.0, ge=0, le=1)
    """The share of requests, from 0 to 1."""


class ServiceMetrics(Section):
    """What a deployment counts for Prometheus, besides what each does."""

    buckets: tuple[float, ...] = Field(
        default=(-1000, -100, -10, -1, 0, 1, 10, 100, 1000, 10_000),
        min_length=1,
        max_length=100,
    )
    """Upper limits of the buckets into which predictions that are numbers are counted, rising."""

    @field_validator("buckets")
    @classmethod
    def _rising(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        if any(low >= high for low, high in pairwise(buckets)):
            raise ValueError("each must be higher than the one before")
        return buckets


class Auth(Section):
    """Who may ask a deployment: whoever has a token of a file. Its health is for anyone."""

    file: str | None = None
    """Of targets of kind local, compose and ssh: the file with the tokens, on the machine and
    outside of the repository, such as /etc/mlspec/loans.tokens."""
    secret_name: str | None = None
    """Of targets of kind kubernetes and kserve: the Secret of the namespace that has them, by its
    key `tokens`."""
    open: tuple[Literal["metrics", "schema"], ...] = ()
    """What else needs no token: `/metrics`, `/schema.json`."""


class RequestLimits(Section):
    """How much one request may ask, and how many may. What is more is refused."""

    rows: int = Field(default=1000, ge=1, le=1_000_000)
    """Of one request, at most."""
    body: Bytes = 10 * 2**20
    """The size of one request, at most, for example 1MiB; 10MiB unless it is said."""
    rate: Rate | None = None
    """Requests of all clients to one copy of the service, such as 100/s or 600/m."""
    in_flight: int | None = Field(default=None, ge=1, le=100_000)
    """Requests that one copy of the service answers at the same time."""

    @field_validator("body")
    @classmethod
    def _sound(cls, body: float) -> float:
        if not 2**10 <= body <= 2**30:
            raise ValueError("write at least 1KiB and at most 1GiB")
        return body


class Explain(Section):
    """What each column has to do with a prediction, told with it: to requests with the query
    `?explain=true`, and to a share of the others."""

    method: Literal["shap", "permutation"]
    """`shap`: by the trees of XGBoost, LightGBM or CatBoost, exactly. `permutation`: of any model,
    by asking it for rows between the one that is explained and some of `background`."""
    sample: float = Field(default=0.0, ge=0, le=1)
    """The share of requests, from 0 to 1, that are told without asking."""
    background: RepositoryPath | None = None
    """Of `permutation`: a CSV file in Git with rows as they usually are; it goes along with the
    service."""
    permutations: int = Field(default=32, ge=1, le=1000)
    """Of `permutation`: how many orders of columns are tried; more are more exact and slower."""
    seed: int = Field(default=0, ge=0)
    """Of `permutation`: with another one other rows and orders are tried."""


class Telemetry(Section):
    """A span of each request, for a collector of OpenTelemetry, in the trace of the caller."""

    endpoint: str
    """Where the collector takes OTLP over HTTP, such as http://127.0.0.1:4318."""
    sample: float = Field(default=1.0, ge=0, le=1)
    """The share of requests, from 0 to 1, of callers that have not decided it themselves."""


class Query(Section):
    """A number that a Prometheus server tells, and its limit."""

    prometheus: str
    """Its address, such as http://127.0.0.1:9090."""
    expr: str
    """In PromQL; `$candidate` and `$champion` stand for the versions. Of several series the highest
    counts."""
    max: float
    """More than this is too much."""


class AbortIf(Section):
    """What ends a rollout: the new release goes back when it is certain that a limit is broken."""

    error_rate: Share | None = None
    """More of its answers than this have a status of 500 or above, for example 1%."""
    latency_p50: Latency | None = None
    """Half of its answers take longer than this."""
    latency_p95: Latency | None = None
    """More than 5% of its answers take longer."""
    latency_p99: Latency | None = None
    """More than 1% of its answers take longer, for example 100ms."""
    prediction_drift: float | None = Field(default=None, gt=0, le=10)
    """Its predictions differ more from those of what served before, as a population stability
    index: by custom 0.1 is little and 0.25 is much."""
    query: Query | None = None
    """What others measure, such as orders that were lost, is too much."""


class Rollout(Section):
    """How a new release takes over from the one that serves."""

    strategy: Literal["blue-green", "canary"]
    """`canary`: it gets a share of requests, in steps; `blue-green`: all at once, and the one
    before is kept ready until it is judged."""
    steps: tuple[Share, ...] = ()
    """Of `canary`: its shares, for example [10%, 50%]; all follows."""
    bake: Seconds = 600.0
    """How long each step takes at least; 10m unless it is said."""
    min_requests: int = Field(default=100, ge=0, le=10_000_000)
    """How many requests the new release must have had in each step."""
    wait: Seconds | None = None
    """Go back if a step is in doubt for so long after it was baked; without it, wait on."""
    abort_if: AbortIf = AbortIf()
    """Limits; one that can not be told yet is waited for."""

    @property
    def splits(self) -> bool:
        """Whether two releases answer at the same time."""
        return self.strategy == "canary"

    def __str__(self) -> str:
        """`canary: 10% → 50% → 100%, bake 10m`."""
        shares = [write_share(share) for share in (*self.steps, 1.0)]
        return f"{self.strategy}: {' → '.join(shares)}, bake {write_seconds(self.bake)}"


class By(Section):
    """What callers are told apart by, so that each has all its answers from one model."""

    header: str
    """The name of a header, such as x-customer; a request without it is the champion's."""


class Asked(Section):
    """The requests that ask for a challenger themselves."""

    name: str
    """The name of a header, such as x-variant."""
    value: str
    """What it says."""


class Challenger(Section):
    """A model beside the one that is deployed, on the same requests.

    With `mode: shadow` it gets copies and answers nobody; else it answers its part of the requests.
    """

    model: str
    """The name of the model; its newest version that passed its gates is taken."""
    version: int | None = Field(default=None, ge=1)
    """That version of it, whatever is newer."""
    mode: Literal["shadow"] | None = None
    share: Share | None = None
    """Of all requests: those that it answers, or with `shadow` those that are copied."""
    by: By | None = None
    """Choose callers instead of requests."""
    header: Asked | None = None
    """It answers the requests with this header, and no others."""

    @property
    def part(self) -> dict[str, Any]:
        """How it takes part, as data: `shadow`, `share` (from 0 to 1), `by`, `header`."""
        return {
            "shadow": self.mode == "shadow",
            "share": 1.0 if self.share is None else self.share,
            "by": self.by and self.by.header,
            "header": self.header and [self.header.name, self.header.value],
        }

    def __str__(self) -> str:
        """`shadow`, `5% of requests`, `5% of callers by x-customer`."""
        if self.header is not None:
            return f"requests with {self.header.name}: {self.header.value}"
        if self.mode is not None:
            return self.mode if self.share is None else f"{self.mode} of {write_share(self.share)}"
        share = write_share(self.share or 0.0)
        return f"{share} of callers by {self.by.header}" if self.by else f"{share} of requests"


class Batch(Section):
    """What is scored, and where the scores go."""

    input: str
    """The name of a dataset: a file of rows, as .csv, .tsv, .jsonl or .parquet."""
    output: RepositoryPath
    """A file that the scores are written to, as .csv, .jsonl or .parquet."""
    id: str | None = None
    """A column of the input that goes along with each score."""
    schedule: str | None = None
    """When the workflow looks whether there is something to score: "0 3 * * *", in UTC."""


class Deployment(Section):
    """A model that answers requests on targets, or scores data."""

    model: str
    """The name of the model that is served."""
    targets: tuple[str, ...] = Field(min_length=1)
    """Names of targets."""
    pin: Mapping[str, Annotated[int, Field(ge=1)]] = Field(default_factory=dict)
    """The version that a target serves whatever is newer, by target: {production: 3}."""
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    runtime: Literal["asgi", "bentoml"] = "bentoml"
    """What runs the service. With asgi it is smaller and starts sooner, without BentoML's pages."""
    resources: ServiceResources = ServiceResources()
    metrics: ServiceMetrics = ServiceMetrics()
    smoke: tuple[Smoke, ...] = ()
    """Requests that a new release must answer before it gets traffic."""
    rollout: Rollout | None = None
    """How a new release takes over; without it at once, when it is ready and answers `smoke`."""
    capture: Capture | None = None
    """Keep predictions and their inputs, which may be personal data."""
    auth: Auth | None = None
    """Answer only clients with a token; without it whoever reaches the port."""
    limits: RequestLimits = RequestLimits()
    explain: Explain | None = None
    telemetry: Telemetry | None = None
    challenger: Challenger | None = None
    """A model that is tried on the same requests; `mlspec compare` tells how both do."""
    batch: Batch | None = None
    """On a target of kind batch: what is scored."""


class Challenging(Deployment):
    """The deployment of a challenger, beside its champion's, which makes it: nobody writes it."""

    champion: str
    """The name of the deployment whose requests it gets."""
    terms: Challenger

    @classmethod
    def beside(cls, name: str, champion: Deployment) -> Challenging | None:
        """That of the deployment `name`, if it has one: with all else as the champion has it."""
        terms = champion.challenger
        if terms is None:
            return None
        pin = {} if terms.version is None else dict.fromkeys(champion.targets, terms.version)
        other = ("model", "pin", "description", "rollout", "challenger")
        kept = {key: getattr(champion, key) for key in Deployment.model_fields if key not in other}
        if terms.mode == "shadow":  # what the champion let in may come in, and nobody asks why
            free = {"rate": None, "in_flight": None}
            kept |= {"limits": champion.limits.model_copy(update=free), "explain": None}
        return cls(model=terms.model, pin=pin, champion=name, terms=terms, **kept)


def challenger_name(deployment: str) -> str:
    """What the deployment of its challenger is called."""
    return f"{deployment}-challenger"


class GitHub(Section):
    """GitHub Actions: plan on pull requests, apply on merge."""

    runner: str = "ubuntu-24.04"
    """The label of a runner."""

    repository: str | None = None
    """`owner/name`: apply runs there and nowhere else; without it, anywhere but in forks."""


class CI(Section):
    """Which CI systems workflows are generated for."""

    github: GitHub | None = None


class Policy(Section):
    """Rules for plans; a plan that deletes an address in `protect` is refused."""

    protect: tuple[str, ...] = ()
    """Models and deployments: model.NAME, deployment.NAME or deployment.NAME@TARGET."""
    approvers: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    """Who may approve, by target: the addresses that Git knows people by. Without it, anybody."""


class Reconcile(Section):
    """What the agent `mlspec reconcile` may do; that of the branch's newest commit counts."""

    self_heal: bool = False
    """Mend drift; without it, drift is told."""
    freeze: tuple[Window, ...] = ()
    """Times, in UTC, at which it changes nothing: 2026-12-20 to 2027-01-03, or each week
    Fri 16:00 to Mon 07:00."""


class Move(Section):
    """A new name of something: what the ledger has of `from` is that of `to`."""

    from_: str = Field(alias="from")
    """Its former address: model.NAME, deployment.NAME or dataset.NAME."""
    to: str
    """Its address in this spec."""


class Limits(Section):
    """How much a repository may hold; whoever means more says so here, in the root file."""

    members: int = Field(default=20_000, ge=1, le=1_000_000)
    """Models that all matrices of the repository make together."""


class Spec(Section):
    """Everything a team declares, of all its files, with defaults merged."""

    mlspec: Literal[1]
    """The version of the language."""
    project: str
    """The name of the project."""
    include: tuple[str, ...] = ()
    """More files of the spec: paths, or patterns such as specs/*.yaml."""
    limits: Limits = Limits()
    storage: Storage = Storage()
    python: Python = Python()
    executors: Mapping[str, Executor] = Field(default_factory=dict)
    datasets: Mapping[str, Dataset] = Field(default_factory=dict)
    models: Mapping[str, Model] = Field(default_factory=dict)
    targets: Mapping[str, Target] = Field(default_factory=dict)
    deployments: Mapping[str, Deployment] = Field(default_factory=dict)
    ci: CI = CI()
    policy: Policy = Policy()
    moved: tuple[Move, ...] = ()
    """What was renamed: its history, versions and champion go along, and nothing is trained."""
    removed: tuple[str, ...] = ()
    """What left the spec and is only to be forgotten: model.NAME, deployment.NAME[@TARGET]."""
    reconcile: Reconcile = Reconcile()

    @cached_property
    def served(self) -> Mapping[str, Deployment]:
        """All deployments by name, and with each that has one that of its challenger."""
        found: dict[str, Deployment] = {}
        for name, deployment in self.deployments.items():
            found[name] = deployment
            if (beside := Challenging.beside(name, deployment)) is not None:
                found[challenger_name(name)] = beside
        return found

    def earlier(self, deployment: str, target: str) -> Iterator[str]:
        """The addresses of a deployment on the targets that come before, nearest first."""
        on = self.served[deployment].targets
        before = self.targets[target].after
        while before is not None:
            if before in on:
                yield f"deployment.{deployment}@{before}"
            before = self.targets[before].after


DEFAULTABLE: Mapping[str, type[Section]] = {
    "models": Model,
    "datasets": Dataset,
    "deployments": Deployment,
}
"""The sections whose members take what `defaults` gives them."""

TEMPLATE_KEYS = ("matrix", "name", "overrides")
"""Keys of a model that stands for many; none of its members has them."""
