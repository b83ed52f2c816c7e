"""Compiles a release to what SageMaker is asked for: plain data in, requests of its API out.

A model names the image, a configuration says which models answer on which machines, an endpoint has
one configuration. Models and configurations can never change, so their names say what is in them:
making one again is no change, and a difference is another name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlspec.fingerprint import digest_of

Request = dict[str, Any]
"""What an operation of SageMaker's API is called with."""
PREFIX = "mlspec.dev"
DEPLOYMENT, TARGET, PROJECT = (f"{PREFIX}/{key}" for key in ("deployment", "target", "project"))
MODEL, VERSION, RELEASE = (f"{PREFIX}/{key}" for key in ("model", "version", "release"))
TOKEN, STATUS, CONFIG = (f"{PREFIX}/{key}" for key in ("token", "status", "config"))
SHARES = 1000.0
"""What the weights of two releases add up to."""


@dataclass(frozen=True, slots=True)
class Variant:
    """A release that answers, on so many machines, for this part of :data:`SHARES`."""

    model: str
    version: int
    release: str
    image: str
    instances: int
    weight: float = SHARES

    @property
    def name(self) -> str:
        """By which requests, weights and metrics tell it from others; a release keeps it."""
        return f"r-{self.release[:12]}"


@dataclass(frozen=True, slots=True)
class Place:
    """A deployment on a target: `machine` is the type of its instances, `role` an ARN."""

    project: str
    deployment: str
    target: str
    role: str
    machine: str

    @property
    def endpoint(self) -> str:
        """Its name, of which there is one in a region of an account."""
        return endpoint_name(self.project, self.deployment)

    @property
    def tags(self) -> dict[str, str]:
        """What tells that something is this deployment's."""
        return {DEPLOYMENT: self.deployment, TARGET: self.target, PROJECT: self.project}


def endpoint_name(project: str, deployment: str) -> str:
    """What the endpoint of a deployment is called."""
    return f"{project}-{deployment}"


def compile_model(place: Place, variant: Variant) -> Request:
    """Of `CreateModel`. It may reach no network, and has no credentials."""
    digest = digest_of([variant.image, place.role])
    return {
        "ModelName": f"{place.endpoint}-{digest[:12]}",
        "PrimaryContainer": {"Image": variant.image, "Mode": "SingleModel"},
        "ExecutionRoleArn": place.role,
        "EnableNetworkIsolation": True,
        "Tags": compile_tags(place.tags),
    }


def compile_config(
    place: Place, variants: Sequence[Variant], others: Sequence[Mapping[str, Any]] = ()
) -> Request:
    """Of `CreateEndpointConfig`; its tags tell of the first release. `others` are variants as the
    API gave them, which stay as they are."""
    answering: list[Mapping[str, Any]] = [
        {
            "VariantName": each.name,
            "ModelName": compile_model(place, each)["ModelName"],
            "InstanceType": place.machine,
            "InitialInstanceCount": each.instances,
            "InitialVariantWeight": each.weight,
        }
        for each in variants
    ]
    answering = [*others, *answering]
    return {
        "EndpointConfigName": f"{place.endpoint}-{digest_of(answering)[:12]}",
        "ProductionVariants": answering,
        "Tags": compile_tags({**place.tags, **about(variants[0])}),
    }


def about(variant: Variant) -> dict[str, str]:
    """What tags say of a release."""
    return {MODEL: variant.model, VERSION: str(variant.version), RELEASE: variant.release}


def compile_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags as the API takes them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def load_tags(tags: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Tags as the API gives them."""
    return {each["Key"]: each["Value"] for each in tags}
