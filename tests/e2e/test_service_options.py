"""What a deployment may ask of its service beside predictions; real services of both runtimes."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlspec.compilers.bento import compile_bento
from mlspec.errors import MlspecError, RolledBack
from mlspec.formats import inspect_artifact
from mlspec.providers.local.captures import capture_files, find_captured
from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.release import stage_release
from mlspec.providers.local.rundir import CAPTURE, OWN_TOKEN
from mlspec.spec.models import Artifact, Deployment, Model, Stage
from tests.e2e.test_local_target import write_columns

pytestmark = pytest.mark.slow
PATIENCE = 60.0
ROW = {"amount": 1.5, "count": 2, "grade": "A", "new": True}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
TOKEN, OTHER = "a-token-of-twenty-and-more", "another-token-that-is-long"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    content: Any


def ask(port, path="/predict", rows=(ROW,), **headers):
    """What is answered to rows, or to a GET if there are none."""
    body = json.dumps({"rows": list(rows)}).encode() if rows else None
    url = f"http://127.0.0.1:{port}{path}"
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    request = urllib.request.Request(url, body, named)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            status, found, text = answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, found, text = error.code, error.headers, error.read().decode()
    low = {key.lower(): value for key, value in found.items()}
    return Answer(status, low, json.loads(text) if text.startswith("{") else text)


def bearer(token):
    return {"authorization": f"Bearer {token}"}


def stage(root, artifact, runtime="asgi", version=1, settings=(), sensitive=(), **asked):
    """A release of a deployment that asks something of its service."""
    kind = artifact.suffix[1:]
    model = Model(
        stages={"train": Stage(command="true")},
        artifact=Artifact(path=artifact.name, format=kind),
        sensitive=tuple(sensitive),
    )
    given = {"model": "m", "targets": ["here"], "runtime": runtime, **asked}
    deployment = Deployment.model_validate_json(json.dumps(given))
    files = compile_bento("sums", deployment, "m", model, {})
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    description = {
        "model": "m",
        "version": version,
        "digest": hashlib.md5(artifact.read_bytes()).hexdigest(),
        "commit": "0123456789abcdef",
        "signature": inspect_artifact(artifact, kind),
    }
    names = tuple(file.path.rpartition("/")[2] for file in files)
    whole = {"cpus": 1, "memory": None, "capture": None, **dict(settings)}
    if "auth" in asked:
        whole["auth"] = {"file": asked["auth"]["file"]}
    folder = root / "services" / "sums"
    return stage_release(root, folder, artifact, description, whole, 10**9, names=names)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    root = tmp_path_factory.mktemp("repository")
    write_columns(root / "m.onnx")
    return root


@pytest.fixture
def target(tmp_path, free_port):
    target = LocalTarget(tmp_path / "checkout", "here", free_port())
    target.root.mkdir()
    yield target
    target.destroy("sums")


@pytest.fixture
def collector():
    """Takes spans as a collector of OpenTelemetry does: its address, and the attributes of each."""
    messages = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    spans = []

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                spans.extend(read_spans(messages.ExportTraceServiceRequest.FromString(body)))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", spans
    server.shutdown()
    server.server_close()


def read_spans(request):
    for resource in request.resource_spans:
        about = {each.key: each.value.string_value for each in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                values = {
                    each.key: getattr(each.value, each.value.WhichOneof("value"))
                    for each in span.attributes
                }
                yield {
                    **values,
                    "service": about["service.name"],
                    "name": span.name,
                    "trace": span.trace_id.hex(),
                    "parent": span.parent_span_id.hex(),
                }


def replace_text(path: Path, text: str) -> None:
    (new := path.with_suffix(".new")).write_text(text)
    new.replace(path)


@pytest.mark.parametrize("runtime", ["asgi", pytest.param("bentoml", marks=pytest.mark.thorough)])
def test_tokens_limits_and_traces(target, repository, tmp_path, runtime, collector):
    """Tokens change while it runs; mlspec itself is let in; what is too much is refused. All of it
    is told to a collector."""
    endpoint, spans = collector
    tokens = tmp_path / "tokens"
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    tokens.write_text(f"# of two clients\nshop {TOKEN}\nbank sha256:{digest}\n")
    release = stage(
        repository,
        repository / "m.onnx",
        runtime,
        auth={"file": str(tokens)},
        limits={"rows": 3, "body": "1KiB", "rate": "10/h"},
        telemetry={"endpoint": endpoint},
    )
    # The smoke row is answered: mlspec has a token of its own.
    assert target.deploy("sums", release, [ROW]).status == "serving"
    port = target.port

    for path in ("/livez", "/readyz", "/healthz"):
        assert ask(port, path, ()).status == 200
    for path in ("/metrics", "/schema.json", "/", "/docs.json"):
        assert ask(port, path, ()).status == 401
    for headers in ({}, bearer("x" * 20), {"authorization": f"Basic {TOKEN}"}, bearer("")):
        answer = ask(port, **headers, x_request_id="mine", traceparent=f"00-{TRACE}-{PARENT}-01")
        assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert answer.content["error"].startswith("request: needs a token")
        assert answer.content["id"] == answer.headers["x-request-id"] == "mine"
    metrics = ask(port, "/metrics", (), **bearer(OTHER)).content
    assert 'mlspec_requests_total{status="401"} 4.0' in metrics

    # One request in six minutes, and smoke has had it.
    answer = ask(port, **bearer(TOKEN))
    assert (answer.status, 1 <= int(answer.headers["retry-after"]) <= 360) == (429, True)
    assert "more requests than" in answer.content["error"]

    def find_span(identity):
        return next((each for each in spans if each.get("mlspec.prediction_id") == identity), None)

    deadline = time.monotonic() + PATIENCE
    while not (find_span("mine") and find_span("smoke")):
        assert time.monotonic() < deadline, spans
        time.sleep(0.1)
    expected = {
        "name": "POST /predict",
        "service": "sums",
        "mlspec.model": "m",
        "mlspec.version": 1,
        "http.response.status_code": 200,
    }
    assert expected.items() <= find_span("smoke").items()
    refused = find_span("mine")
    assert (refused["trace"], refused["parent"]) == (TRACE, PARENT)
    assert refused["http.response.status_code"] == 401

    replace_text(tokens, f"bank {OTHER}\n")
    deadline = time.monotonic() + PATIENCE
    while ask(port, "/schema.json", (), **bearer(TOKEN)).status == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    replace_text(tokens, "short\n")  # is none: those that were known stay
    time.sleep(1.2)
    assert ask(port, "/schema.json", (), **bearer(OTHER)).status == 200
    logs = "".join(path.read_text() for path in target.logs("sums"))
    assert "line 1 of the file of tokens has none" in logs
    assert not [word for word in (TOKEN, OTHER, "Traceback") if word in logs]


def test_sizes_that_the_spec_says_and_columns_that_are_not_written(target, repository):
    limits = {"rows": 2, "body": "1KiB", "in_flight": 4, "rate": "2/s"}
    # The third smoke row is told to come later, and does.
    kept = {"sensitive": ["grade", "new"], "settings": {"capture": {"sample": 1.0}}}
    release = stage(repository, repository / "m.onnx", limits=limits, **kept)
    target.deploy("sums", release, [ROW] * 3)

    def ask_patiently(*arguments, **options):
        while (answer := ask(*arguments, **options)).status == 429:
            time.sleep(float(answer.headers["retry-after"]))
        return answer

    secret = "nobody's business"
    row = {**ROW, "grade": secret}
    assert ask_patiently(target.port, rows=[row] * 2, x_request_id="two").status == 200
    assert ask_patiently(target.port, rows=[row], x_request_id="one").status == 200
    answer = ask_patiently(target.port, rows=[ROW] * 3)
    assert (answer.status, answer.content["error"]) == (
        422,
        "request: rows: at most 2 are answered at once",
    )
    answer = ask_patiently(target.port, rows=[{**ROW, "grade": "A" * 1024}])
    assert (answer.status, answer.content["error"]) == (413, "request: is larger than 1024 bytes")

    run_dir = target.run_dir("sums")
    target.stop("sums")
    found = [
        captured.line
        for identity in ("one", "two")
        for captured in find_captured("here", capture_files(run_dir / CAPTURE), identity)
    ]
    assert [(each["inputs"], each["redacted"]) for each in found] == [
        ({"amount": 1.5, "count": 2}, ["grade", "new"])
    ] * 3
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert not [path for path in files if secret in path.read_text(errors="replace")]


def test_a_service_without_its_tokens_does_not_serve(target, repository, tmp_path):
    tokens = tmp_path / "tokens"
    release = stage(repository, repository / "m.onnx", auth={"file": str(tokens)})
    with pytest.raises(MlspecError, match=r"deployment.sums@here: .* is not a file"):
        target.deploy("sums", release, [])
    tokens.write_text("short\n")
    with pytest.raises(RolledBack, match="line 1 of the file of tokens has none"):
        target.deploy("sums", release, [])
    inside = target.root / "tokens"
    inside.write_text(TOKEN)
    release = stage(repository, repository / "m.onnx", auth={"file": str(inside)})
    with pytest.raises(MlspecError, match="is in the repository"):
        target.deploy("sums", release, [])


@pytest.mark.thorough
def test_a_rollout_reads_what_clients_need_a_token_for(target, repository, tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    first, second = (
        stage(repository, repository / "m.onnx", version=version, auth={"file": str(tokens)})
        for version in (1, 2)
    )
    target.deploy("sums", first, [ROW])
    assert ask(target.port, **bearer(TOKEN)).status == 200
    with target.try_out("sums", second, [ROW], splits=False) as trial:
        reading = trial.read()
        assert reading.champion.total >= 2
        trial.promote()
    assert ask(target.port, **bearer(TOKEN)).content["version"] == 2
    own = target.run_dir("sums") / OWN_TOKEN
    assert own.stat().st_mode & 0o077 == 0
    assert ask(target.port, "/metrics", (), **bearer(own.read_text())).status == 200
