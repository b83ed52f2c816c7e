"""How each contender is started, on a port of its own, with the same model and one worker."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import psutil

from benchmarks.serving.model import COLUMNS
from mlspec.compilers.bento import compile_bento
from mlspec.formats import inspect_artifact
from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.release import stage_release
from mlspec.providers.target import Release
from mlspec.spec.models import Artifact, Deployment, Model, Stage

CONTENDERS = Path(__file__).parent / "contenders"
BIN = Path(sys.executable).parent
PEERS = Path("build/serving").resolve()
"""A virtual environment for each framework that can not live with the others."""
START_SECONDS = 120.0
Rows = Sequence[Mapping[str, float]]


@dataclass
class Running:
    """A service that answers: `process` is the first of its tree."""

    name: str
    process: int
    url: str
    body: Callable[[Rows], Any]
    end: Callable[[], None]
    ready: float
    """Seconds from its start to its first answer."""
    again: Callable[[], Any] | None = None
    """Deploys it in the place of itself."""
    bodies: dict[int, Path] = field(default_factory=dict)

    def body_file(self, folder: Path, rows: Rows) -> Path:
        """A request with these rows, as this service takes it."""
        if len(rows) not in self.bodies:
            path = folder / f"{self.name}-{len(rows)}.json".replace(" ", "-")
            path.write_text(json.dumps(self.body(rows)))
            self.bodies[len(rows)] = path
        return self.bodies[len(rows)]


def as_rows(rows: Rows) -> Any:
    return {"rows": list(rows)}


def as_tensor(rows: Rows) -> Any:
    """The protocol of MLServer."""
    data = [row[column] for row in rows for column in COLUMNS]
    shape = [len(rows), len(COLUMNS)]
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}]}


def as_records(rows: Rows) -> Any:
    """The protocol of MLflow."""
    return {"dataframe_records": list(rows)}


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


def start(
    name: str,
    command: Sequence[str],
    port: int,
    model: Path,
    folder: Path,
    *,
    rows: Rows,
    path: str = "/predict",
    body: Callable[[Rows], Any] = as_rows,
    environment: Mapping[str, str] | None = None,
    cwd: Path = CONTENDERS,
) -> Running:
    """Run a server until it answers the rows; what it says goes into a file."""
    log = (folder / f"{name}.log".replace(" ", "-")).open("wb")
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={
            **os.environ,
            "BENCH_MODEL": str(model),
            "BENCH_PORT": str(port),
            "BENTOML_DO_NOT_TRACK": "True",
            "BENTOML_HOME": str(folder / "bentoml"),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "PYTHONPATH": str(cwd),
            **(environment or {}),
        },
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        # As a supervisor is: Linux shares processors out by sessions.
        start_new_session=True,
    )

    def end() -> None:
        tree = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        psutil.wait_procs(tree, timeout=10)
        for left in tree:
            if left.is_running():
                left.kill()
        process.wait()
        log.close()

    await_answer(name, process.poll, port, path, json.dumps(body(rows)), Path(log.name))
    url = f"http://127.0.0.1:{port}{path}"
    return Running(name, process.pid, url, body, end, time.monotonic() - began)


def await_answer(
    name: str, ended: Callable[[], int | None], port: int, path: str, body: str, log: Path
) -> None:
    deadline = time.monotonic() + START_SECONDS
    said = "nothing"
    while time.monotonic() < deadline and ended() is None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("POST", path, body, {"content-type": "application/json"})
            answer = connection.getresponse()
            said = f"{answer.status} {answer.read()[:300]!r}"
            if answer.status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.01)
    raise SystemExit(f"{name} does not answer: {said}\n{log.read_text()[-2000:]}")


# The generated service ----------------------------------------------------------------------------


def stage(root: Path, model: Path, runtime: str) -> Release:
    """A release of the model, made as an apply makes it."""
    spec = Model(
        stages={"train": Stage(command="true")}, artifact=Artifact(path="m.onnx", format="onnx")
    )
    deployment = Deployment.model_validate({"model": "m", "targets": ("here",), "runtime": runtime})
    name = f"bench-{runtime}"
    files = compile_bento(name, deployment, "m", spec, {})
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    description = {
        "model": "m",
        "version": 1,
        "digest": hashlib.md5(model.read_bytes()).hexdigest(),
        "commit": "0" * 40,
        "signature": inspect_artifact(model, "onnx"),
    }
    return stage_release(
        root,
        root / "services" / name,
        model,
        description,
        {"cpus": 1, "memory": None, "capture": None},
        10**9,
        names=[file.path.rpartition("/")[2] for file in files],
    )


def start_generated(
    name: str, release: Release, root: Path, rows: Rows, *, capture: float | None = None
) -> Running:
    """Deploy on the local target; its tree begins with the supervisor."""
    target = LocalTarget(root, name.replace(" ", "-"), free_port())
    deployment = release.bento.parent.name
    began = time.monotonic()
    running = target.deploy(deployment, replace(release, capture=capture), [rows[0]])
    ready = time.monotonic() - began
    state = json.loads((target.run_dir(deployment) / "state.json").read_text())
    return Running(
        name,
        state["pid"],
        f"{running.url}/predict",
        as_rows,
        lambda: target.destroy(deployment),
        ready,
        lambda: target.deploy(deployment, replace(release, capture=capture), [rows[0]]),
    )


def start_bare(name: str, release: Release, folder: Path, rows: Rows) -> Running:
    """The same service, started as one does without mlspec."""
    port = free_port()
    if (release.bento / "bento.yaml").exists():
        command = ["bentoml", "serve", str(release.bento), "--host", "127.0.0.1"]
    else:
        command = ["uvicorn", "service:app", "--no-access-log"]
    command = [str(BIN / command[0]), *command[1:], "--port", str(port)]
    return start(name, command, port, release.bento, folder, rows=rows, cwd=release.bento / "src")


# By hand, and other frameworks --------------------------------------------------------------------


def start_uvicorn(name: str, module: str, model: Path, folder: Path, rows: Rows) -> Running:
    port = free_port()
    command = [
        str(BIN / "uvicorn"), f"{module}:app", "--port", str(port), "--no-access-log",
        "--loop", "uvloop", "--http", "httptools",
    ]  # fmt: skip
    return start(name, command, port, model, folder, rows=rows)


def start_bentoml(name: str, model: Path, folder: Path, rows: Rows) -> Running:
    port = free_port()
    command = [
        str(BIN / "bentoml"), "serve", "bentoml_default:Default", "--host", "127.0.0.1",
        "--port", str(port),
    ]  # fmt: skip
    return start(name, command, port, model, folder, rows=rows)


def start_litserve(name: str, model: Path, folder: Path, rows: Rows) -> Running:
    python = peer("litserve", "litserve")
    return start(
        name, [str(python), "litserve_service.py"], free := free_port(), model, folder, rows=rows,
        environment={"BENCH_PORT": str(free)},
    )  # fmt: skip


def start_mlserver(name: str, model: Path, folder: Path, rows: Rows) -> Running:
    python = peer("mlserver", "mlserver")
    place = folder / f"mlserver-{model.stem}"
    place.mkdir(exist_ok=True)
    for file in ("session.py", "mlserver_model.py"):
        shutil.copy(CONTENDERS / file, place)
    port = free_port()
    settings = {
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": free_port(),
        "metrics_port": free_port(),
        "parallel_workers": 0,
        "debug": False,
    }
    (place / "settings.json").write_text(json.dumps(settings))
    described = {"name": "m", "implementation": "mlserver_model.Predictor"}
    (place / "model-settings.json").write_text(json.dumps(described))
    command = [str(python.with_name("mlserver")), "start", "."]
    return start(
        name, command, port, model, folder, rows=rows, cwd=place,
        path="/v2/models/m/infer", body=as_tensor,
    )  # fmt: skip


def start_mlflow(name: str, model: Path, folder: Path, rows: Rows) -> Running:
    python = peer("mlflow", "mlflow")
    place = folder / f"mlflow-{model.stem}"
    if not place.exists():
        environment = {**os.environ, "BENCH_MODEL": str(model)}
        subprocess.run(
            [str(python), "mlflow_model.py", str(place)],
            cwd=CONTENDERS, env=environment, check=True, capture_output=True,
        )  # fmt: skip
    port = free_port()
    command = [
        str(python), "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port),
        "--workers", "1", "mlflow.pyfunc.scoring_server.app:app",
    ]  # fmt: skip
    return start(
        name, command, port, model, folder, rows=rows, path="/invocations", body=as_records,
        environment={"__pyfunc_model_path__": str(place)},
    )  # fmt: skip


def peer(name: str, *packages: str) -> Path:
    """The Python of a framework's own environment, which is made if it is not there."""
    folder = PEERS / name
    python = folder / "bin/python"
    if not python.exists() or not (folder / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        wanted = [*packages, f"onnxruntime=={_version('onnxruntime')}"]
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        (folder / "installed").touch()
    return python


def _version(package: str) -> str:
    from importlib.metadata import version

    return version(package)
