"""Workers of a Dask cluster that cannot do what is asked of them, and what is said about each."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("distributed")

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.executors import Cause, Stop
from mlspec.executors.dask import client as dask_client
from mlspec.executors.dask.client import DaskExecutor
from mlspec.executors.messages import Needs, Question
from mlspec.spec.models import Executor

Wait = Callable[..., Any]
Open = Callable[[Any], DaskExecutor]
VERSION = "{}.{}".format(*sys.version_info)

pytestmark = pytest.mark.thorough


@pytest.fixture
def world(environment: Mapping[str, str], tmp_path: Path) -> dict[str, str]:
    return {**environment, "MLSPEC_WORK": str(tmp_path / "work")}


@pytest.fixture
def open_executor() -> Iterator[Open]:
    made: list[DaskExecutor] = []

    def open_executor(cluster: Any) -> DaskExecutor:
        made.append(DaskExecutor("farm", Executor(kind="dask", address=cluster.address)))
        return made[-1]

    yield open_executor
    for executor in made:
        executor.close()


def shadow(folder: Path, name: str, text: str) -> str:
    """A folder in which a program or a module has this text."""
    folder.mkdir()
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)
    return str(folder)


def path_without_git(folder: Path) -> str:
    """A PATH with a shell and a Python, and nothing else."""
    folder.mkdir()
    for name in ("sh", "python"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return str(folder)


def test_unfit_workers_are_named_and_passed_over(
    make_cluster: Any,
    open_executor: Open,
    repository: Any,
    world: Mapping[str, str],
    tmp_path: Path,
) -> None:
    cluster = make_cluster(world)
    old = shadow(tmp_path / "old", "python", "#!/bin/sh\necho 3.2.1\n")
    absent = shadow(tmp_path / "absent", "mlspec.py", "")
    full = tmp_path / "full"
    full.write_text("")
    unfit = {
        "python": {"PATH": f"{old}{os.pathsep}{world['PATH']}"},
        "mlspec": {"PYTHONPATH": absent},
        "git": {"PATH": path_without_git(tmp_path / "bare")},
        "disk": {"MLSPEC_WORK": str(full)},
    }
    for name, extra in unfit.items():
        cluster.add(name, **extra)
    executor = open_executor(cluster)
    request = repository.request(python=VERSION)

    answer = executor.run(request, print, Stop())
    assert answer.outcome is None
    assert answer.trouble is not None
    assert answer.worker.startswith("tcp://127.0.0.1:")
    error = answer.trouble.error(f"stage.m.train on farm, {answer.worker}")
    assert answer.worker in error.message

    cluster.add("fit")
    said: list[str] = []
    answer = executor.run(request, said.append, Stop())
    assert answer.outcome is not None and answer.outcome.cause is Cause.OK
    assert all("trying another worker" in line or line == "training" for line in said)

    found = executor.inspect(Question(place=request.place, python=VERSION))
    lacking = {tuple(check.name for check in each.checks if not check.ok) for each in found}
    assert lacking == {("python",), ("mlspec",), ("git",), ("disk",), ()}
    hints = {check.name: check.hint for each in found for check in each.checks if not check.ok}
    assert all(hints.values())
    assert 'pip install "mlspec[dask]' in hints["mlspec"]


def test_what_no_worker_has_is_an_error_and_not_a_wait(
    make_cluster: Any, open_executor: Open, repository: Any, world: Mapping[str, str]
) -> None:
    cluster = make_cluster(world)
    cluster.add("ada", "--resources", "GPU=1")
    executor = open_executor(cluster)

    with pytest.raises(MlspecError, match="no worker of the cluster farm has GPU=2"):
        executor.run(repository.request(needs=Needs(gpus=2)), print, Stop())
    answer = executor.run(repository.request(needs=Needs(gpus=1)), print, Stop())
    assert answer.outcome is not None and answer.outcome.cause is Cause.OK
    answer = executor.run(repository.request(needs=Needs(memory=2.0**60)), print, Stop())
    assert answer.trouble is not None and "of memory" in answer.trouble.message


def test_a_cluster_without_workers_is_given_up(
    make_cluster: Any,
    open_executor: Open,
    repository: Any,
    world: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dask_client, "PATIENCE", 1.0)
    executor = open_executor(make_cluster(world))
    with pytest.raises(MlspecError, match="has had no worker for it for 1 s"):
        executor.run(repository.request(), print, Stop())
    with pytest.raises(MlspecError, match="the cluster farm has no worker"):
        executor.inspect(Question(place=repository.request().place))


def test_a_job_whose_workers_die_is_given_up(
    make_cluster: Any,
    open_executor: Open,
    repository: Any,
    world: Mapping[str, str],
    wait_until: Wait,
) -> None:
    cluster = make_cluster({**world, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"})
    cluster.add("ada")
    executor = open_executor(cluster)
    printed: list[str] = []
    request = repository.request("echo begun && sleep 600")
    errors: list[MlspecError] = []

    def run() -> None:
        try:
            executor.run(request, printed.append, Stop())
        except MlspecError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    wait_until(lambda: "begun" in printed, "the job begins")
    cluster.kill("ada")
    thread.join(60)
    assert "1 workers of the cluster farm died with it, the last at tcp://" in errors[0].message


def test_a_scheduler_that_is_not_there(
    repository: Any, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dask_client, "CONNECT", 1.0)
    section = Executor(kind="dask", address=f"tcp://127.0.0.1:{free_port()}")
    with closing(DaskExecutor("farm", section)) as executor:
        for _ in range(2):
            with pytest.raises(RemoteUnreachable, match="the scheduler of the cluster farm"):
                executor.run(repository.request(), print, Stop())
