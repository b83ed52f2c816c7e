"""Rollouts by the command line with generated services under load, and what they cost, as a table.

A class of the repository answers as well or as badly as the data says that it was made of, so each
release is a version of the model. The table is printed with `-s`:
`pytest -s -m container tests/e2e/test_rollouts_shown.py`.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mlspec.providers.targets import make_target
from tests.e2e.conftest import Checkout, Project
from tests.e2e.containers import BASE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("haproxy", path="/usr/sbin:/usr/bin") is None, reason="HAProxy"
    ),
]
PATIENCE = 120.0
READY = 30.0
RETURN_SECONDS = READY + 30
"""Within which what served before must have all requests again."""
ADDRESS = "deployment.line@here"
GOOD = {"errors": 0, "sleep": 0.0, "yes": 30, "start": 0}
SPEC = """\
mlspec: 1
project: {project}
python: {{version: "{version}", image: "{base}"}}
datasets: {{behaviour: {{path: data/behaviour.json}}}}
models:
  line:
    stages:
      make: {{command: python src/make.py, inputs: [behaviour], outputs: [models/line]}}
    artifact:
      path: models/line
      format: python
      class: line.serving:Predictor
      columns: {{x: number}}
targets: {{here: {target}}}
deployments:
  line:
    model: line
    targets: [here]
    runtime: asgi
    resources: {{cpus: 1, memory: 512MiB}}
    rollout: {rollout}
"""
CANARY = (
    "{strategy: canary, steps: [20%, 50%], bake: 1s, min_requests: 60, "
    "abort_if: {error_rate: 10%, latency_p95: 500ms, prediction_drift: 0.3}}"
)
BLUE_GREEN = CANARY.replace("canary, steps: [20%, 50%]", "blue-green")
FILES = {
    "src/make.py": """\
import shutil
from pathlib import Path

Path("models/line").mkdir(parents=True, exist_ok=True)
shutil.copy("data/behaviour.json", "models/line/behaviour.json")
""",
    "src/line/__init__.py": "",
    "src/line/serving.py": """\
import json
import os
import sys
import time
from pathlib import Path


class Predictor:
    def __init__(self, path):
        self.told = json.loads(Path(path, "behaviour.json").read_text())
        if "uvicorn" in sys.modules:  # what no trial of the class before finds
            if self.told["start"] < 0:
                os._exit(3)
            time.sleep(self.told["start"])

    def predict(self, rows):
        time.sleep(self.told["sleep"])
        if rows[0]["x"] > 100 - self.told["errors"]:
            raise RuntimeError("such rows are not understood")
        return ["yes" if row["x"] < self.told["yes"] else "no" for row in rows]
