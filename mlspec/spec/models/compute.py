"""What stages and services may use, and where stages run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from mlspec.spec.models.section import Section
from mlspec.spec.quantities import (
    Bytes,
    Price,
)


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
