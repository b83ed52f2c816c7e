"""What benchmarks and tests of formats share: the release of an artifact, made as an apply does.

Comes in: an artifact of the spec, and the folder in which it lies. Goes out: the folder of its
service, which runs by itself, and its signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy

from mlspec.compilers.bento import compile_bento
from mlspec.dvc.hashing import md5_of_dir
from mlspec.formats import inspect_declared
from mlspec.providers.local.release import stage_release
from mlspec.spec.models import Artifact, Deployment, Model, Stage


class Packed(NamedTuple):
    """A service that is ready to run: `uvicorn service:app` in `folder`."""

    folder: Path
    signature: dict[str, Any]


def pack(root: Path, artifact: Artifact, code: Sequence[str] = (), training: str = "") -> Packed:
    """The release of an artifact; `code` are the paths of what its class needs."""
    signature = inspect_declared(artifact, root, code, training=training)
    model = Model(stages={"train": Stage(command="true")}, artifact=artifact)
    deployment = Deployment(model="m", targets=("here",), runtime="asgi")
    files = compile_bento("m", deployment, "m", model, {})
    for file in files:
        (path := root / file.path).parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text, encoding="utf-8")
    path = root / artifact.path
    described = {"model": "m", "version": 1, "commit": "0" * 40, "signature": signature}
    release = stage_release(
        root,
        root / "services/m",
        path,
        {**described, "digest": _digest(path)},
        {"cpus": 1, "capture": None, "code": {name: _md5(root / name) for name in code}},
        10**9,
        names=[file.path.rpartition("/")[2] for file in files],
    )
    return Packed(release.bento / "src", signature)


def save_weights(path: Path, names: Sequence[str], estimator: Any) -> None:
    """What a class of the user's answers with: the weights of a linear model of scikit-learn."""
    numpy.savez(path, names=list(names), slopes=estimator.coef_[0], start=estimator.intercept_)


def _digest(path: Path) -> str:
    if not path.is_dir():
        return _md5(path)
    inner = (each for each in sorted(path.rglob("*")) if each.is_file())
    return md5_of_dir({each.relative_to(path).as_posix(): _md5(each) for each in inner})


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
