"""Targets of kind `sagemaker`: what AWS needs to be told, and what an endpoint has no way to."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlspec.spec.checks.targets import check_fixed
from mlspec.spec.models import Deployment, Image, Spec, Target
from mlspec.spec.show import show
from mlspec.spec.tree import Path, Problem

KIND = "sagemaker"
MAX_NAME = 50
"""Of an endpoint, PROJECT-DEPLOYMENT: what belongs to it is called so and 13 characters more."""
_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-[0-9]{1,2}")
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::[0-9]{12}:role/[A-Za-z0-9+=,.@_/-]{1,512}")
_MACHINE = re.compile(r"ml\.[a-z0-9-]{1,20}\.[a-z0-9-]{1,20}")
_PROFILE = re.compile(r"[A-Za-z0-9_.@/+:-]{1,100}")
_REGISTRY = re.compile(
    r"[0-9]{12}\.dkr\.ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?(?:/.*)?"
)
_NEEDED = {
    "region": "eu-central-1",
    "role": "arn:aws:iam::123456789012:role/NAME",
    "instance": "ml.m5.large",
    "image": "{repository: 123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml}",
}


def check(spec: Spec) -> Iterator[Problem]:
    """Every problem of these targets, and of what deployments ask of them."""
    seen: dict[tuple[str | None, str | None], str] = {}
    for name, target in spec.targets.items():
        if target.kind == KIND:
            at = ("targets", name)
            yield from _target(target, at)
            other = seen.setdefault((target.region, target.profile), name)
            if other != name and target.region is not None:
                message, hint = f"target `{other}` is the same place", "give it a region of its own"
                yield Problem("MLS098", (*at, "region"), message, hint)
    for name, deployment in spec.deployments.items():
        for target_name in deployment.targets:
            found = spec.targets.get(target_name)
            if found is not None and found.kind == KIND:
                yield from _deployment(spec.project, name, deployment, target_name)


def _target(target: Target, at: Path) -> Iterator[Problem]:
    for key, example in _NEEDED.items():
        if getattr(target, key) is None:
            message = f"a target of kind `{KIND}` needs `{key}`"
            yield Problem("MLS011", at, message, f"add `{key}: {example}`", on_key=True)
    values = (
        ("region", _REGION, "a region of AWS"),
        ("role", _ROLE, "the ARN of a role"),
        ("instance", _MACHINE, "a type of machine of SageMaker"),
        ("profile", _PROFILE, "the name of a profile"),
    )
    for key, pattern, what in values:
        value = getattr(target, key)
        if value is not None and not pattern.fullmatch(value):
            hint = f"write it as `{_NEEDED.get(key, 'production')}`"
            yield Problem("MLS097", (*at, key), f"{show(value)} is not {what}", hint)
    if target.image is not None:
        yield from _image(target.image, target.region, (*at, "image"))
    if "port" in target.model_fields_set:
        message = "SageMaker says where an endpoint answers, so `port` has no use"
        yield Problem("MLS096", (*at, "port"), message, "remove it", on_key=True)


def _image(image: Image, region: str | None, at: Path) -> Iterator[Problem]:
    match = _REGISTRY.fullmatch(image.repository)
    if match is None or (region is not None and match["region"] != region):
        message = (
            f"{show(image.repository)}: SageMaker takes images from ECR in its own region only"
        )
        place = region if region and _REGION.fullmatch(region) else "eu-central-1"
        hint = f"write it as `123456789012.dkr.ecr.{place}.amazonaws.com/ml`"
        yield Problem("MLS097", (*at, "repository"), message, hint)
    if image.pull_secret is not None:
        message = "SageMaker has no Secrets: `role` lets it in, so `pull_secret` has no use"
        yield Problem("MLS096", (*at, "pull_secret"), message, "remove it", on_key=True)


def _deployment(project: str, name: str, deployment: Deployment, target: str) -> Iterator[Problem]:
    at, resources = ("deployments", name), deployment.resources
    if resources.replicas is not None:
        where = (*at, "resources", "replicas")
        yield from check_fixed(resources.replicas, target, KIND, where)
    if resources.memory is not None:
        message = f"target `{target}` is {KIND}: the type of the machine says how much memory"
        hint = f"leave `memory` out; `targets.{target}.instance` says it"
        yield Problem("MLS096", (*at, "resources", "memory"), message, hint, on_key=True)
    if deployment.capture is not None:
        message = f"target `{target}` is {KIND} and has no place for captures"
        yield Problem("MLS096", (*at, "capture"), message, "remove it", on_key=True)
    if len(project) + 1 + len(name) > MAX_NAME:
        message = f"target `{target}`: `{project}-{name}` has more than {MAX_NAME} characters"
        yield Problem("MLS097", at, message, "shorten it", on_key=True)
    if deployment.rollout is not None:
        asked = deployment.rollout.abort_if
        for key in ("latency_p50", "latency_p95", "latency_p99", "prediction_drift"):
            if getattr(asked, key) is not None:
                message = f"target `{target}`: CloudWatch does not tell what `{key}` needs"
                hint = "leave it out; `error_rate` and `query` are known there"
                place = (*at, "rollout", "abort_if", key)
                yield Problem("MLS101", place, message, hint, on_key=True)
