"""What a service does beside predicting: each target of a deployment has what that needs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from mlspec.spec.checks.values import check_url
from mlspec.spec.models import AUTH_KEYS, Auth, Deployment, Explain, Spec, Target, Telemetry
from mlspec.spec.show import show
from mlspec.spec.tree import Path, Problem

EXAMPLES = {"file": "/etc/mlspec/NAME.tokens", "secret_name": "NAME-tokens"}
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_HOST_PATH = re.compile(r"(/[\w.@+-]+)+", re.ASCII)


def check(spec: Spec) -> Iterator[Problem]:
    """Every problem of what deployments ask of their services."""
    for name, deployment in spec.deployments.items():
        on = {each: spec.targets[each] for each in deployment.targets if each in spec.targets}
        if deployment.auth is not None:
            yield from _auth(deployment, deployment.auth, on, ("deployments", name, "auth"))
        if deployment.explain is not None:
            yield from _explain(deployment.explain, ("deployments", name, "explain"))
        if deployment.telemetry is not None:
            yield from _telemetry(deployment.telemetry, on, ("deployments", name, "telemetry"))


def _telemetry(telemetry: Telemetry, on: dict[str, Target], at: Path) -> Iterator[Problem]:
    hint = "leave them out: a collector beside the service wants none, and adds those of others"
    yield from check_url(telemetry.endpoint, (*at, "endpoint"), ("http", "https"), hint=hint)
    for name, target in on.items():
        if target.kind == "sagemaker":
            message = f"services on target `{name}` reach no network, so no trace leaves them"
            yield Problem("MLS096", at, message, "remove one of them", on_key=True)
        elif target.kind == "kubernetes" and not target.network.outgoing:
            message = f"services on target `{name}` may not call others, so no trace leaves them"
            hint = f"write `targets.{name}.network: {{outgoing: true}}`, or remove this"
            yield Problem("MLS096", at, message, hint, on_key=True)


def _explain(explain: Explain, at: Path) -> Iterator[Problem]:
    if explain.method == "permutation":
        if explain.background is None:
            message = "`permutation` compares a row with others, and needs them"
            hint = "add `background: data/background.csv`, a file of a few hundred rows"
            yield Problem("MLS011", at, message, hint, on_key=True)
        return
    for key in ("background", "permutations", "seed"):
        if key in explain.model_fields_set:
            message = f"`shap` asks the trees themselves, so `{key}` has no use"
            hint = "remove it, or write `method: permutation`"
            yield Problem("MLS111", (*at, key), message, hint, on_key=True)


def check_host_path(path: str, at: Path, example: str) -> Iterator[Problem]:
    """A problem if this can not be the path of a file on the machine of a target."""
    if not _HOST_PATH.fullmatch(path) or ".." in PurePosixPath(path).parts:
        message = f"{show(path)} is not the whole path of a file on a machine"
        hint = f"write it from the top, such as {example}; only letters, digits and `._@+-`"
        yield Problem("MLS110", at, message, hint)


def _auth(deployment: Deployment, auth: Auth, on: dict[str, Target], at: Path) -> Iterator[Problem]:
    if auth.file is not None:
        yield from check_host_path(auth.file, (*at, "file"), "/etc/mlspec/loans.tokens")
    if auth.secret_name is not None and not _LABEL.fullmatch(auth.secret_name):
        message = f"{show(auth.secret_name)} cannot be the name of a Secret"
        hint = "write small letters, digits and `-`, at most 63"
        yield Problem("MLS097", (*at, "secret_name"), message, hint)
    wanted = {AUTH_KEYS.get(target.kind): name for name, target in on.items()}
    for target_name, target in on.items():
        if target.kind not in AUTH_KEYS:
            message = f"target `{target_name}` is {target.kind} and asks its clients for no tokens"
            yield Problem("MLS096", at, message, "remove one of them", on_key=True)
    for key, example in EXAMPLES.items():
        given = getattr(auth, key) is not None
        if not given and key in wanted:
            name = wanted[key]
            message = f"target `{name}` is {on[name].kind} and finds tokens by `{key}`"
            hint = f"add `{key}: {example.replace('NAME', deployment.model)}`"
            yield Problem("MLS011", at, message, hint, on_key=True)
        elif given and on and key not in wanted:
            kinds = " or ".join(kind for kind, used in AUTH_KEYS.items() if used == key)
            message = f"no target of this deployment is {kinds}, so `{key}` has no use"
            yield Problem("MLS096", (*at, key), message, "remove it", on_key=True)
    if "metrics" not in auth.open:
        for target_name, target in on.items():
            if target.metrics is not None:
                message = f"target `{target_name}` has a Prometheus read them, which has no token"
                yield Problem("MLS096", at, message, "add `open: [metrics]`", on_key=True)
