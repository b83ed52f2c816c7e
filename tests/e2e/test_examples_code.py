"""The examples are what the templates make, and their code does what their specs say.

`MLSPEC_BLESS=1` renders the examples anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mlspec.gates import Evidence, check_gate
from mlspec.scaffold import init_project
from mlspec.spec.load import load_spec
from mlspec.spec.models import Model

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TEMPLATES = ["image-classification", "regression", "tabular-classification"]
COMPARE = {
    # Prints how far the served model's answers are from the fitted one's, at most.
    "tabular-classification": """
from breast_cancer.model import fit_model
from breast_cancer.samples import make_samples
train, test = (make_samples(load_rows(path)) for path in (TRAIN, TEST))
fitted = fit_model(train, params["C"], params["max_iter"]).predict_proba(test.features)
served = ask("probabilities", test.features)
""",
    "regression": """
from diabetes.model import fit_model
from diabetes.samples import make_samples
train, test = (make_samples(load_rows(path)) for path in (TRAIN, TEST))
fitted = fit_model(train, params["alpha"]).predict(test.features)[:, None]
served = ask("prediction", test.features)
""",
    "image-classification": """
from digits.images import add_shifted, make_images
from digits.model import fit_model
train, test = (make_images(load_rows(path)) for path in (TRAIN, TEST))
model = fit_model(add_shifted(train), params["hidden"], params["epochs"], params["seed"])
fitted = model.predict_proba(test.pixels)
served = ask("probabilities", test.pixels)
""",
}
PACKAGES = {
    "tabular-classification": "breast_cancer",
    "regression": "diabetes",
    "image-classification": "digits",
}


def make_project(folder: Path, template: str) -> Path:
    """The project with the default answers, for the Python that the examples name."""
    return init_project(folder / template, template, {"python": "3.11"}).directory


def run_python(project: Path, *arguments: str, hash_seed: int = 0) -> str:
    """What Python prints, run at the root of a project that has its own modules at hand."""
    environment = {
        **os.environ,
        "PYTHONPATH": "src",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": str(hash_seed),
    }
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=project,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_stages(project: Path, *, hash_seed: int) -> tuple[Model, dict[str, bytes]]:
    """Run the model's stages in order, as DVC would; what each has written."""
    ((name, model),) = load_spec(project).spec.models.items()
    folder = project / "pipelines" / name
    folder.mkdir(parents=True, exist_ok=True)
    params = {stage: dict(each.params) for stage, each in model.stages.items()}
    (folder / "params.json").write_text(json.dumps(params))
    written = {}
    for stage in model.stages.values():
        python, script = stage.command.split()
        assert python == "python"
        for path in stage.writes:
            (project / path).unlink(missing_ok=True)
        run_python(project, script, hash_seed=hash_seed)
        written |= {path: (project / path).read_bytes() for path in stage.writes}
    return model, written


def files_of(folder: Path) -> dict[str, bytes]:
    """What Git would see."""
    left_out = {".git", "__pycache__", ".pytest_cache"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not left_out & set(path.relative_to(folder).parts)
    }


@pytest.mark.parametrize("template", TEMPLATES)
def test_an_example_is_what_its_template_makes(tmp_path: Path, template: str) -> None:
    made = make_project(tmp_path, template)
    example = EXAMPLES / template
    if os.environ.get("MLSPEC_BLESS"):
        shutil.rmtree(example, ignore_errors=True)
        shutil.copytree(made, example, ignore=shutil.ignore_patterns(".git"))
    assert files_of(example) == files_of(made), "see examples/README.md"


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_the_tests_of_a_project_pass(tmp_path: Path, template: str) -> None:
    project = make_project(tmp_path, template)
    said = run_python(project, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert " passed" in said


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES)
def test_stages_are_repeatable_and_pass_their_gates(tmp_path: Path, template: str) -> None:
    project = make_project(tmp_path, template)
    model, first = run_stages(project, hash_seed=1)
    # Sets in another order, as in every run that fixes no seed.
    _, second = run_stages(project, hash_seed=2)
    assert first == second

    (metrics_path,) = (stage.metrics for stage in model.stages.values() if stage.metrics)
    evidence = Evidence(fingerprint="", metrics=json.loads(first[metrics_path]))
    verdicts = [check_gate(name, gate, evidence) for name, gate in model.gates.items()]
    assert {verdict.result for verdict in verdicts} == {"pass"}, verdicts
    assert {verdict.level for verdict in verdicts} == {"fail", "warn"}

    (predictions,) = (s.predictions for s in model.stages.values() if s.predictions)
    header, *rows = first[predictions].decode().splitlines()
    assert header.startswith("id,label,prediction")
    assert len(rows) == evidence.metrics["rows"]

    compare = f"""
import numpy as np
from onnxruntime import InferenceSession
from {PACKAGES[template]}.files import ARTIFACT, TEST, TRAIN, load_params
from {PACKAGES[template]}.rows import load_rows
params = load_params("train")
def ask(output, rows):
    rows = rows.astype(np.float32)
    return InferenceSession(ARTIFACT).run([output], {{"input": rows}})[0]
{COMPARE[template]}
assert fitted.shape == served.shape
print(np.abs(fitted - served).max() / np.abs(fitted).max())
"""
    assert float(run_python(project, "-c", compare)) < 1e-4
