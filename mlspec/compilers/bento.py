"""Compiles a deployment to a service: a spec in, the files of `services/<name>/` out.

One core answers; `runtime` says what runs it: BentoML, or any ASGI server without BentoML.

The service runs without mlspec: it reads `model/model.json` and the artifact beside it, which are
put there when a release is staged, so that its source is a function of the spec alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlspec.compilers.generated import GeneratedFile, header
from mlspec.compilers.naming import artifact_name
from mlspec.compilers.templates import render_template
from mlspec.compilers.yaml_text import render_yaml
from mlspec.errors import MlspecError
from mlspec.plan import Consequence
from mlspec.spec.models import Challenging, Deployment, Model, converted_path

TESTED = {
    "aiohttp": "3.14.5",
    "bentoml": "1.4.39",
    "catboost": "1.2.10",
    "httptools": "0.9.0",
    "joblib": "1.6.0",
    "keras": "3.15.1",
    "lightgbm": "4.7.0",
    "msgspec": "0.22.0",
    "numpy": "2.4.6",
    "onnxruntime": "1.31.1",
    "opentelemetry-exporter-otlp-proto-http": "1.45.1",
    "opentelemetry-sdk": "1.45.1",
    "pandas": "3.1.1",
    "safetensors": "0.8.0",
    "scikit-learn": "1.9.1",
    "skops": "0.16.0",
    "torch": "2.13.0",
    "transformers": "5.17.0",
    "uvicorn": "0.54.0",
    "uvloop": "0.23.0",
    "xgboost-cpu": "3.2.0",
}
"""The version of each package that a service is tested with; used where the user pins none."""

RUNTIMES = {
    "asgi": ("httptools", "msgspec", "uvicorn", "uvloop"),
    "bentoml": ("bentoml", "httptools", "msgspec", "uvloop"),
}
"""What answers requests; BentoML brings a server, which is faster with httptools and uvloop."""
PACKAGES = {
    "catboost": ("catboost", "numpy"),
    "http": ("aiohttp", "numpy"),
    "joblib": ("joblib", "numpy", "scikit-learn"),
    "keras": ("keras", "numpy", "torch"),
    "lightgbm": ("lightgbm", "numpy"),
    "onnx": ("numpy", "onnxruntime"),
    "python": ("numpy",),
    "pytorch": ("numpy", "torch"),
    "safetensors": ("numpy", "safetensors", "torch"),
    "skops": ("numpy", "scikit-learn", "skops"),
    "torchscript": ("numpy", "torch"),
    "transformers": ("numpy", "torch", "transformers"),
    "xgboost": ("numpy", "xgboost-cpu"),
}
TRACING = ("opentelemetry-exporter-otlp-proto-http", "opentelemetry-sdk")
OPTIONAL = {"skops": ("pandas",)}
"""What a service uses if it is there; taken along if the user pins it."""
OF_THE_USER = ("joblib", "python", "safetensors")
"""Formats that may need anything: all that the user pins is taken along."""
FOLDERS = ("python", "transformers")
"""Formats whose artifact may be a folder."""
OWN_CODE = ("python", "safetensors")
"""Formats that have a class of the user's."""
TREES = ("catboost", "lightgbm", "xgboost")
"""Formats of models that tell themselves what each column has to do with a prediction."""
INSTEAD = {"xgboost-cpu": "xgboost"}
"""Packages of one module; the first is smaller, the second is taken if the user pins it."""

CONVERTED = "onnx"
"""The folder, in that of a service, of the one that answers with ONNX in its place."""
HEALTH = ("/healthz", "/livez", "/readyz")
"""Paths that need no token: whoever runs a service asks them, and they tell nothing."""
OPEN = {"metrics": "/metrics", "schema": "/schema.json"}
"""Paths that need none if the spec says so."""
ON_SAGEMAKER = "on_sagemaker.py"
"""The file of a service that also runs there; `serve` in its image runs it."""
_NAME = re.compile(r"[a-z0-9]([-_.a-z0-9]{0,61}[a-z0-9])?")


def service_paths(
    name: str, *, converted: bool = False, sagemaker: bool = False
) -> tuple[str, ...]:
    """The files that :func:`compile_bento` may make for a deployment: `bentofile.yaml` for BentoML,
    those of :data:`CONVERTED` if its model may be served as ONNX."""
    files = ["bentofile.yaml", "requirements.txt", "service.py"]
    if sagemaker:
        files.append(ON_SAGEMAKER)
    folders = [f"services/{name}"]
    if converted:
        folders.append(f"services/{name}/{CONVERTED}")
    return tuple(f"{folder}/{file}" for folder in folders for file in files)


