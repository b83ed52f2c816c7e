"""Challengers: it is clear which requests each gets, and its target can give it these."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlspec.spec.checks.targets import MAX_OBJECT
from mlspec.spec.models import Challenger, Deployment, Spec, Target, challenger_name
from mlspec.spec.show import show
from mlspec.spec.tree import Path, Problem

KINDS = frozenset({"compose", "kubernetes", "local"})
"""Of targets with challengers."""
MAX_NAME = 63
"""Of a service."""
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}")
_VALUE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check(spec: Spec) -> Iterator[Problem]:
    """Every problem of the challengers of a spec."""
    for name, deployment in spec.deployments.items():
        if deployment.challenger is not None:
            at = ("deployments", name, "challenger")
            yield from _part(deployment.challenger, at)
            yield from _headers(deployment.challenger, at)
            yield from _beside(name, deployment, deployment.challenger, spec, at)
            for target_name in deployment.targets:
                if (target := spec.targets.get(target_name)) is not None:
                    yield from _target(name, deployment.challenger, target_name, target, at)


def _part(terms: Challenger, at: Path) -> Iterator[Problem]:
    if terms.mode is None and terms.share is None and terms.header is None:
        message = "it is not said which requests it gets"
        hint = "write `mode: shadow`, or the share that it answers: `share: 5%`"
        yield Problem("MLS103", at, message, hint, True)
    elif terms.header is not None and (terms.mode is not None or terms.share is not None):
        message = "with `header` it answers the requests that ask for it, and no share of others"
        yield Problem("MLS103", (*at, "header"), message, "keep one of them", True)
    elif terms.by is not None and (terms.mode is not None or terms.share is None):
        message = "`by` chooses the callers of a `share` that it answers"
        yield Problem("MLS103", (*at, "by"), message, "leave it out, or add `share: 5%`", True)
    if terms.share is not None and terms.share <= 0:
        hint = "leave `challenger` out for that"
        yield Problem("MLS103", (*at, "share"), "0% of the requests are none", hint)
    elif terms.share is not None and terms.share >= 1 and terms.mode is None:
        message = "100% leaves the champion nothing"
        hint = "write a smaller share, or have the deployment serve this model"
        yield Problem("MLS103", (*at, "share"), message, hint)


def _headers(terms: Challenger, at: Path) -> Iterator[Problem]:
    names = []
    if terms.by is not None:
        names.append((terms.by.header, (*at, "by", "header")))
    if terms.header is not None:
        names.append((terms.header.name, (*at, "header", "name")))
    for name, path in names:
        if not _HEADER.fullmatch(name):
            hint = "write letters, digits and `-`, such as x-customer"
            yield Problem("MLS103", path, f"{show(name)} is not the name of a header", hint)
    if terms.header is not None and not _VALUE.fullmatch(terms.header.value):
        message = f"{show(terms.header.value)} is not a value that can be asked for"
        hint = "write letters, digits, `-`, `_` and `.`"
        yield Problem("MLS103", (*at, "header", "value"), message, hint)


def _beside(
    name: str, deployment: Deployment, terms: Challenger, spec: Spec, at: Path
) -> Iterator[Problem]:
    beside = challenger_name(name)
    if beside in spec.deployments:
        message = f"`{beside}` is what its own deployment would be called"
        yield Problem("MLS103", at, message, f"rename deployment `{beside}`", True)
    elif len(beside) > MAX_NAME:
        message = f"`{beside}`, its own deployment, would have a name of {len(beside)} characters"
        yield Problem("MLS103", at, message, f"shorten `{name}`", True)
    if terms.model == deployment.model and terms.version is None:
        message = "a model can not challenge itself"
        hint = "name another model, or the version that is to challenge: `version: 3`"
        yield Problem("MLS103", (*at, "model"), message, hint)
    if terms.mode is not None and deployment.capture is None:
        message = "a shadow answers nobody, and without `capture` its answers are not kept"
        yield Problem("MLS103", at, message, "add `capture: {sample: 1.0}`", True)
    if terms.mode is None and deployment.rollout is not None:
        message = "a rollout and a challenger that answers clients would share the same requests"
        hint = "write `mode: shadow`, or leave `rollout` out as long as there is a challenger"
        yield Problem("MLS103", at, message, hint, True)


def _target(
    name: str, terms: Challenger, target_name: str, target: Target, at: Path
) -> Iterator[Problem]:
    if target.kind not in KINDS:
        message = f"target `{target_name}` is of kind {target.kind}, which has no challengers"
        yield Problem("MLS104", at, message, "leave `challenger` out", True)
        return
    if target.kind != "kubernetes":
        return
    beside = challenger_name(name)
    if len(beside) > MAX_OBJECT:
        message = f"`{beside}` has {len(beside)} characters; `{target_name}` takes {MAX_OBJECT}"
        yield Problem("MLS104", at, message, f"shorten `{name}`", True)
    if terms.mode is not None:
        return
    if target.gitops is not None:
        message = f"target `{target_name}` only writes manifests: nobody would see whether it fits"
        yield Problem("MLS104", at, message, "write `mode: shadow`", True)
    elif target.gateway is None:
        message = f"target `{target_name}` has no gateway, which gives a challenger its requests"
        hint = f"add `targets.{target_name}.gateway`, or write `mode: shadow`"
        yield Problem("MLS104", at, message, hint, True)
    elif terms.by is not None:
        message = f"the gateway of target `{target_name}` chooses requests, not callers"
        yield Problem("MLS104", (*at, "by"), message, "leave it out, or use `header`", True)
