"""Targets of the spec: where deployments run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, model_validator

from mlspec.spec.models.section import Section
from mlspec.spec.paths import RepositoryPath
from mlspec.spec.quantities import (
    Seconds,
)


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
