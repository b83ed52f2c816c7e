"""An adoption killed at any moment has written nothing that counts, and the next one ends it.

The command runs in a fork of this process, which counts what it asks the system to change (Python's
audit events) and kills itself right before one of these, so every point can be met without waiting.
DVC is asked once: what it tells of a repository is the same for each copy.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import pytest

from mlspec.commands import adopt, adopt_mlflow
from mlspec.dvc.client import Dvc
from mlspec.errors import MlspecError
from mlspec.render.console import Console
from mlspec.undo import is_unfinished

pytestmark = pytest.mark.slow
SOURCE = Path(__file__).parent / "adopt"
REGISTRY = Path(__file__).parents[1] / "fixtures" / "mlflow"
FEW = 16
at_points = pytest.mark.parametrize(
    "points", [FEW, pytest.param(10**6, marks=pytest.mark.thorough, id="all")]
)
CHANGES = frozenset(
    {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod"}
    | {"os.truncate", "subprocess.Popen", "os.posix_spawn", "os.fork_exec"}
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
OWN = (".git", ".mlspec", ".dvc/tmp")


class Repository:
    """A repository that an adoption is to be killed in; copies of it, by number."""

    def __init__(self, root: Path, environment: Mapping[str, str], run: Callable[[], None]) -> None:
        self.root, self.environment, self.run = root, environment, run

    def copy(self, name: str) -> Repository:
        """Another one in the same place, so that nothing in it tells them apart."""
        kept = self.root.with_name(f"{self.root.name}-{name}")
        if self.root.exists():
            shutil.rmtree(self.root)
        shutil.copytree(kept, self.root, symlinks=True)
        return self

    def adopt(self, *, until: int = -1, count_to: Path | None = None) -> int:
        """How the command ends in a process of its own, killed before its change number `until`."""
        child = os.fork()
        if child == 0:
            self._child(until, count_to)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def _child(self, until: int, count_to: Path | None) -> None:
        code, count = 1, 0

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal count
            if event in CHANGES or (event == "open" and arguments[2] & WRITES):
                if count == until:
                    os.kill(os.getpid(), signal.SIGKILL)
                count += 1

        try:
            os.environ.update(self.environment)
            os.chdir(self.root)
            sys.addaudithook(hook)
            self.run()
            code = 0
        except MlspecError as error:
            sys.stderr.write(f"{error.message}\n")
        finally:
            changes = count
            if count_to is not None:
                count_to.write_text(str(changes))
            os._exit(code)

    def git(self, *arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments],
            cwd=self.root,
            env={**os.environ, **self.environment},
            capture_output=True,
            check=True,
            text=True,
        )
        return done.stdout

    def files(self) -> dict[str, bytes]:
        """All that is in it, but what mlspec, Git and DVC keep for themselves."""
        paths = (path for path in self.root.rglob("*") if path.is_file())
        named = {path.relative_to(self.root).as_posix(): path for path in paths}
        return {
            name: path.read_bytes()
            for name, path in sorted(named.items())
            if not name.startswith(OWN)
        }

    def audit(self) -> list[str]:
        """What the ledger tells, without times and names of commits."""
        if "refs/mlspec/ledger" not in self.git("for-each-ref", "--format=%(refname)"):
            return []
        return self.git("log", "--format=%s", "refs/mlspec/ledger").splitlines()


def sweep(repository: Repository, tmp_path: Path, points: int) -> int:
    """Kill it at that many moments along its way; how many there were."""
    counted = tmp_path / "count"
    before = repository.copy("before").files()
    assert repository.adopt(count_to=counted) == 0
    after, audit = repository.files(), repository.audit()
    assert before != after
    total = int(counted.read_text())
    met = 0
    for point in range(0, total, max(1, total // points)):
        repository.copy("before")
        if repository.adopt(until=point) != -signal.SIGKILL:
            continue
        met += 1
        cut_short = repository.files()
        unfinished = is_unfinished(repository.root)
        assert unfinished or cut_short in (before, after), f"torn at {point} of {total}"
        if unfinished or cut_short == before:
            assert repository.adopt() == 0
        ended = repository.files()
        assert ended == after, (point, sorted(ended.items() ^ after.items()))
        assert repository.audit() == audit, f"told twice, or not at all, at {point} of {total}"
        assert not is_unfinished(repository.root)
    return met


@pytest.fixture
def made(
    tmp_path: Path, checkout: Callable[[Path], Any], environment: Mapping[str, str]
) -> Iterator[Callable[[Callable[[], None]], Repository]]:
    """A repository that was run with DVC, as it is before the adoption `run`."""
    old = checkout(tmp_path / "old")
    shutil.copytree(SOURCE / "folders", old.root)
    for script in SOURCE.glob("*.py"):
        shutil.copy(script, old.root)
    old.git("init", "--quiet", "--initial-branch", "main")
    old.run("dvc", "init", "--quiet")
    old.run("dvc", "remote", "add", "--quiet", "--default", "team", str(tmp_path / "storage"))
    old.run("dvc", "config", "--local", "cache.type", "copy")
    old.run("dvc", "repro", "--quiet", "--all-pipelines")
    old.commit("Run with DVC")

    def make(run: Callable[[], None]) -> Repository:
        shutil.rmtree(old.root / ".dvc/tmp", ignore_errors=True)
        shutil.copytree(old.root, old.root.with_name("old-before"), symlinks=True)
        return Repository(old.root, environment, run)

    yield make


@at_points
def test_adoption_of_pipelines(
    made: Callable[[Callable[[], None]], Repository],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    points: int,
) -> None:
    repository = made(lambda: adopting(Path.cwd()))
    with Dvc(repository.root) as dvc:
        told = json.dumps(dvc.inventory())

    class Told:
        """What DVC tells."""

        def __init__(self, root: Path) -> None: ...
        def __enter__(self) -> Self:
            return self

        def __exit__(self, *_: object) -> None: ...
        def inventory(self) -> Any:
            return json.loads(told)

    monkeypatch.setattr(adopt, "Dvc", Told)
    assert sweep(repository, tmp_path, points) >= FEW // 2


@at_points
def test_adoption_of_a_model_of_others(
    tmp_path: Path,
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    points: int,
) -> None:
    # it changes nothing, and takes a second each time
    monkeypatch.setattr(adopt_mlflow, "inspect_artifact", lambda *_: {})
    root = tmp_path / "before"
    root.mkdir()
    repository = Repository(root, environment, lambda: taking(Path.cwd(), "credit/2"))
    repository.git("init", "--quiet", "--initial-branch", "main")
    (root / "notes.txt").write_text("What others made\n")
    assert Repository(root, environment, lambda: taking(root, "credit/1")).adopt() == 0
    root.rename(tmp_path / "made-before")
    repository.root = tmp_path / "made"
    assert sweep(repository, tmp_path, points) >= FEW // 2


def adopting(root: Path) -> None:
    adopt.adopt(root, Console(), as_json=True, lock_timeout=10)


def taking(root: Path, model: str) -> None:
    options = adopt_mlflow.TakeOptions(str(REGISTRY), model, "", "MIT", True, 10)
    adopt_mlflow.adopt_mlflow(root, Console(), options)
