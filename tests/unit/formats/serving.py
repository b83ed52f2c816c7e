"""Loads the service of an artifact in a process of its own and has it answer rows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

from mlspec.compilers.bento import compile_bento
from mlspec.compilers.naming import artifact_name
from mlspec.formats import inspect_declared
from mlspec.spec.models import Artifact, Deployment, Model, Stage

PROGRAM = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
import service
body = json.dumps({"rows": json.load(sys.stdin)}).encode()
infer = service.load_model()
def answer(body):
    try:
        return infer(service.read_rows(body))
    except service.Refused as refused:
        return json.loads(refused.answer("id"))
answered = answer(body)
one = json.dumps({"rows": json.loads(body)["rows"][:1]}).encode()
began = time.process_time()
for _ in range(50):
    answer(one)
answered["microseconds"] = (time.process_time() - began) / 50 * 1e6
print(json.dumps(answered))
"""


def serve(folder, artifact, rows, code=()):
    """What the service of an artifact, `Artifact(...)` of the repository `folder`, answers.

    Goes out: its signature, and the answer: predictions and perhaps probabilities, or an error;
    and the microseconds of processor time that a request of one row takes to be read and answered.
    """
    assert isinstance(artifact, Artifact)
    signature = inspect_declared(artifact, folder, code)
    place = folder / "service"
    (place / "model").mkdir(parents=True, exist_ok=True)
    model = Model(stages={"train": Stage(command="true")}, artifact=artifact)
    deployment = Deployment(model="m", targets=("here",), runtime="asgi")
    for file in compile_bento("m", deployment, "m", model, {}):
        (place / file.path.rpartition("/")[2]).write_text(file.text)
    described = {"model": "m", "version": 1, "signature": signature}
    (place / "model/model.json").write_text(json.dumps(described))
    source, target = folder / artifact.path, place / "model" / artifact_name(artifact.path)
    (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
    for path in code:
        (copy := place / "code" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(folder / path, copy)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=place,
        input=json.dumps(rows),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return signature, json.loads(done.stdout)


def rows_of(frame):
    """The rows of a data frame as a client would send them; null where nothing is known."""
    return json.loads(frame.to_json(orient="records", double_precision=15))
