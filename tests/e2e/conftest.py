"""A small project with real Git, DVC and BentoML, driven through the command line."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlspec.providers.local.client import LocalTarget
from mlspec.providers.local.proxy import find_program
from tests.e2e.containers import BASE, make_proxy_image, problem_of_podman

SOURCE = Path(__file__).parent / "project"
Done = subprocess.CompletedProcess[str]
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
LOWEST = 12_000 + 1_000 * (WORKER % 20)
PORTS = itertools.cycle(random.sample(range(LOWEST, LOWEST + 1_000), 1_000))


@dataclass
class Project:
    """A checkout of the project in `project/`, whose stages note in `journal` that they ran."""

    root: Path
    journal: Path
    environment: Mapping[str, str]

    def run(self, *arguments: str, code: int | None = 0, **extra: str) -> Done:
        """Any program, at the top of the repository."""
        done = subprocess.run(
            arguments,
            cwd=self.root,
            env={**self.environment, "STAGE_JOURNAL": str(self.journal), **extra},
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        said = f"{' '.join(arguments)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert code is None or done.returncode == code, said
        assert "Traceback" not in done.stderr, said
        return done

    def git(self, *arguments: str) -> str:
        return self.run("git", *arguments).stdout.strip()

    def mlspec(self, *arguments: str, code: int | None = 0, **extra: str) -> Done:
        return self.run("mlspec", *arguments, code=code, **extra)

    def json(self, *arguments: str, code: int | None = 0) -> Any:
        """What a command prints for machines."""
        return json.loads(self.mlspec(*arguments, "--json", code=code).stdout)

    def plan(self) -> dict[str, dict[str, Any]]:
        """The steps that would be done, by address."""
        return {step["address"]: step for step in self.json("plan")["steps"]}

    def held(self) -> dict[str, str]:
        """What a plan leaves alone, and why."""
        return {held["address"]: held["reason"] for held in self.json("plan")["held"]}

    def apply(self, *arguments: str, code: int = 0) -> list[str]:
        """Apply; the stages whose commands really ran."""
        self.journal.unlink(missing_ok=True)
        self.mlspec("apply", "--yes", *arguments, code=code)
        return self.ran()

    def ran(self) -> list[str]:
        return self.journal.read_text().split() if self.journal.exists() else []

    def read(self, path: str = "mlspec.yaml") -> str:
        return (self.root / path).read_text()

    def write(self, path: str, text: str) -> None:
        (self.root / path).write_text(text)

    def edit(self, old: str, new: str, path: str = "mlspec.yaml") -> None:
        """Replace the one place where `old` stands in a file."""
        text = self.read(path)
        assert text.count(old) == 1, f"{path} has {text.count(old)} times {old!r}"
        self.write(path, text.replace(old, new))

    def commit(self, message: str) -> str:
        """Commit everything; the new commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def use_a_free_port(self) -> int:
        """Give the one target of the spec a port of its own; which."""
        port = find_port()
        self.edit("port: 3000", f"port: {port}")
        return port

    def declare_deployment(self) -> None:
        """Add a deployment on a free port to the spec."""
        text = (SOURCE / "deployment.yaml").read_text()
        self.write("mlspec.yaml", self.read() + text)
        self.use_a_free_port()

    def deploy(self) -> None:
        """Serve, by an apply that runs nothing."""
        self.declare_deployment()
        self.commit("Serve")
        assert self.apply() == []
        self.commit("Record what was applied")

    def end(self) -> None:
        """Stop what it serves; not by a command, which may refuse what a failed test left."""
        for running in self.root.glob(".mlspec/run/*@local"):
            LocalTarget(self.root, "local", port=0).destroy(running.name.removesuffix("@local"))

    def serving(self) -> dict[str, Any]:
        """What the supervisor last wrote of itself and its workers."""
        state = self.root / ".mlspec/run/loans@local/state.json"
        content: dict[str, Any] = json.loads(state.read_text())
        return content

    def ask(self, income: float, age: float = 30) -> tuple[int, float]:
        """The version that answers, and its score."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.serving()['port']}/predict",
            json.dumps({"rows": [{"income": income, "age": age}]}).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            body = json.load(answer)
            version = int(answer.headers["x-model-version"])
        assert body["version"] == version
        [score] = body["predictions"]
        return version, score

    def check_settled(self) -> None:
        """Nothing is to do, and DVC has the same opinion."""
        self.mlspec("plan", "--detailed-exitcode")
        self.check_dvc()

    def check_dvc(self) -> None:
        assert "up to date" in self.run("dvc", "status").stdout
        planned = self.run("dvc", "repro", "--dry", "--all-pipelines").stdout
        assert "Running" not in planned, planned
        assert planned.count("didn't change, skipping") == 3, planned


def find_port() -> int:
    """A port that nothing listens on, from a range that only this process of the tests uses.

    The kernel gives connections none of these: one that it chose now it may give away again before
    a service listens on it.
    """
    for port in PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Gives another port, that nothing listens on, each time it is called."""
    return find_port


