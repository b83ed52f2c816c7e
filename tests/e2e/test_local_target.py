"""Real models, built by BentoML and served under the supervisor: answers, switches, failures."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy
import pytest

from mlspec.captures import read_rows
from mlspec.compilers.bento import compile_bento
from mlspec.errors import ExitCode, MlspecError, RolledBack
from mlspec.formats import inspect_artifact
from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.release import load_release, stage_release
from mlspec.providers.local.rundir import is_alive
from mlspec.spec.models import Artifact, Deployment, Model, Stage

pytestmark = pytest.mark.slow
NAME = "tumours"
PATIENCE = 120.0


def write_onnx(path, strength):
    from skl2onnx import to_onnx
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_breast_cancer()
    estimator = make_pipeline(StandardScaler(), LogisticRegression(C=strength))
    estimator.fit(data.data, data.target)
    example = data.data[:1].astype(numpy.float32)
    model = to_onnx(estimator, example, options={"zipmap": False})
    entry = model.metadata_props.add()
    entry.key, entry.value = "columns", json.dumps(data.feature_names.tolist())
    path.write_bytes(model.SerializeToString())


def write_skops(path):
    import pandas
    import skops.io
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    frame = pandas.DataFrame({"grade": ["A", "B", "A", "B"], "income": [1.0, 2.0, 3.0, 4.0]})
    prepare = ColumnTransformer([("texts", OneHotEncoder(), ["grade"])], remainder="passthrough")
    estimator = make_pipeline(prepare, LogisticRegression())
    skops.io.dump(estimator.fit(frame, ["no", "no", "yes", "yes"]), path)


def write_columns(path):
    """An ONNX model with a column of each type; it adds the count to the amount."""
    from onnx import TensorProto, helper

    columns = {"amount": "FLOAT", "count": "INT32", "grade": "STRING", "new": "BOOL"}
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["count"], ["wide"], to=TensorProto.FLOAT),
            helper.make_node("Add", ["amount", "wide"], ["sum"]),
        ],
        "graph",
        [
            helper.make_tensor_value_info(name, TensorProto.DataType.Value(kind), [None, 1])
            for name, kind in columns.items()
        ],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [None, 1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def stage(
    root, artifact, version, name=NAME, capture=None, edit=lambda text: text, runtime="bentoml"
):
    """A release; `edit` changes the text of its generated files."""
    kind = artifact.suffix[1:]
    model = Model(
        stages={"train": Stage(command="true")}, artifact=Artifact(path=artifact.name, format=kind)
    )
    deployment = Deployment(model="m", targets=("here",), runtime=runtime)
    files = compile_bento(name, deployment, "m", model, {})
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(edit(file.text))
    description = {
        "model": "m",
        "version": version,
        "digest": hashlib.md5(artifact.read_bytes()).hexdigest(),
        "commit": "0123456789abcdef",
        "signature": inspect_artifact(artifact, kind),
    }
    settings = {"cpus": 1, "memory": None, "capture": capture}
    folder = root / "services" / name
    names = tuple(file.path.rpartition("/")[2] for file in files)
    return stage_release(root, folder, artifact, description, settings, 10**9, names=names)


@pytest.fixture(scope="session")
def repository(tmp_path_factory):
    """A folder with three releases: two of ONNX, one of skops."""
    root = tmp_path_factory.mktemp("repository")
    for version, strength in ((1, 1.0), (2, 0.001)):
        write_onnx(root / f"m{version}.onnx", strength)
    write_skops(root / "m3.skops")
    return root


@pytest.fixture(scope="session")
def first(repository):
    return stage(repository, repository / "m1.onnx", 1)


@pytest.fixture(scope="session")
def second(repository):
    return stage(repository, repository / "m2.onnx", 2)


@pytest.fixture(scope="session", params=["bentoml", "asgi"])
def either(request, repository, first):
    """The first release, and one like it that runs without BentoML."""
    if request.param == "bentoml":
        return first
    return stage(repository, repository / "m1.onnx", 1, runtime=request.param)


@pytest.fixture(scope="session")
def row():
    from sklearn.datasets import load_breast_cancer

    data = load_breast_cancer()
    return dict(zip(data.feature_names.tolist(), data.data[0].tolist(), strict=True))


@pytest.fixture
def target(tmp_path, free_port):
    target = LocalTarget(tmp_path, "here", free_port())
    yield target
    target.destroy(NAME)


def ask(port, rows, headers=None, body=None, connection=None):
    """Status, headers and JSON of one answer; on a connection of its own if none is given."""
    used = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    text = json.dumps({"rows": rows}) if body is None else body
    used.request("POST", "/predict", text, headers or {})
    response = used.getresponse()
    content = response.read()
    if not connection:
        used.close()
    return response.status, response.headers, json.loads(content)


def wait_for(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def metrics_of(target):
    with urllib.request.urlopen(f"http://127.0.0.1:{target.port}/metrics", timeout=60) as answer:
        return answer.read().decode().splitlines()


def state_of(target):
    return json.loads((target.run_dir(NAME) / "state.json").read_text())


def test_answers(target, either, row):
    """One deployment, asked everything that a client may ask."""
    running = target.deploy(NAME, either, [row])
    assert (running.status, running.version, running.release) == ("serving", 1, either.digest)
    assert running == target.observe(NAME)

    status, headers, answer = ask(target.port, [row, row])
    assert status == 200
    assert headers["x-model-version"] == "1"
    assert headers["x-request-id"] == answer["id"]
    assert (answer["model"], answer["version"]) == ("m", 1)
    assert answer["predictions"] == [0, 0]
    assert [round(sum(values), 3) for values in answer["probabilities"]] == [1.0, 1.0]

    assert ask(target.port, [row], {"x-request-id": "order 7"})[2]["id"] == "order 7"
    assert ask(target.port, [row], {"x-request-id": "x" * 129})[2]["id"] != "x" * 129

    name = "mean area"
    refusals = [
        (422, {"rows": [row, {**row, name: "wide"}]}, f"row 1, column {name}: must be a number"),
        (422, {"rows": [{**row, name: True}]}, f"row 0, column {name}: must be a number"),
        (422, {"rows": [{**row, name: 1e300}]}, f"row 0, column {name}: is out of range"),
        (422, {"rows": [{**row, name: None}]}, f"row 0, column {name}: must be a number"),
        (422, {"rows": [{**row, "shoe": 1}]}, "row 0, column shoe: is not a column of this model"),
        (422, {"rows": [{k: v for k, v in row.items() if k != name}]}, f"column {name}: is missin"),
        (422, {"rows": [7]}, "row 0: must be an object"),
        (422, {"rows": []}, "rows: at least one is needed"),
        (422, {"rows": [row] * 1001}, "rows: at most 1000 are answered at once"),
        (422, {"rows": [row], "threshold": 1}, "unknown key 'threshold'"),
        (422, [], "must be an object"),
    ]
    for expected, body, message in refusals:
        status, headers, answer = ask(target.port, None, body=json.dumps(body))
        assert (status, message in answer["error"]) == (expected, True), answer
        assert headers["x-model-version"] == "1"
        assert headers["x-request-id"] == answer["id"]
    for value in ("NaN", '"\\ud800"', "1e999", "9" * 400):
        body = json.dumps({"rows": [row]}).replace(str(row[name]), value)
        assert value in body
        status, _, answer = ask(target.port, None, body=body)
        assert (status, answer["error"].startswith(f"row 0, column {name}")) == (422, True), answer
    assert ask(target.port, None, body="{")[0] == 400
    assert ask(target.port, None, body="[" * 100_000)[0] == 400
    assert ask(target.port, None, body="x" * (11 * 2**20))[0] == 413
    pickled = {"content-type": "application/vnd.bentoml+pickle"}
    assert ask(target.port, None, pickled, body=b"\x80\x04N.")[0] == 415

    # Values that were refused are nobody's business, nor are tracebacks.
    log = Path(state_of(target)["log"]).read_text()
    assert "wide" not in log
    assert "Traceback" not in log


def test_a_body_that_does_not_come(target, repository, row):
    def hurry(text):
        return text.replace("BODY_SECONDS = 30", "BODY_SECONDS = 1")

    target.deploy(NAME, stage(repository, repository / "m1.onnx", 1, edit=hurry), [row])
    head = "POST /predict HTTP/1.1\r\nhost: h\r\nx-request-id: slow\r\ncontent-length: 9\r\n\r\n{"
    with socket.create_connection(("127.0.0.1", target.port), timeout=PATIENCE) as line:
        line.sendall(head.encode())
        response = http.client.HTTPResponse(line)
        response.begin()
        answer = json.loads(response.read())
    assert (response.status, answer["error"]) == (408, "request: was not sent within 1 s")
    assert response.headers["x-model-version"] == "1"
    assert response.headers["x-request-id"] == answer["id"] == "slow"

    with socket.create_connection(("127.0.0.1", target.port), timeout=PATIENCE) as line:
        line.sendall(head.encode())
    assert ask(target.port, [row])[0] == 200
    assert "Traceback" not in Path(state_of(target)["log"]).read_text()


def test_what_else_is_served(target, either, row):
    target.deploy(NAME, replace(either, capture=1.0), [])
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=PATIENCE)

    def get(path):
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()

    assert get("/readyz")[0] == 200
    assert get("/healthz")[0] == 200
    assert get("/elsewhere")[0] == 404
    assert get("/predict")[0] == 405
    schema = json.loads(get("/schema.json")[1])
    assert "mean area" in json.dumps(schema["routes"][0]["input"])
    for rows in ([row], [row, row], [{}]):
        ask(target.port, rows, connection=connection)
    metrics = get("/metrics")[1].splitlines()
    for line in (
        'mlspec_model_info{deployment="tumours",model="m",version="1"} 1.0',
        'mlspec_requests_total{status="200"} 2.0',
        'mlspec_requests_total{status="422"} 1.0',
        'mlspec_request_seconds_bucket{le="+Inf"} 3.0',
        "mlspec_request_seconds_count 3.0",
        "mlspec_requests_in_flight 0.0",
        "mlspec_rows_total 3.0",
        'mlspec_predictions_total{class="0"} 3.0',
        "mlspec_capture_dropped_total 0.0",
    ):
        assert line in metrics
    connection.close()


def captured(target):
    """The lines of all files, once the workers have ended."""
    target.stop(NAME)
    files = list((target.run_dir(NAME) / "capture").glob("*"))
    assert all(file.stat().st_mode & 0o077 == 0 for file in files)
    lines = (line for file in files for line in file.read_bytes().splitlines())
    return [row for line in lines for row in read_rows(line)]


def test_predictions_are_captured_but_those_of_smoke_requests(target, either, row):
    target.deploy(NAME, replace(either, capture=1.0), [row])
    identities = [ask(target.port, [row, row])[2]["id"] for _ in range(5)]
    only = json.dumps([row])
    # of a key that comes twice, the last one counts
    status, _, twice = ask(target.port, [], body=f'{{"rows": {only},\r\n "rows": {only}}}')
    assert status == 200
    lines = captured(target)
    assert [(line["id"], line["row"]) for line in lines] == [
        *((identity, number) for identity in identities for number in (0, 1)),
        (twice["id"], 0),
    ]
    assert lines[-1]["inputs"] == row
    assert lines[0]["inputs"] == row
    assert lines[0]["model_version"] == 1
    assert lines[0]["output"]["prediction"] == 0


def test_who_has_the_token_is_not_captured(target, first, row):
    target.deploy(NAME, replace(first, capture=1.0), [row])
    token = target.run_dir(NAME) / "capture.token"
    assert token.stat().st_mode & 0o077 == 0
    wishes = (f"no {token.read_text()}", "no", "no ", f"no {'0' * 32}", token.read_text())
    identities = [
        ask(target.port, [row], headers={"x-mlspec-capture": wish})[2]["id"] for wish in wishes
    ]
    assert [line["id"] for line in captured(target)] == identities[1:]


def test_a_body_larger_than_what_is_written_at_once_is_captured(target, first, row):
    target.deploy(NAME, replace(first, capture=1.0), [row])
    bodies = [json.dumps({"rows": [row] * 900}, indent=8), json.dumps({"rows": [row]})]
    assert len(bodies[0]) > 2**19
    for body in bodies * 2:
        assert ask(target.port, [], body=body)[0] == 200
    assert [line["row"] for line in captured(target)] == [*range(900), 0] * 2


def test_nothing_is_captured_unasked(target, first, row):
    target.deploy(NAME, first, [row])
    assert ask(target.port, [row])[0] == 200
    assert captured(target) == []


def test_a_share_of_requests_is_captured(target, first, row):
    target.deploy(NAME, replace(first, capture=0.5), [row])
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=PATIENCE)
    for _ in range(400):
        ask(target.port, [row, row], connection=connection)
    connection.close()
    lines = captured(target)
    # Beyond these is less likely than one in a million.
    assert 140 < len(lines) / 2 < 260
    assert len({line["id"] for line in lines}) == len(lines) / 2, "rows of a request stay together"


def test_no_request_fails_during_switches(target, first, second, row):
    target.deploy(NAME, first, [row])
    served, failed, done = Counter(), [], threading.Event()

    def send(connection):
        try:
            status, headers, answer = ask(target.port, [row], connection=connection)
            if status != 200 or headers["x-model-version"] != str(answer["version"]):
                failed.append(answer)
            served[answer["version"]] += 1
        except Exception as error:
            failed.append(repr(error))

    def send_on_one_connection():
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=PATIENCE)
        while not done.is_set():
            send(connection)
        connection.close()

    def send_on_new_connections():
        while not done.is_set():
            send(None)

    senders = [
        threading.Thread(target=sender)
        for sender in (send_on_one_connection, send_on_new_connections) * 3
    ]
    for sender in senders:
        sender.start()
    try:
        for release in (second, first, second):
            running = target.deploy(NAME, release, [row])
            assert running.version == release.version
            before = served[release.version]
            wait_for(lambda: served[release.version] > before + 100)  # noqa: B023
    finally:
        done.set()
        for sender in senders:
            sender.join()
    assert failed == []
    assert sum(served.values()) >= 1000
    assert set(served) == {1, 2}
    assert len(state_of(target)["ready"]) == 1


def test_a_smoke_request_that_fails_keeps_the_old(target, first, second, row):
    target.deploy(NAME, first, [row])
    with pytest.raises(RolledBack, match=r"smoke request 2 of 2 got 422: row 0, column") as caught:
        target.deploy(NAME, second, [row, {"shoe": 1}])
    assert caught.value.exit_code is ExitCode.ROLLED_BACK
    assert "version 2 of m was not taken into service" in caught.value.message
    assert target.observe(NAME).version == 1
    assert ask(target.port, [row])[2]["version"] == 1
    # The way is free for the next.
    assert target.deploy(NAME, second, [row]).version == 2


def test_a_release_that_is_not_ready_keeps_the_old(target, first, second, row, tmp_path):
    target.deploy(NAME, first, [row])
    folder = tmp_path / "broken"
    shutil.copytree(second.path, folder)
    broken = load_release(folder)
    (broken.bento / "src/model/artifact.onnx").write_bytes(b"no model")
    with pytest.raises(RolledBack, match="ended with exit code 3 before it was ready") as caught:
        target.deploy(NAME, broken, [row])
    assert "INVALID_PROTOBUF" in caught.value.message
    with pytest.raises(RolledBack, match="not ready within 0 s"):
        replace(target, ready_seconds=0.01).deploy(NAME, second, [row])
    assert ask(target.port, [row])[2]["version"] == 1


def test_a_first_release_that_fails_leaves_nothing_running(target, first):
    with pytest.raises(RolledBack):
        target.deploy(NAME, first, [{"shoe": 1}])
    assert target.observe(NAME) is None
    with socket.socket() as line:
        assert line.connect_ex(("127.0.0.1", target.port)) != 0
    assert len(target.logs(NAME)) == 2


def test_a_killed_worker_is_started_again(target, first, row):
    target.deploy(NAME, replace(first, workers=2), [row])
    for _ in range(10):
        assert ask(target.port, [row])[0] == 200
    # Whichever worker answers, it counts for both; the row of the smoke test is one more.
    wait_for(lambda: 'mlspec_requests_total{status="200"} 11.0' in metrics_of(target))
    victim, other = state_of(target)["ready"]
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: target.observe(NAME).restarts == 1 and target.observe(NAME).ready == 2)
    assert other in state_of(target)["ready"]
    assert victim not in state_of(target)["ready"]
    assert ask(target.port, [row])[0] == 200


def test_the_supervisor_outlives_the_process_that_started_it(target, first, row):
    code = (
        "import sys; from pathlib import Path\n"
        "from mlspec.providers.local.client import LocalTarget\n"
        "from mlspec.providers.local.release import load_release\n"
        "target = LocalTarget(Path(sys.argv[1]), 'here', int(sys.argv[2]))\n"
        "target.deploy(sys.argv[4], load_release(Path(sys.argv[3])), [])\n"
    )
    arguments = [str(target.root), str(target.port), str(first.path), NAME]
    # Its pipes are closed when it ends, which a daemon that holds them would prevent.
    subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True,
        capture_output=True,
        timeout=2 * PATIENCE,
        start_new_session=True,
        env={**os.environ, "SECRET_TOKEN": "hidden"},
    )
    assert target.observe(NAME).status == "serving"
    assert ask(target.port, [row])[0] == 200
    state = state_of(target)
    for process in (state["pid"], *state["ready"]):
        environment = Path(f"/proc/{process}/environ")
        if environment.exists():
            assert b"hidden" not in environment.read_bytes()


def test_a_service_whose_checkout_is_deleted_ends(target, first, row):
    target.deploy(NAME, first, [row])
    state = state_of(target)
    shutil.rmtree(target.run_dir(NAME))
    processes = [state["pid"], *state["ready"]]
    wait_for(lambda: not any(Path(f"/proc/{process}").exists() for process in processes))
    with socket.create_server(("127.0.0.1", target.port)):
        pass  # the port is free


def test_modules_of_the_repository_are_not_imported(target, first, row, monkeypatch):
    for name in ("asyncio", "mlspec", "resource", "service", "types"):
        (target.root / f"{name}.py").write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(target.root)
    assert target.deploy(NAME, first, [row]).status == "serving"


def test_an_apply_that_is_killed_leaves_no_candidate(target, first, second, row):
    target.deploy(NAME, first, [row])
    from mlspec.providers.local import client

    with client._connect(target.run_dir(NAME)) as command:
        command(do="deploy", launch=client.make_launch(second, 1.0), port=target.port)
        with pytest.raises(MlspecError, match="another apply is deploying version 2"):
            target.deploy(NAME, second, [row])
    # What was asked for on that line ends with it.
    assert target.deploy(NAME, second, [row]).version == 2


def test_an_apply_that_is_killed_while_it_waits_leaves_no_candidate(target, first, second, row):
    target.deploy(NAME, first, [row])
    from mlspec.providers.local import client

    with socket.socket(socket.AF_UNIX) as line:
        line.connect(state_of(target)["control"])
        launch = client.make_launch(second, 1.0)
        for command in (
            {"do": "deploy", "launch": launch, "port": target.port},
            {"do": "await", "seconds": 60},
        ):
            line.sendall(json.dumps(command).encode() + b"\n")
            time.sleep(0.2)
    time.sleep(0.2)
    assert target.deploy(NAME, second, [row]).version == 2


def test_a_port_in_use_is_named_with_its_holder(target, first):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", target.port))
        holder.listen()
        with pytest.raises(MlspecError, match=f"port {target.port} is in use") as caught:
            target.deploy(NAME, first, [])
        if sys.platform == "linux":
            assert f"process {os.getpid()}" in caught.value.message
    assert target.observe(NAME) is None


def test_a_supervisor_that_is_ending_by_itself_is_no_obstacle(target, first, row):
    """It still holds its lock, but answers nobody any more."""
    run_dir = target.run_dir(NAME)
    run_dir.mkdir(parents=True)
    dying = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, 2); sys.stdin.read()"
    command = [sys.executable, "-c", dying, str(run_dir / "lock")]
    for act in (lambda: target.stop(NAME), lambda: target.deploy(NAME, first, [row])):
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            wait_for(lambda: is_alive(run_dir))
            threading.Timer(1, process.stdin.close).start()
            act()
    assert ask(target.port, [row])[0] == 200


def test_a_target_moves_to_another_port(target, first, second, row, free_port):
    target.deploy(NAME, first, [row])
    moved = replace(target, port=free_port())
    assert moved.deploy(NAME, second, [row]).url.endswith(str(moved.port))
    assert ask(moved.port, [row])[2]["version"] == 2
    with socket.socket() as line:
        assert line.connect_ex(("127.0.0.1", target.port)) != 0


def test_stop_start_and_a_supervisor_that_was_killed(target, first, row):
    with pytest.raises(MlspecError, match="was never deployed here"):
        target.start(NAME)
    target.deploy(NAME, first, [row])
    target.stop(NAME)
    assert target.observe(NAME).status == "stopped"
    target.stop(NAME)
    assert target.start(NAME).status == "serving"
    assert ask(target.port, [row])[0] == 200

    state = state_of(target)
    os.kill(state["pid"], signal.SIGKILL)
    wait_for(lambda: target.observe(NAME).status == "down")
    # Workers do not stay behind, or they would keep the port.
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in state["ready"]))
    assert target.start(NAME).status == "serving"
    target.destroy(NAME)
    assert target.observe(NAME) is None
    assert not target.run_dir(NAME).exists()


def test_a_long_path_has_its_sockets_elsewhere(tmp_path, first, row, free_port):
    root = tmp_path / ("long" * 25)
    root.mkdir()
    target = LocalTarget(root, "here", free_port())
    try:
        target.deploy(NAME, first, [row])
        assert ask(target.port, [row])[0] == 200
        folder = Path(state_of(target)["control"]).parent
        assert not folder.is_relative_to(root)
        assert folder.stat().st_mode & 0o077 == 0
    finally:
        target.destroy(NAME)
    assert not folder.exists()


def test_a_skops_model(target, repository):
    release = stage(repository, repository / "m3.skops", 3, name="loans")
    target.deploy(NAME, release, [{"grade": "B", "income": 4.0}])
    rows = [{"grade": "A", "income": -30.0}, {"grade": "B", "income": 40}]
    answer = ask(target.port, rows)[2]
    assert answer["predictions"] == ["no", "yes"]
    assert ask(target.port, [{"grade": 1, "income": 1.0}])[2]["error"] == (
        "row 0, column grade: must be text"
    )
    # A category that the model has never seen is the caller's mistake.
    unseen = [*rows, {"grade": "Zebra", "income": 1.0}, *rows]
    status, _, answer = ask(target.port, unseen)
    assert (status, answer["error"]) == (422, "row 2: the model can not answer it")
    assert "Zebra" not in Path(state_of(target)["log"]).read_text()


def test_a_model_with_a_column_of_each_type(target, repository):
    path = repository / "m4.onnx"
    write_columns(path)
    row = {"amount": 1.5, "count": 2, "grade": "A", "new": True}
    target.deploy(NAME, stage(repository, path, 4, name="columns"), [row])
    answer = ask(target.port, [row, {**row, "count": -3}])[2]
    assert answer["predictions"] == [3.5, -1.5]
    assert "probabilities" not in answer
    metrics = metrics_of(target)  # with the row of the smoke test
    for line in (
        'mlspec_prediction_bucket{le="1.0"} 1.0',
        'mlspec_prediction_bucket{le="10.0"} 3.0',
        "mlspec_prediction_sum 5.5",
        "mlspec_prediction_count 3.0",
    ):
        assert line in metrics
    for column, value, problem in [
        ("count", 2**31, "is out of range"),
        ("count", 2**64, "is out of range"),
        ("count", 2.5, "must be a whole number"),
        ("grade", 1, "must be text"),
        ("new", 1, "must be true or false"),
        ("amount", "1", "must be a number"),
    ]:
        status, _, answer = ask(target.port, [row, {**row, column: value}])
        assert (status, answer["error"]) == (422, f"row 1, column {column}: {problem}")


def test_the_same_release_is_the_same_bento(tmp_path, repository):
    def bytes_of(root):
        release = stage(root, repository / "m1.onnx", 1)
        paths = sorted(path for path in release.bento.rglob("*") if path.is_file())
        return {path.relative_to(release.bento): path.read_bytes() for path in paths}

    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    assert bytes_of(one) == bytes_of(two)


def test_a_kept_release_that_was_changed_is_staged_anew(tmp_path, repository, first):
    root = tmp_path / "root"
    shutil.copytree(first.path, root / ".mlspec/releases" / first.path.name)

    def staged():
        return stage(root, repository / "m1.onnx", 1)

    began = staged().path.stat().st_ino
    assert staged().path.stat().st_ino == began
    changes = [
        lambda release: (release.bento / "src/model/artifact.onnx").write_bytes(b"no model"),
        lambda release: (release.bento / "src/service.py").unlink(),
        lambda release: (release.bento / "src/numpy.py").write_text("raise SystemExit"),
        lambda release: (release.path / "release.json").write_text("{}"),
    ]
    for change in changes:
        release = staged()
        change(release)
        with pytest.raises(MlspecError, match="not"):
            load_release(release.path)
        assert staged() == release
        assert (release.bento / "src/model/artifact.onnx").read_bytes() == (
            repository / "m1.onnx"
        ).read_bytes()
    assert [path.name for path in (root / ".mlspec/releases").iterdir()] == [first.path.name]


def test_a_start_that_fails_is_made_good_by_the_next_apply(served):
    served.mlspec("stop", "loans")
    folder = Path(served.serving()["folder"])
    next(folder.glob("home/bentos/*/*/src/model/artifact.*")).write_bytes(b"no model")
    failed = served.mlspec("start", "loans", code=1)
    assert "its files are not those that were staged" in failed.stderr
    assert served.plan()["deployment.loans@local"]["reason"] == "drift: it is not running"
    served.apply()
    assert served.ask(income=1000)[0] == 1


def test_a_deployment_changes_what_runs_it(served):
    assert served.ask(income=1000)[0] == 1
    served.edit("    model: loans\n", "    model: loans\n    runtime: asgi\n")
    served.commit("Serve without BentoML")
    assert served.apply() == []
    assert served.ask(income=1000)[0] == 1
    files = {path.name for path in (served.root / "services/loans").iterdir()}
    assert files == {"requirements.txt", "service.py"}
    assert "bentoml" not in served.read("services/loans/requirements.txt")
    assert served.plan() == {}


def test_a_bento_runs_without_mlspec(first, row, tmp_path, free_port):
    port = free_port()
    command = [sys.executable, "-m", "bentoml", "serve", str(first.bento), "--host", "127.0.0.1"]
    with (tmp_path / "log").open("wb") as log:
        serving = subprocess.Popen(
            [*command, "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, "BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True"},
        )
    try:

        def answers():
            try:
                return ask(port, [row])[0] == 200
            except OSError:
                return False

        wait_for(answers)
    finally:
        serving.terminate()
        serving.wait(timeout=PATIENCE)
