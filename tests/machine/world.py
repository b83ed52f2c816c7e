"""A small repository in which mlspec runs in this process, and what surrounds it.

Real are: the commands from their functions on, so loading, resolving, planning and applying, the
lock, the ledger in a Git repository and its remote, what is remembered between plans, the shell
that runs a stage, `dvc.lock`, DVC's cache and storage. Replaced are:

- the service of a deployment: :class:`Target` keeps what serves, and what served before it, in the
  file `state.json` of the run folder, and can refuse a release;
- the building of a Bento, and the look into an artifact: both take seconds;
- DVC's process: its worker answers in this one;
- the name of this checkout, which all copies of the template share;
- the coarsest clock of a file system (`worktree.RACE`), or nothing of a repository that is
  milliseconds old would be remembered.

Metrics are what the params say (`q`), so that gates pass and fail as the machine likes.
"""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlspec import incremental, observe, reconcile, worktree
from mlspec.commands.apply import ApplyOptions, apply
from mlspec.dvc import client as dvc_client
from mlspec.dvc import worker as dvc_worker
from mlspec.errors import MlspecError, RolledBack
from mlspec.fingerprint import release_digest
from mlspec.git import Git
from mlspec.ledger.entry import Entry, load_entry
from mlspec.ledger.store import Ledger
from mlspec.providers import deployments, models
from mlspec.providers.local import client as local_client
from mlspec.providers.local.release import SERVICE_FILES
from mlspec.providers.local.rundir import list_runs, load_state, run_folder, write_state
from mlspec.providers.target import Release, Running
from mlspec.render.console import Console
from mlspec.spec.models import Artifact

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PATIENCE = 120
"""Seconds that a command in a process of its own may take."""
TRAIN = """\
mkdir -p models metrics
cp "$1" "models/$2.onnx"
q=$(sed -n 's/.*"q": *\\([0-9.]*\\).*/\\1/p' "$1")
echo "{\\"auc\\": $q}" > "metrics/$2.json"
echo "$1 $2 $q" >> ../trained
"""
EMPTY = {
    "mlspec": 1,
    "project": "machine",
    "storage": {"url": "../storage"},
    "datasets": {"rows": {"path": "data/rows.csv"}},
}
SLOTS = ("one", "two")
"""Where a model may live: its outputs, deployment and targets are named so, whatever its name."""
BAD = "refuses"
"""The file beside the repository that has targets refuse what is new."""


class Target:
    """A target that serves at once, in a file. Every release that it took is in `history`."""

    def __init__(self, root: Path, name: str, port: int) -> None:
        self.root, self.name, self.port = root, name, port

    def observe(self, deployment: str) -> Running | None:
        state = load_state(run_folder(self.root, deployment, self.name))
        if state is None:
            return None
        return Running(
            status=state["status"],
            release=state["release"],
            model=state["model"],
            version=state["version"],
            url="",
            since="",
            workers=1,
            ready=1,
            restarts=0,
        )

    def deploy(self, deployment: str, release: Release, smoke: object) -> Running:
        del smoke
        where = f"deployment.{deployment}@{self.name}"
        if (self.root.parent / BAD).exists():
            raise RolledBack(f"{where}: version {release.version} is not ready")
        state = load_state(run_folder(self.root, deployment, self.name)) or {"history": []}
        served = {
            "release": release.digest,
            "model": release.model,
            "version": release.version,
            "artifact": (release.path / "artifact").read_text(),
        }
        self._write(
            deployment,
            {"status": "serving", **served, "history": [*state["history"], served]},
        )
        running = self.observe(deployment)
        assert running is not None
        return running

    def stop(self, deployment: str) -> None:
        self._set(deployment, "stopped")

    def start(self, deployment: str) -> Running:
        self._set(deployment, "serving")
        running = self.observe(deployment)
        if running is None:
            raise MlspecError(f"deployment.{deployment}@{self.name} was never deployed here")
        return running

    def rename(self, deployment: str, name: str) -> None:
        before = run_folder(self.root, deployment, self.name)
        after = run_folder(self.root, name, self.name)
        if before.exists() and not after.exists():
            before.rename(after)

    def destroy(self, deployment: str) -> None:
        run_dir = run_folder(self.root, deployment, self.name)
        if run_dir.exists():
            shutil.rmtree(run_dir)

    def logs(self, _deployment: str) -> tuple[Path, ...]:
        return ()

    def _set(self, deployment: str, status: str) -> None:
        state = load_state(run_folder(self.root, deployment, self.name))
        if state is not None:
            self._write(deployment, {**state, "status": status})

    def _write(self, deployment: str, state: Mapping[str, Any]) -> None:
        run_dir = run_folder(self.root, deployment, self.name)
        run_dir.mkdir(parents=True, exist_ok=True)
        write_state(run_dir, state)