Checkout = Callable[[Path], Project]


@pytest.fixture(scope="session")
def checkout(environment: Mapping[str, str]) -> Checkout:
    """A way to run programs in a folder, which need not be there yet."""
    return lambda root: Project(root, root.with_name(f"{root.name}-journal"), environment)


@pytest.fixture(scope="session")
def start_project(
    tmp_path_factory: pytest.TempPathFactory, checkout: Checkout
) -> Callable[[], Project]:
    """The project in a new repository without commits."""

    def start() -> Project:
        project = checkout(tmp_path_factory.mktemp("started") / "loans")
        ignored = shutil.ignore_patterns("__pycache__", "deployment.yaml")
        shutil.copytree(SOURCE, project.root, ignore=ignored)
        version = "{}.{}".format(*sys.version_info)
        project.edit("project: loans\n", f'project: loans\npython: {{version: "{version}"}}\n')
        project.git("init", "--quiet", "--initial-branch", "main")
        return project

    return start


@pytest.fixture(scope="session")
def trained(start_project: Callable[[], Project]) -> Project:
    """The project after its first apply, without a deployment; to be copied, not to be changed."""
    project = start_project()
    project.commit("Start")
    assert project.apply() == ["prepare", "train", "evaluate"]
    project.commit("Record what was applied")
    return project


MakeProject = Callable[..., Project]


@pytest.fixture(scope="module")
def make_project(
    trained: Project, tmp_path_factory: pytest.TempPathFactory, checkout: Checkout
) -> Iterator[MakeProject]:
    """Copies of the trained project, with what they serve stopped at the end."""
    made: list[Project] = []

    def make(*, serve: bool = False) -> Project:
        project = checkout(tmp_path_factory.mktemp("project") / "loans")
        made.append(project)
        shutil.copytree(trained.root, project.root, symlinks=True)
        if serve:
            project.deploy()
        return project

    yield make
    for project in made:
        project.end()


@pytest.fixture
def project(make_project: MakeProject) -> Project:
    """A trained project of the test's own."""
    return make_project()


@pytest.fixture
def served(make_project: MakeProject) -> Project:
    """A trained project of the test's own, whose first version answers requests."""
    return make_project(serve=True)


@pytest.fixture(scope="session")
def container_base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The image that others are built on, where podman runs containers."""
    if problem := problem_of_podman(tmp_path_factory.mktemp("podman") / "containers.conf"):
        pytest.skip(problem)
    return BASE


@pytest.fixture(scope="session")
def proxy_image(container_base: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image of HAProxy."""
    assert container_base
    if (program := find_program()) is None:
        pytest.skip("needs haproxy")
    image = make_proxy_image(program, tmp_path_factory.mktemp("haproxy"))
    yield image
    subprocess.run(["podman", "rmi", "--force", image], check=False, capture_output=True)
