"""Rollouts: steps that rise, and only on targets that can take a release into service in steps."""

from __future__ import annotations

from collections.abc import Iterator

from mlspec.spec.checks.values import check_url
from mlspec.spec.models import Deployment, Rollout, Spec, Target
from mlspec.spec.quantities import write_share
from mlspec.spec.show import escape
from mlspec.spec.tree import Path, Problem

KINDS = frozenset({"compose", "kserve", "kubernetes", "local", "sagemaker", "ssh"})
"""Of targets with rollouts."""


def check(spec: Spec) -> Iterator[Problem]:
    """Every problem of the rollouts of a spec."""
    for name, deployment in spec.deployments.items():
        if deployment.rollout is not None:
            at = ("deployments", name, "rollout")
            yield from _steps(deployment, at)
            yield from _query(deployment.rollout, at)
            yield from _targets(deployment, spec, at)


def _steps(deployment: Deployment, at: Path) -> Iterator[Problem]:
    assert deployment.rollout is not None
    steps = deployment.rollout.steps
    if not deployment.rollout.splits:
        if steps:
            message = "`blue-green` has no steps: all requests change over at once"
            yield Problem("MLS100", (*at, "steps"), message, "leave `steps` out, or use `canary`")
        return
    if not steps:
        message = "a canary needs the shares that it gets"
        yield Problem("MLS100", at, message, "add `steps`, for example [10%, 50%]", True)
    before = 0.0
    for index, share in enumerate(steps):
        if share <= before:
            message = f"{write_share(share)} is not more than {write_share(before)} before it"
            hint = "write rising shares, for example [10%, 50%]"
            yield Problem("MLS100", (*at, "steps", index), message, hint)
        elif share >= 1:
            hint = "leave it out: after the last step it gets all requests"
            message = "100% leaves nothing to compare with"
            yield Problem("MLS100", (*at, "steps", index), message, hint)
        before = max(before, share)


def _query(rollout: Rollout, at: Path) -> Iterator[Problem]:
    query = rollout.abort_if.query
    if query is None:
        return
    at = (*at, "abort_if", "query")
    hint = "leave them out: a server is asked that wants none"
    yield from check_url(query.prometheus, (*at, "prometheus"), ("http", "https"), hint=hint)
    if not query.expr.strip() or escape(query.expr) != query.expr:
        hint = "write PromQL on one line, such as sum(rate(orders_lost_total[5m]))"
        yield Problem("MLS102", (*at, "expr"), "this is no expression that can be asked", hint)


def _targets(deployment: Deployment, spec: Spec, at: Path) -> Iterator[Problem]:
    for name in deployment.targets:
        target = spec.targets.get(name)
        if target is not None and target.kind not in KINDS:
            message = f"target `{name}` is of kind {target.kind}, which has no rollouts yet"
            hint = "leave `rollout` out, or deploy to a target of kind local"
            yield Problem("MLS101", at, message, hint, True)
            return
        if target is not None and target.gitops is not None:
            message = f"target `{name}` only writes manifests, which have no rollouts"
            yield Problem("MLS101", at, message, "leave `rollout` out", True)
            return
        if target is not None and target.kind == "kserve":
            yield from _kserve(name, target, deployment.rollout, at)
        gateless = target is not None and target.kind == "kubernetes" and target.gateway is None
        if gateless and deployment.rollout is not None and deployment.rollout.splits:
            message = f"target `{name}` has no gateway, which gives a canary its share"
            hint = f"add `targets.{name}.gateway`, or use the strategy blue-green"
            yield Problem("MLS101", at, message, hint, True)
            return


def _kserve(name: str, target: Target, rollout: Rollout | None, at: Path) -> Iterator[Problem]:
    """KServe splits in whole percents between two revisions, if it runs them with Knative."""
    if target.mode != "knative":
        message = f"target `{name}`: KServe splits requests with Knative only"
        hint = f"write `targets.{name}.mode: knative`, or leave `rollout` out"
        yield Problem("MLS101", at, message, hint, True)
    elif rollout is not None and not rollout.splits:
        message = f"target `{name}`: KServe keeps no earlier release ready beside one with 100%"
        yield Problem(
            "MLS101", at, message, "use the strategy canary, or leave `rollout` out", True
        )
    for index, share in enumerate(rollout.steps if rollout is not None else ()):
        if abs(share * 100 - round(share * 100)) > 1e-9:
            message = f"target `{name}`: KServe takes no part of a percent"
            place = (*at, "steps", index)
            yield Problem("MLS101", place, message, f"write {max(1, round(share * 100))}%")