""",
}


@dataclass
class Answer:
    """`status` 0: none came."""

    at: float
    status: int
    version: int


@dataclass
class Clients:
    """Requests without a pause from a few threads, half of them on new connections each time."""

    port: int
    answers: list[Answer] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def send(self, *, keep: bool) -> None:
        line = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        while not self._done.is_set():
            status, version = 0, 0
            try:
                body = json.dumps({"rows": [{"x": random.uniform(0, 100)}]})
                line.request("POST", "/predict", body, {"content-type": "application/json"})
                answer = line.getresponse()
                answer.read()
                status, version = answer.status, int(answer.headers.get("x-model-version", 0))
            except (OSError, http.client.HTTPException):
                line.close()
            self.answers.append(Answer(time.monotonic(), status, version))
            if not keep:
                line.close()
            time.sleep(0.02)
        line.close()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.send, kwargs={"keep": n % 2 == 0}) for n in (1, 2)]
        threads += [threading.Thread(target=self.send, kwargs={"keep": n % 2 == 0}) for n in (3, 4)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._done.set()
            for thread in threads:
                thread.join()


@dataclass
class Stage:
    """The project, where it is deployed, and a row for each release that was tried."""

    project: Project
    port: int
    kind: str
    rows: list[str] = field(default_factory=list)
    version: int = 0

    def behave(self, **behaviour: float) -> None:
        """Commit a model that behaves so, the next version."""
        self.version += 1
        told = {**GOOD, **behaviour, "version": self.version}
        (self.project.root / "data").mkdir(exist_ok=True)
        self.project.write("data/behaviour.json", json.dumps(told))
        self.project.commit(f"Version {self.version}")

    @contextmanager
    def rolled(self, case: str, *, back_to: int | None = None) -> Iterator[Callable[[], float]]:
        """A block in which the newest version is rolled out, while requests come. What is given
        says when requests ought to go back, and is called at that time, unless they do so by
        themselves. Afterwards nobody was without an answer, and only the right one answers."""
        clients, marks = Clients(self.port), []

        def mark() -> float:
            marks.append(time.monotonic())
            return marks[-1]

        with clients.at_work():
            began = time.monotonic()
            yield mark
            ended = time.monotonic()
            stays = self.version if back_to is None else back_to
            self.wait_for(lambda: {each.version for each in clients.answers[-40:]} == {stays})
        answers = clients.answers
        mine = [each for each in answers if each.version == self.version]
        own = [each for each in mine if each.status == 500]
        lost = [each for each in answers if each.status != 200 and each not in own]
        start = marks[0] if marks else mine[0].at if mine else began
        last = max([each.at for each in mine if each.at <= ended + 5] or [ended])
        took = f"{last - start:8.1f}" if back_to is not None else f"{'-':>8}"
        said = "promoted" if back_to is None else "went back"
        self.show(
            f"| {self.kind:<7} | {case:<28} | {said:<9} | {len(answers):8} | {len(mine):9} "
            f"| {len(own):10} | {len(lost):9} | {took} |"
        )
        assert lost == []
        if back_to is not None:
            assert last - start <= RETURN_SECONDS
            assert not [each for each in mine if each.at > ended + 1]

    def has_begun(self) -> bool:
        """Whether a process of the newest version was started."""
        if self.kind == "local":
            logs = self.project.root.glob(".mlspec/run/line@here/logs/*.log")
            return len(list(logs)) == self.version
        labels = {"project": f"words{self.port}", "version": self.version}
        chosen = [f"--filter=label=dev.mlspec.{key}={value}" for key, value in labels.items()]
        return bool(self.project.run("podman", "ps", "--all", "--quiet", *chosen).stdout)

    def show(self, row: str) -> None:
        """Tell at once: what comes after may fail."""
        head = "" if self.rows else f"\n{HEAD}\n"
        self.rows.append(row)
        sys.stdout.write(f"{head}{row}\n")

    def apply(self, code: int) -> str:
        return self.project.mlspec("apply", "--yes", code=code).stderr

    def wait_for(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "waited in vain"
            time.sleep(0.2)

    def shown(self) -> dict[str, Any]:
        """Where the rollout is; empty while there is none."""
        told: dict[str, Any] = self.project.json("rollout", "status", "line")
        return told["rollout"] if told["active"] and told["rollout"] else {}


MakeStage = Callable[..., Stage]
Show = Callable[[Stage], None]


@pytest.fixture
def make_stage(tmp_path: Path, checkout: Checkout, free_port: Callable[[], int]) -> Iterator[Any]:
    stages: list[Stage] = []

    def make(kind: str, keys: str = "", **environment: str) -> Stage:
        found, port = checkout(tmp_path / "words"), free_port()
        project = replace(found, environment={**found.environment, **environment})
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        target = f"{{kind: {kind}, port: {port}{keys}}}"
        names = {"project": f"words{port}", "version": version, "base": BASE}
        spec = SPEC.format(**names, target=target, rollout=CANARY)
        for path, text in {**FILES, "mlspec.yaml": spec}.items():
            (project.root / path).parent.mkdir(parents=True, exist_ok=True)
            project.write(path, text)
        project.git("init", "--quiet", "--initial-branch", "main")
        stages.append(Stage(project, port, kind))
        return stages[-1]

    yield make
    for stage in stages:
        place = {"project": f"words{stage.port}", "engine": "podman"}
        root = stage.project.root
        make_target(root, "here", kind=stage.kind, port=stage.port, place=place).destroy("line")


HEAD = (
    "| target  | the new release              | ended     | requests | answered  "
    "| own errors | otherwise | s to     |\n"
    "|         |                              |           |          | by it     "
    "|            | failed    | return   |\n"
    "|---------|------------------------------|-----------|----------|-----------"
    "|------------|-----------|----------|"
)


def show_canaries(stage: Stage) -> None:
    stage.behave()
    stage.apply(0)
    with stage.rolled("good"):
        stage.behave()
        stage.apply(0)
    for case, said, behaviour in (
        ("bad by errors", "requests failed", {"errors": 40}),
        ("bad by latency", "latency_p95", {"sleep": 0.7}),
        ("bad by predictions", "prediction_drift", {"yes": 90}),
    ):
        with stage.rolled(case, back_to=2):
            stage.behave(**behaviour)
            assert said in stage.apply(6)
        assert "was refused" in stage.project.held()[ADDRESS]
        stage.apply(0)
        assert "was refused" in stage.project.held()[ADDRESS], "it is not tried again"


def show_one_that_is_not_ready(stage: Stage) -> None:
    """On this machine it ends by itself, in containers it never gets ready."""
    dead = stage.kind == "local"
    stage.behave()
    stage.apply(0)
    with stage.rolled("bad by readiness", back_to=1) as begins:
        stage.behave(start=-1 if dead else 3600)
        applying = threading.Thread(target=stage.apply, args=(6,))
        applying.start()
        stage.wait_for(stage.has_begun)
        begins()
        applying.join()
    assert "was refused" in stage.project.held()[ADDRESS]


def show_one_in_doubt(stage: Stage) -> None:
    stage.behave()
    stage.apply(0)
    stage.project.edit("min_requests: 60", "min_requests: 1000000")
    with stage.rolled("in doubt, paused, aborted", back_to=1) as now:
        stage.behave()
        applying = subprocess.Popen(
            ["mlspec", "apply", "--yes"],
            cwd=stage.project.root,
            env=stage.project.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

        def baked() -> bool:
            assert applying.poll() is None, "it ended by itself"
            shown = stage.shown()
            return bool(shown) and shown["phase"] == "baking" and time.time() > shown["since"] + 5

        stage.wait_for(baked)
        shown = stage.shown()
        assert (shown["step"], shown["verdict"]["result"]) == (0, "inconclusive")
        assert "paused" in stage.project.mlspec("rollout", "pause", "line").stdout
        stage.project.mlspec("rollout", "resume", "line")
        now()
        stage.project.mlspec("rollout", "abort", "line")
        assert applying.wait(timeout=PATIENCE) == 6


def show_blue_green(stage: Stage) -> None:
    stage.project.edit(CANARY, BLUE_GREEN)
    stage.behave()
    stage.apply(0)
    with stage.rolled("blue/green, good"):
        stage.behave()
        stage.apply(0)
    with stage.rolled("blue/green, bad by errors", back_to=2):
        stage.behave(errors=40)
        assert "requests failed" in stage.apply(6)


every_way = pytest.mark.parametrize(
    "show", [show_canaries, show_one_that_is_not_ready, show_one_in_doubt, show_blue_green]
)


@every_way
@pytest.mark.thorough
def test_on_this_machine(make_stage: MakeStage, show: Show) -> None:
    show(make_stage("local"))


@every_way
@pytest.mark.container
@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the base has Python 3.11")
@pytest.mark.usefixtures("container_base")
def test_in_containers(make_stage: MakeStage, show: Show, proxy_image: str) -> None:
    keys = f", engine: podman, proxy: '{proxy_image}', ready: {READY:.0f}s"
    show(make_stage("compose", keys, CONTAINERS_CONF=os.environ["CONTAINERS_CONF"]))
