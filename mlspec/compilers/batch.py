"""Compiles a batch deployment to a DVC stage: `services/<deployment>/dvc.yaml`.

The stage reads the input and `release.json`, which an apply writes beside it: which version of the
model scores. So the file is a function of the spec alone, and `dvc status` tells scores that are
stale, by their data or by their version. `dvc repro` scores without an apply, with that version.
"""

from __future__ import annotations

import shlex

from mlspec.compilers.generated import GeneratedFile, header
from mlspec.compilers.yaml_text import render_yaml
from mlspec.plan import Consequence
from mlspec.spec.models import Dataset, Deployment

STAGE = "score"


def stage_path(name: str) -> str:
    """Where the stage of a deployment is; its lock is beside it."""
    return f"services/{name}/dvc.yaml"


def release_path(name: str) -> str:
    """What an apply writes: the version that scores."""
    return f"services/{name}/release.json"


def compile_batch(name: str, deployment: Deployment, dataset: Dataset) -> GeneratedFile:
    """The stage of a deployment that scores `dataset`."""
    assert deployment.batch is not None
    owner, output = f"deployment.{name}", deployment.batch.output
    stage = {
        "cmd": batch_command(name, deployment, dataset),
        "wdir": "../..",
        "deps": sorted([dataset.path, release_path(name)]),
        "outs": [output],
    }
    text = render_yaml({"stages": {STAGE: stage}}, head=[header(owner)])
    return GeneratedFile(stage_path(name), text, owner, Consequence.REDEPLOY)


def batch_command(name: str, deployment: Deployment, dataset: Dataset) -> str:
    """What scores, from the top of the repository."""
    assert deployment.batch is not None
    words = ["mlspec", "predict", deployment.model, dataset.path]
    words += ["--release", release_path(name), "--out", deployment.batch.output]
    if deployment.batch.id is not None:
        words += ["--id", deployment.batch.id]
    return shlex.join(words)
