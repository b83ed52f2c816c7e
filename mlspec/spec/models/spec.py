"""The spec as a whole, and its sections that are about the repository."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Literal

from pydantic import Field

from mlspec.spec.models.compute import Executor
from mlspec.spec.models.datasets import Dataset
from mlspec.spec.models.deployments import Challenging, Deployment, challenger_name
from mlspec.spec.models.model import Model
from mlspec.spec.models.section import Section
from mlspec.spec.models.targets import Target
from mlspec.spec.paths import RepositoryPath
from mlspec.spec.windows import Window


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
