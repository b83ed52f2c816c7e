"""A model whose class answers with what is no prediction: an error, and no traceback."""

from __future__ import annotations

import json
import subprocess
import sys

from mlspec.compilers.bento import compile_bento
from mlspec.spec.models import Artifact, Deployment, Model, Stage

PREDICTOR = """
class Odd:
    def __init__(self, path):
        pass

    def predict(self, rows):
        return [[{}], [None], ["much"], [2.5]][int(rows[0]["x"])]
"""
PROGRAM = """
import asyncio, json
import service

async def main():
    service.CORE.open()
    for x in range(4):
        sent = []

        async def receive():
            return {"type": "http.request", "body": json.dumps({"rows": [{"x": x}]}).encode()}

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "path": "/predict", "method": "POST", "headers": []}
        await service.app(scope, receive, send)
        print(json.dumps([sent[0]["status"], json.loads(sent[1]["body"])]))
    service.CORE.close()

asyncio.run(main())
"""


def test_what_is_no_prediction_is_an_error_of_the_service(tmp_path):
    artifact = Artifact.model_validate(
        {"path": "m.txt", "format": "python", "class": "odd:Odd", "columns": {"x": "number"}}
    )
    model = Model(stages={"train": Stage(command="true")}, artifact=artifact)
    deployment = Deployment(model="m", targets=("here",), runtime="asgi")
    for file in compile_bento("m", deployment, "m", model, {}):
        (tmp_path / file.path.rpartition("/")[2]).write_text(file.text)
    signature = {
        "columns": [{"name": "x", "type": "number"}],
        "outputs": [{"name": "predictions", "type": "number", "role": "prediction"}],
        "example": {"x": 3.0},
    }
    for folder in ("model", "code"):
        (tmp_path / folder).mkdir()
    described = {"model": "m", "version": 1, "signature": signature}
    (tmp_path / "model/model.json").write_text(json.dumps(described))
    (tmp_path / "code/odd.py").write_text(PREDICTOR)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [status for status, _ in answers] == [500, 500, 500, 200]
    assert all("no prediction" in content["error"] for _, content in answers[:3])
    assert answers[3][1]["predictions"] == [2.5]
    assert "Traceback" not in done.stderr