def _stage_release(
    root: Path,
    service_dir: Path,
    artifact: Path,
    model_json: Mapping[str, Any],
    settings: Mapping[str, Any],
    commit_time: int,
    names: Sequence[str] = SERVICE_FILES,
    **_: object,
) -> Release:
    """As the real one, without a Bento: the folder holds the artifact alone."""
    del commit_time
    files = {name: (service_dir / name).read_text("utf-8") for name in names}
    digest = release_digest(files, settings, model_json["digest"], model_json["version"])
    folder = root / ".mlspec/releases" / digest[:12]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "artifact").write_bytes(artifact.read_bytes())
    return Release(
        digest=digest,
        path=folder,
        bento=folder,
        tag="",
        model=model_json["model"],
        version=model_json["version"],
        workers=1,
        memory=None,
        capture=None,
    )


def _inspect(artifact: Artifact, root: Path, *_: object, **__: object) -> dict[str, Any]:
    """Another `w` in the params is another interface."""
    return {"columns": [], "w": json.loads((root / artifact.path).read_text())["train"]["w"]}


def _ask(self: dvc_client.Dvc, do: str, **arguments: Any) -> Any:
    """What DVC's process answers, from here."""
    root: Path = self._root
    before = Path.cwd()
    os.chdir(root)
    try:
        with redirect_stderr(io.StringIO()):
            made = dvc_worker._make_worker(root)
            if isinstance(made, Exception):
                raise MlspecError(f"DVC: {made}")
            answer = dvc_worker._answer(made, root, {"do": do, "with": arguments})
    finally:
        os.chdir(before)
    if "error" in answer:
        raise dvc_client._error(do, answer["error"], answer["message"])
    return answer["value"]


