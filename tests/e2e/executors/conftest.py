"""Other machines: a repository that they clone, and a Dask cluster of processes on this one."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mlspec.compilers.dvc import compile_storage
from mlspec.dvc.hashing import md5_of_file
from mlspec.executors.messages import Input, Place, Request
from mlspec.spec.models import Storage

PATIENCE = 120.0
COMMON = ("--host", "127.0.0.1", "--no-dashboard")
PIPELINE = """\
stages:
  train:
    cmd: {command}
    wdir: ../..
    deps:
    - rows.csv
    - train.py
    params:
    - pipelines/m/params.json:
      - seed
    outs:
    - out/model
    metrics:
    - metrics.json
"""
TRAIN = """\
from pathlib import Path
print("training")
Path("out/model").write_text(Path("rows.csv").read_text() + "trained")
Path("metrics.json").write_text('{"accuracy": 0.5}')
"""


@dataclass
class Repository:
    """A repository that workers clone, and the folder that is its storage."""

    root: Path
    storage: Path
    environment: Mapping[str, str]

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A commit")
        return self.git("rev-parse", "HEAD")

    def request(self, command: str = "python train.py", **changes: Any) -> Request:
        """To train, at the commit that is checked out."""
        settings = compile_storage(Storage(url=str(self.storage)))
        return Request(
            address="stage.m.train",
            stage="train",
            dvcfile="pipelines/m/dvc.yaml",
            place=Place(
                repository=str(self.root), files={each.path: each.text for each in settings}
            ),
            commit=self.git("rev-parse", "HEAD"),
            files={
                "pipelines/m/dvc.yaml": PIPELINE.format(command=command),
                "pipelines/m/params.json": '{"seed": 1}\n',
            },
            command=command,
            inputs=tuple(
                Input(path=path, md5=md5_of_file(self.root / path), origin="git")
                for path in ("rows.csv", "train.py")
            ),
            outputs=("out/model", "metrics.json"),
            single=("metrics.json",),
            metrics="metrics.json",
        ).model_copy(update=changes)


@pytest.fixture
def repository(environment: Mapping[str, str], tmp_path: Path) -> Repository:
    root = tmp_path / "repository"
    root.mkdir()
    repository = Repository(root, tmp_path / "storage", environment)
    repository.git("init", "--quiet", "--initial-branch", "main")
    (root / "rows.csv").write_text("1\n2\n")
    (root / "train.py").write_text(TRAIN)
    repository.commit()
    return repository


def wait_for(condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> Any:
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError(f"{what}: not within {patience:g} s")


@dataclass
class Cluster:
    """A scheduler and workers, each a process."""

    folder: Path
    environment: Mapping[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    address: str = ""

    def start(self) -> None:
        place = self.folder / "scheduler.json"
        self._start("scheduler", {}, "--port", "0", "--scheduler-file", str(place))
        wait_for(lambda: place.exists() and place.read_text(), "the scheduler starts")
        self.address = json.loads(place.read_text())["address"]

    def add(self, name: str, *arguments: str, **extra: str) -> None:
        """A worker with one thread, and wait until it is at work."""
        log = self.folder / f"{name}.log"
        options = ("--no-nanny", "--nthreads", "1", "--name", name, *arguments)
        local = ("--local-directory", str(self.folder / "local"))
        self._start(name, {"WORKER": name, **extra}, self.address, *options, *local)
        wait_for(lambda: "Registered to" in log.read_text(), f"{name} starts")

    def kill(self, name: str) -> None:
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def close(self) -> None:
        for name in reversed(list(self.processes)):
            self.kill(name)

    def _start(self, name: str, extra: Mapping[str, str], *arguments: str) -> None:
        module = "dask_scheduler" if name == "scheduler" else "dask_worker"
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", f"distributed.cli.{module}", *arguments, *COMMON],
                cwd=self.folder,
                env={**self.environment, **extra},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., Any]:
    """Wait for a condition; its value."""
    return wait_for


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Start a scheduler; what runs in the cluster is killed at the end."""
    with contextlib.ExitStack() as stack:

        def make(environment: Mapping[str, str], name: str = "cluster") -> Cluster:
            folder = tmp_path / name
            folder.mkdir()
            cluster = stack.enter_context(contextlib.closing(Cluster(folder, environment)))
            cluster.start()
            return cluster

        yield make