def compile_bento(
    name: str,
    deployment: Deployment,
    model_name: str,
    model: Model,
    requirements: Mapping[str, str],
    *,
    converted: bool = False,
    sagemaker: bool = False,
) -> tuple[GeneratedFile, ...]:
    """The service of a deployment, or if `converted` the one that answers with ONNX in its place.

    `requirements` are the versions that the user pins. With `sagemaker` it answers under the names
    that SageMaker asks for, too.
    """
    if not _NAME.fullmatch(name):
        raise MlspecError(f"{name!r} can not be the name of a service")
    if model.artifact is None:
        raise MlspecError(
            f"deployment.{name} serves model.{model_name}, which has no artifact",
            hint=f"add `artifact: {{path: ..., format: onnx}}` to model.{model_name}",
        )
    owner = f"deployment.{name}"
    kind, path = model.artifact.format, model.artifact.path
    folder = f"services/{name}"
    if converted:
        kind, path, folder = "onnx", converted_path(path), f"{folder}/{CONVERTED}"
    framed = kind == "python" and model.artifact.input == "frame"
    packages = [*RUNTIMES[deployment.runtime], *PACKAGES[kind]]
    packages += ["pandas"] if framed else []
    packages += TRACING if deployment.telemetry is not None else []
    pins = _pins(packages, kind, requirements)
    model_file = artifact_name(path)
    mirror = deployment.challenger is not None and deployment.challenger.mode == "shadow"
    texts = {
        "service.py": render_template(
            "service/service.py.jinja",
            header=header(owner),
            name=name,
            model=model_name,
            format=kind,
            model_file=model_file,
            class_name=model.artifact.class_,
            framed=framed,
            awaited=kind == "http",
            runtime=deployment.runtime,
            buckets=deployment.metrics.buckets,
            workers=worker_count(deployment.resources.cpus),
            max_rows=deployment.limits.rows,
            max_bytes=int(deployment.limits.body),
            explain=deployment.explain,
            sensitive=sorted(set(model.sensitive)),
            telemetry=deployment.telemetry,
            **_guards(deployment),
            mirror=mirror,
            paired=mirror
            or (isinstance(deployment, Challenging) and deployment.terms.mode == "shadow"),
        ),
        "requirements.txt": "\n".join([f"# {header(owner)}", *pins, ""]),
    }
    if sagemaker:
        texts[ON_SAGEMAKER] = render_template(
            "service/on_sagemaker.py.jinja",
            header=header(owner),
            runtime=deployment.runtime,
            workers=worker_count(deployment.resources.cpus),
        )
    if deployment.runtime == "bentoml":
        coded = kind in OWN_CODE or bool(deployment.explain and deployment.explain.background)
        texts["bentofile.yaml"] = _bentofile(
            owner, name, kind, model_file, pins, tuple(texts), coded=coded
        )
    return tuple(
        GeneratedFile(f"{folder}/{file}", text, owner, Consequence.REDEPLOY)
        for file, text in sorted(texts.items())
    )


def _guards(deployment: Deployment) -> dict[str, Any]:
    """What stands in front of the service; nothing does unless the spec asks for it."""
    auth, limits = deployment.auth, deployment.limits
    limited = limits.rate is not None or limits.in_flight is not None
    wanted = {
        "Traced": deployment.telemetry is not None,
        "Door": auth is not None,
        "Limited": limited,
    }
    return {
        "guards": [guard for guard, asked in wanted.items() if asked],
        "open_paths": sorted((*HEALTH, *(OPEN[each] for each in (auth.open if auth else ())))),
        "rate": limits.rate,
        "in_flight": limits.in_flight,
    }


def worker_count(cpus: float) -> int:
    """One process for each processor: inference runs on one thread."""
    return max(1, math.ceil(cpus))


def _pins(packages: Sequence[str], kind: str, pinned: Mapping[str, str]) -> list[str]:
    known = {re.sub(r"[-_.]+", "-", package).lower(): pin for package, pin in pinned.items()}
    wanted: dict[str, str] = {}
    for package in packages:
        instead = INSTEAD.get(package, package)
        chosen = instead if instead in known and package not in known else package
        wanted[chosen] = known.get(chosen) or TESTED[chosen]
    also = known if kind in OF_THE_USER else OPTIONAL.get(kind, ())
    wanted |= {package: known[package] for package in also if package in known}
    return [f"{package}=={version}" for package, version in sorted(wanted.items())]


def _bentofile(
    owner: str,
    name: str,
    kind: str,
    model_file: str,
    pins: list[str],
    own: Sequence[str],
    *,
    coded: bool,
) -> str:
    include = [*sorted(own, reverse=True), "model/model.json", f"model/{model_file}"]
    if kind in FOLDERS:
        include.append(f"{include[-1]}/**")
    if coded:
        include.append("code/**")
    content = {
        "service": "service:Predictor",
        "name": name,
        "include": include,
        # Not `requirements_txt`: BentoML does not read it in a path with a hidden folder.
        "python": {"packages": pins, "lock_packages": False},
    }
    return render_yaml(content, head=[header(owner)])
