"""A model that answers over HTTP: how it is asked, and what is made of its answers."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.artifacts import pack
from mlspec.spec.models import Model

PROGRAM = """
import asyncio, json, sys
import service

async def main():
    service.CORE.open()
    answers = []
    for rows in json.load(sys.stdin):
        body = json.dumps({"rows": rows}).encode()
        try:
            answers.append(json.loads(await service.CORE.answer(body, "id")))
        except service.Refused as refused:
            answers.append([refused.status, json.loads(refused.answer("id"))["error"]])
    service.CORE.close()
    await asyncio.sleep(0.1)
    print(json.dumps(answers))

asyncio.run(main())
"""
ROWS = [{"amount": 2.5, "country": "DE"}, {"amount": 1.0, "country": "FR"}]


class Other(BaseHTTPRequestHandler):
    """The model: doubles the amount. `server.answers` are what it says instead, one by one."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, body, self.client_address))
        status, content, *headers = self.server.answers.pop(0)
        if status == 0:
            self.close_connection = True
            return
        text = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_):
        pass


@pytest.fixture
def other():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    server.daemon_threads = True
    server.asked, server.answers = [], []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def declare(url, **passes):
    said = {"url": url, "timeout": "2s", **passes}
    artifact = {
        "path": "m.json",
        "format": "http",
        "columns": {"amount": "number", "country": "string"},
        "passes": said,
    }
    return Model.model_validate_json(json.dumps({"artifact": artifact}))


def ask(folder, model, *requests):
    """What the generated service answers."""
    declared = model.stages["declare"].command
    command = declared.replace("mlspec", f"{sys.executable} -m mlspec", 1)
    subprocess.run(command, shell=True, cwd=folder, check=True, capture_output=True, timeout=120)
    place, _ = pack(folder, model.artifact)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=place,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("passes", "asked", "answer"),
    [
        ({}, {"rows": ROWS}, {"predictions": [5, 2.0]}),
        ({"protocol": "dataframe"}, {"dataframe_records": ROWS}, {"predictions": [5.0, 2.0]}),
        ({"protocol": "bento", "parameter": "given"}, {"given": ROWS}, [5.0, 2.0]),
        (
            {"protocol": "v2"},
            {
                "inputs": [
                    {"name": "amount", "shape": [2, 1], "datatype": "FP64", "data": [2.5, 1.0]},
                    {"name": "country", "shape": [2, 1], "datatype": "BYTES", "data": ["DE", "FR"]},
                ]
            },
            {"outputs": [{"name": "y", "shape": [2, 1], "datatype": "FP64", "data": [5, 2]}]},
        ),
    ],
    ids=["rows", "dataframe", "bento", "v2"],
)
def test_protocols(tmp_path, other, passes, asked, answer):
    other.answers += [(200, answer)] * 2
    model = declare(f"http://127.0.0.1:{other.server_port}/score", **passes)
    found = ask(tmp_path, model, ROWS, ROWS)
    assert found == [{"id": "id", "model": "m", "version": 1, "predictions": [5.0, 2.0]}] * 2
    assert [(path, body) for path, body, _ in other.asked] == [("/score", asked)] * 2
    assert other.asked[0][2] == other.asked[1][2], "the connection is kept"


def test_probabilities_and_texts(tmp_path, other):
    answer = {"predictions": ["no", "yes"], "probabilities": [[0.9, 0.1], [0, 1]]}
    other.answers += [(200, answer), (200, {"predictions": ["no", "yes"]})]
    url = f"http://127.0.0.1:{other.server_port}/"
    model = declare(url, answer="string", probabilities=True)
    first, second = ask(tmp_path, model, ROWS, ROWS)
    assert first["predictions"] == ["no", "yes"]
    assert first["probabilities"] == [[0.9, 0.1], [0.0, 1.0]]
    assert second[0] == 502


def test_what_goes_wrong_there(tmp_path, other):
    expected = ("x-model-digest", "a1")
    other.answers += [
        (200, {"predictions": [1.0, 2.0]}),
        (500, {"error": "secret"}, expected),
        (422, {"error": "secret"}, expected),
        (302, b"", expected, ("location", "http://169.254.169.254/")),
        (200, {"predictions": [1.0]}, expected),
        (200, {"predictions": ["a", "b"]}, expected),
        (200, b"<html>", expected),
        (0, b""),
        (200, {"predictions": [1.0, 2.0]}, expected),
    ]
    url = f"http://127.0.0.1:{other.server_port}/"
    model = declare(url, expect={"x-model-digest": "a1"})
    found = ask(tmp_path, model, *[ROWS] * 8, [{"amount": "x", "country": "DE"}])
    *wrong, right, ours = found
    said = [
        (status, text.removeprefix("request: the model behind this service "))
        for status, text in wrong
    ]
    assert said == [
        (502, "is another one: its x-model-digest is not as declared"),
        (502, "answers with status 500"),
        (422, "refuses it (status 422)"),
        (502, "answers with status 302"),
        (502, "answers with what is no prediction for each row"),
        (502, "answers with what is no prediction for each row"),
        (502, "answers with what is no prediction for each row"),
    ]
    assert right["predictions"] == [1.0, 2.0], "asked once more after a connection that had ended"
    assert ours == [422, "row 0, column amount: must be a number"]


def test_nobody_answers(tmp_path, other):
    class Silent(Other):
        def do_POST(self):
            other.asked.append(self.path)
            self.server.hold.wait(30)

    other.RequestHandlerClass = Silent
    other.hold = threading.Event()
    url = f"http://127.0.0.1:{other.server_port}/"
    [late] = ask(tmp_path, declare(url, timeout="0.2s"), ROWS)
    other.hold.set()
    assert late == [504, "request: the model behind this service took more than 0.2 s"]
    (tmp_path / "gone").mkdir()
    [gone] = ask(tmp_path / "gone", declare("http://127.0.0.1:1/"), ROWS)
    assert gone == [502, "request: the model behind this service can not be reached"]