@contextmanager
def surroundings() -> Iterator[None]:
    """What is replaced, and an environment that has nothing of this machine's user."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as home:
        for name, value in {
            "HOME": home,
            "SHELL": "/bin/sh",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.org",
            "NO_COLOR": "1",
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": f"{home}/dvc",
            "DVC_SYSTEM_CONFIG_DIR": home,
            "DVC_GLOBAL_CONFIG_DIR": home,
        }.items():
            patch.setenv(name, value)
        patch.setattr(worktree, "RACE", -(10**18))
        for module in (incremental, observe, reconcile):
            patch.setattr(module, "place_of", lambda _: "here")
        patch.setattr(local_client, "LocalTarget", Target)
        patch.setattr(deployments, "stage_release", _stage_release)
        patch.setattr(models, "inspect_declared", _inspect)
        patch.setattr(dvc_client.Dvc, "_ask", _ask)
        patch.setattr(dvc_client.Dvc, "_started", lambda _: None)
        for name in ("dvc", "dvc_data", "dvc_objects"):
            patch.setattr(logging.getLogger(name), "propagate", False)
        _FAULTS.install()
        yield


class _Faults:
    """Counts what a command does to files and processes, and breaks in at the event it is told.

    Python tells of these events before they happen (`sys.addaudithook`), so nothing is replaced.
    """

    def __init__(self) -> None:
        self._installed = False
        self._place = ""
        self._at = 0
        self._strike: Callable[[bool], None] | None = None
        self.seen = 0

    def install(self) -> None:
        if not self._installed:
            sys.addaudithook(self._hear)
            self._installed = True

    @contextmanager
    def at(self, place: Path, event: int, strike: Callable[[bool], None]) -> Iterator[None]:
        """`strike` is called at this event and all after it, with whether it writes a file."""
        self._place, self._at, self._strike, self.seen = str(place), event, strike, 0
        try:
            yield
        finally:
            self._strike = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._strike is None:
            return
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in (
            "os.rename",
            "os.mkdir",
            "os.link",
            "os.symlink",
            "os.remove",
            "os.rmdir",
        ):
            path = arguments[0]
        elif event == "subprocess.Popen":
            path = None
        else:
            return
        writes = path is not None and event not in ("os.remove", "os.rmdir")
        if path is not None and not self._concerns(path):
            return
        self.seen += 1
        if self.seen >= self._at:
            strike, self._strike = self._strike, None  # it does such things itself
            try:
                strike(writes)
            finally:
                self._strike = strike

    def _concerns(self, path: object) -> bool:
        try:
            name = os.fsdecode(path)  # type: ignore[arg-type]
        except TypeError:
            return False
        return name.startswith(self._place) or not name.startswith("/")


_FAULTS = _Faults()


class Quiet(Console):
    """Keeps what is said."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    @property
    def interactive(self) -> bool:
        return False

    def say(self, text: str) -> None:
        self.said.append(text)

    note = say


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, -9 if it was killed, and what it said."""

    code: int
    said: str


Verb = Callable[[Path, Console], int]
"""A command: the repository and where its words go in, the exit code out."""


def call(root: Path, verb: Verb) -> Ended:
    """Run a command as the program does; what is no error in words goes through."""
    console = Quiet()
    try:
        code = verb(root, console)
    except MlspecError as error:
        console.fail(error)
        code = int(error.exit_code)
    return Ended(int(code), "\n".join(console.said))


@dataclass
class World:
    """A folder with the repository `repo` and what lies beside it: storage, remote, effects."""

    place: Path
    shared: bool
    """Whether there is a Git remote."""
    clock: float = 0.0
    faults: _Faults = field(default=_FAULTS, repr=False)

    @property
    def root(self) -> Path:
        return self.place / "repo"

    # What a user does -----------------------------------------------------------------------------

    def write(self, path: str, content: str | bytes) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        time.sleep(0.005)  # no two changes within one tick of the file system's clock

    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = yaml.load((self.root / "mlspec.yaml").read_text(), LOADER)
        return spec

    def write_spec(self, spec: Mapping[str, Any]) -> None:
        self.write("mlspec.yaml", yaml.safe_dump(dict(spec), sort_keys=False))

    def git(self, *arguments: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["git", "-c", "gc.auto=0", *arguments],
            cwd=self.root,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        assert code is None or done.returncode == code, f"git {arguments}: {done.stderr}"
        return done

    def own_files(self) -> dict[str, bytes]:
        """What belongs to the user: mlspec must leave it alone."""
        files = [self.root / "mlspec.yaml", *(self.root / "data").iterdir()]
        files += (self.root / "src").iterdir()
        return {path.relative_to(self.root).as_posix(): path.read_bytes() for path in files}

    # Commands -------------------------------------------------------------------------------------

    def run(self, verb: Verb) -> Ended:
        """Run a command here and now."""
        real = time.time
        time.time = lambda: real() + self.clock
        try:
            return call(self.root, verb)
        finally:
            time.time = real

    def run_struck(self, verb: Verb, event: int, strike: Callable[[bool], None]) -> Ended:
        """Run a command; `strike` breaks in at an event."""
        with self.faults.at(self.place, event, strike):
            return self.run(verb)

    def run_killed(self, verb: Verb, event: int) -> Ended:
        """Run a command in a process of its own, which is killed at an event if it gets there."""
        said = self.place / "said"
        child = os.fork()
        if child == 0:
            try:
                with self.faults.at(self.place, event, _kill):
                    ended = self.run(verb)
                said.write_text(ended.said)
                os._exit(ended.code)
            except BaseException:
                said.write_text(traceback.format_exc())
                os._exit(99)
        status = _wait(child)
        if os.WIFSIGNALED(status):
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return Ended(-9, "killed")
        code = os.waitstatus_to_exitcode(status)
        assert code != 99, said.read_text()
        return Ended(code, said.read_text())

    # What surrounds it ----------------------------------------------------------------------------

    def go_down(self, name: str) -> None:
        """A folder beside the repository is not there: `storage` or `remote.git`."""
        if (self.place / name).is_dir():
            (self.place / name).rename(self.place / f"{name}.away")
            (self.place / name).write_text("")

    def come_back(self, name: str) -> None:
        if (self.place / f"{name}.away").exists():
            (self.place / name).unlink()
            (self.place / f"{name}.away").rename(self.place / name)

    def rival(self) -> None:
        """Somebody in another clone records something of no concern here, and publishes it."""
        clone = self.place / "clone"
        if not clone.exists():
            subprocess.run(
                ["git", "clone", "-q", self.place / "remote.git", clone],
                check=True,
                capture_output=True,
            )
        git = Git(clone)
        try:
            ledger = Ledger(git)
            ledger.sync()
            ledger.record({}, Entry(command="apply", address="elsewhere"))
            ledger.publish()
        finally:
            git.close()

    def trained(self) -> list[str]:
        """What was trained, in order: params file, slot, q."""
        file = self.place / "trained"
        return file.read_text().splitlines() if file.exists() else []

    def serving(self) -> dict[str, dict[str, Any]]:
        """What each target has, by `deployment@target`."""
        found = {path.name: load_state(path) for path in list_runs(self.root)}
        return {name: state for name, state in found.items() if state is not None}

    def close(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)


def _kill(_writes: bool) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(PATIENCE)


def fill_disk(times: int) -> Callable[[bool], None]:
    """A strike: so many writes find no space."""
    left = [times]

    def strike(writes: bool) -> None:
        if writes and left[0]:
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return strike


def once(act: Callable[[], None]) -> Callable[[bool], None]:
    """A strike that does something else, at the first event only."""
    left = [act]

    def strike(_writes: bool) -> None:
        if left:
            left.pop()()

    return strike


def _wait(child: int) -> int:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            return status
        time.sleep(0.001)
    os.kill(child, signal.SIGABRT)
    os.waitpid(child, 0)
    raise AssertionError("a command does not end")


def make_place() -> Path:
    """A folder on a RAM disk, if there is one."""
    memory = Path("/dev/shm")
    usable = memory.is_dir() and os.access(memory, os.W_OK)
    return Path(tempfile.mkdtemp(prefix="mlspec-machine-", dir=memory if usable else None))


def add_model(spec: dict[str, Any], slot: str, name: str, q: float) -> None:
    """A model that scores `q`, and its deployment on two targets."""
    spec.setdefault("models", {})[name] = {
        "stages": {
            "train": {
                "command": f"sh src/train.sh pipelines/{name}/params.json {slot}",
                "inputs": ["rows", "src/train.sh"],
                "params": {"q": q, "w": 1},
                "outputs": [f"models/{slot}.onnx"],
                "metrics": f"metrics/{slot}.json",
            }
        },
        "artifact": {"path": f"models/{slot}.onnx", "format": "onnx"},
        "gates": {"good": {"metric": "auc", "min": 0.5}},
    }
    number = SLOTS.index(slot)
    staging, production = f"staging-{slot}", f"production-{slot}"
    targets = spec.setdefault("targets", {})
    targets[staging] = {"kind": "local", "port": 3000 + 2 * number}
    targets[production] = {"kind": "local", "port": 3001 + 2 * number, "after": staging}
    deployment = {"model": name, "targets": [staging, production]}
    spec.setdefault("deployments", {})[slot] = deployment


def make_template(place: Path) -> None:
    """A repository with a model of two versions, to be copied; a remote that has it all."""
    repo = place / "repo"
    world = World(place, shared=True)
    subprocess.run(["git", "init", "-q", "-b", "main", repo], check=True)
    subprocess.run(["git", "init", "-q", "--bare", place / "remote.git"], check=True)
    (place / "storage").mkdir()
    world.write("data/rows.csv", "a,b\n1,2\n")
    world.write("src/train.sh", TRAIN)
    spec = {**EMPTY}
    for q in (0.6, 0.7):
        add_model(spec, SLOTS[0], "m1", q)
        world.write_spec(spec)
        world.git("add", "--all")
        world.git("commit", "-q", "-m", f"Quality {q}")
        ended = world.run(
            lambda root, console: apply(root, console, ApplyOptions(yes=True, jobs=1))
        )
        assert ended.code == 0, ended.said
    world.git("add", "--all")
    world.git("commit", "-q", "-m", "Applied")
    world.git("push", "-q", str(place / "remote.git"), "main", "refs/mlspec/*:refs/mlspec/*")


def make_world(template: Path, *, shared: bool) -> World:
    place = make_place()
    shutil.copytree(template, place, symlinks=True, dirs_exist_ok=True)
    if shared:
        with (place / "repo/.git/config").open("a") as config:
            config.write(
                f'[remote "origin"]\n\turl = {place}/remote.git\n'
                "\tfetch = +refs/heads/*:refs/remotes/origin/*\n"
            )
    return World(place, shared)


@dataclass(frozen=True)
class Read:
    """The ledger: its commits, oldest first, what each says, and records by path."""

    commits: list[str]
    entries: list[Entry]
    records: dict[str, Any]
    serial: int


def read_ledger(root: Path, known: Read | None = None) -> Read:
    """As :func:`load_ledger`, of the repository at `root`."""
    git = Git(root)
    try:
        return load_ledger(git, known)
    finally:
        git.close()


def load_ledger(git: Git, known: Read | None = None) -> Read:
    """Everything that the ledger has, or `known` if that is it; raises what damage makes of it."""
    ledger = Ledger(git)
    if known is not None and [ledger.tip] == (known.commits[-1:] or [""]):
        return known
    chain = [*ledger.chain(ledger.tip)][::-1]
    records = {path: json.loads(ledger.read(path) or b"null") for path in ledger.list()}
    entries = [load_entry(oid, commit) for oid, commit in chain]
    return Read([oid for oid, _ in chain], entries, records, ledger.serial)
