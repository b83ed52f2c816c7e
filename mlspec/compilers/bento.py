"""Compiles a deployment to a service: a spec in, the files of `services/<name>/` out.

One core answers; `runtime` says what runs it: BentoML, or any ASGI server without BentoML.

The service runs without mlspec: it reads `model/model.json` and the artifact beside it, which are
put there when a release is staged, so that its source is a function of the spec alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from mlspec.compilers.generated import GeneratedFile, header
from mlspec.compilers.templates import render_template
from mlspec.compilers.yaml_text import render_yaml
from mlspec.errors import MlspecError
from mlspec.plan import Consequence
from mlspec.spec.models import Deployment, Model

TESTED = {
    "bentoml": "1.4.39",
    "httptools": "0.9.0",
    "msgspec": "0.22.0",
    "numpy": "2.4.6",
    "onnxruntime": "1.31.1",
    "scikit-learn": "1.9.1",
    "skops": "0.16.0",
    "uvicorn": "0.54.0",
    "uvloop": "0.23.0",
}
"""The version of each package that a service is tested with; used where the user pins none."""

RUNTIMES = {
    "asgi": ("httptools", "msgspec", "uvicorn", "uvloop"),
    "bentoml": ("bentoml", "httptools", "msgspec", "uvloop"),
}
"""What answers requests; BentoML brings a server, which is faster with httptools and uvloop."""
PACKAGES = {
    "onnx": ("numpy", "onnxruntime"),
    "skops": ("numpy", "scikit-learn", "skops"),
}
OPTIONAL = {"onnx": (), "skops": ("pandas",)}
"""What a service uses if it is there; taken along if the user pins it."""

MAX_ROWS = 1000
MAX_BYTES = 10 * 2**20
_NAME = re.compile(r"[a-z0-9]([-_.a-z0-9]{0,61}[a-z0-9])?")


def service_paths(name: str) -> tuple[str, ...]:
    """The files of the service of a deployment, which :func:`compile_bento` makes; the first only
    for BentoML."""
    return tuple(
        f"services/{name}/{file}" for file in ("bentofile.yaml", "requirements.txt", "service.py")
    )


def compile_bento(
    name: str,
    deployment: Deployment,
    model_name: str,
    model: Model,
    requirements: Mapping[str, str],
) -> tuple[GeneratedFile, ...]:
    """The service of a deployment; `requirements` are the versions that the user pins."""
    if not _NAME.fullmatch(name):
        raise MlspecError(f"{name!r} can not be the name of a service")
    if model.artifact is None:
        raise MlspecError(
            f"deployment.{name} serves model.{model_name}, which has no artifact",
            hint=f"add `artifact: {{path: ..., format: onnx}}` to model.{model_name}",
        )
    owner = f"deployment.{name}"
    kind = model.artifact.format
    pins = _pins((*RUNTIMES[deployment.runtime], *PACKAGES[kind]), kind, requirements)
    texts = {
        "service.py": render_template(
            "service/service.py.jinja",
            header=header(owner),
            name=name,
            model=model_name,
            format=kind,
            runtime=deployment.runtime,
            buckets=deployment.metrics.buckets,
            workers=worker_count(deployment.resources.cpus),
            max_rows=MAX_ROWS,
            max_bytes=MAX_BYTES,
        ),
        "requirements.txt": "\n".join([f"# {header(owner)}", *pins, ""]),
    }
    if deployment.runtime == "bentoml":
        texts["bentofile.yaml"] = _bentofile(owner, name, kind, pins)
    return tuple(
        GeneratedFile(f"services/{name}/{file}", text, owner, Consequence.REDEPLOY)
        for file, text in sorted(texts.items())
    )


def worker_count(cpus: float) -> int:
    """One process for each processor: inference runs on one thread."""
    return max(1, math.ceil(cpus))


def _pins(packages: Sequence[str], kind: str, pinned: Mapping[str, str]) -> list[str]:
    known = {re.sub(r"[-_.]+", "-", package).lower(): pin for package, pin in pinned.items()}
    wanted = {package: known.get(package, TESTED[package]) for package in packages}
    wanted |= {package: known[package] for package in OPTIONAL[kind] if package in known}
    return [f"{package}=={version}" for package, version in sorted(wanted.items())]


def _bentofile(owner: str, name: str, kind: str, pins: list[str]) -> str:
    content = {
        "service": "service:Predictor",
        "name": name,
        "include": ["service.py", "requirements.txt", "model/model.json", f"model/model.{kind}"],
        # Not `requirements_txt`: BentoML does not read it in a path with a hidden folder.
        "python": {"packages": pins, "lock_packages": False},
    }
    return render_yaml(content, head=[header(owner)])
