"""Compiles the recipe of a service's image: a base and labels in, a Containerfile out.

The image has Python, the packages of the service and its release, and nothing else: no compilers,
no pip, no `.env`, no data. It runs as a user that owns nothing, and needs to write only to `/tmp`
(and to `/captures`, if predictions are captured), so its root can be read-only.

    app/           the files of the release: service.py, requirements.txt, model/
    Containerfile
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from mlspec.compilers.generated import header
from mlspec.compilers.templates import render_template
from mlspec.errors import MlspecError

FILE = "Containerfile"
APP = "app"
PYTHON = "/opt/service/bin/python"
PORT = 3000
USER = 10001
CAPTURES = "/captures"
TOKENS = "/run/mlspec/tokens"
"""Where a container has the file with the tokens of clients, if they need one."""
OWN_TOKEN = "/tmp/mlspec-own.token"
"""Where the service then leaves one for who looks after it."""
INPUTS = "dev.mlspec.inputs"
"""The label with the digest of all that an image is made of: equal inputs, equal image."""

_UNSAFE = re.compile(r"[\x00-\x1f\x7f\"\\$]")


def base_image(image: str | None, version: str) -> str:
    """What to build on: as the spec says, else the official image of this version of Python."""
    if image is not None:
        return image
    major, minor, *_ = version.split(".")
    return f"docker.io/library/python:{major}.{minor}-slim"


def compile_containerfile(
    owner: str,
    base: str,
    labels: Mapping[str, str],
    *,
    bentoml: bool,
    workers: int,
    serve_file: str = "",
) -> str:
    """The recipe; raises :class:`MlspecError` for a value that would read as something else.

    `workers` are the processes that answer; a service that is BentoML's says so itself.
    `serve_file` is the file of the release that the program `serve` runs, if there is to be one.
    """
    for value in (base, *labels.values()):
        if _UNSAFE.search(value):
            raise MlspecError(f"{value!r} cannot stand in the recipe of an image")
    check = f"import urllib.request as r; r.urlopen('http://127.0.0.1:{PORT}/readyz', timeout=4)"
    serve = serving_arguments("0.0.0.0", PORT, bentoml=bentoml, workers=workers)
    return render_template(
        "image/Containerfile.jinja",
        header=header(owner),
        base=base,
        labels=sorted(labels.items()),
        user=USER,
        port=PORT,
        health=json.dumps([PYTHON, "-c", check]),
        bentoml=bentoml,
        serve_file=serve_file and f"/{APP}/{serve_file}",
        command=json.dumps([PYTHON, *serve]),
    )


def serving_arguments(host: str, port: int, *, bentoml: bool, workers: int) -> list[str]:
    """What Python is to be told, in the folder of a service, to have it answer."""
    address = ["--host", host, "--port", str(port)]
    if bentoml:
        return ["-m", "bentoml", "serve", "service:Predictor", *address]
    serve = ["-m", "uvicorn", "service:app", *address, "--workers", str(workers)]
    return [*serve, "--no-access-log", "--no-server-header"]


def mirror_environment(settings: Mapping[str, Any], address: str) -> dict[str, str]:
    """What a container of a champion finds in its environment, if a shadow gets copies.

    `settings` are those of the deployment's resource, `address` is where the shadow answers.
    """
    part = settings.get("challenger")
    if not part or not part["shadow"]:
        return {}
    return {"MLSPEC_MIRROR": address, "MLSPEC_MIRROR_SHARE": str(part["share"])}
