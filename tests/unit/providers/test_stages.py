"""A stage's run: what is checked before, after and while DVC records it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlspec.compilers.generated import GeneratedFile
from mlspec.dvc.lock import LockedPath, LockEntry, dump_lock, parse_lock
from mlspec.errors import MlspecError
from mlspec.executors import Cause, Job, Outcome
from mlspec.fingerprint import stage_fingerprint
from mlspec.ledger.paths import run_path, state_path
from mlspec.ledger.records import ModelState, Run
from mlspec.ledger.state import Recorded
from mlspec.plan import Action, Consequence, Step
from mlspec.providers.context import Context, CutShort, Source
from mlspec.providers.stages import apply
from mlspec.resources import (
    Dependency,
    DependencyKind,
    Desired,
    FileResource,
    ModelResource,
    StageResource,
)
from mlspec.spec.models import Artifact, Model, Spec, Stage
from mlspec.worktree import Worktree

LOCK = "pipelines/m/dvc.lock"
PARAMS = "pipelines/m/params.json"
STEP = Step("stage.m.train", Action.RUN, Consequence.RETRAIN, "")


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


class World:
    """A repository with two stages; `command` is what `train` does, `dvc` what DVC sees then."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.ran = 0
        self.asked: list[str] = []
        self.tracked: list[str] = []
        self.outcome = Outcome(Cause.OK, 0, 1.5, "ended well")
        self.command: Callable[[], object] = lambda: self.write("model.onnx", "weights")
        self.meanwhile: Callable[[], object] = lambda: None
        for path, text in (("rows.csv", "rows"), ("train.py", "code"), (PARAMS, "{}\n")):
            self.write(path, text)

    def write(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)

    def read(self, path: str) -> str | None:
        file = self.root / path
        return file.read_text() if file.exists() else None

    # As an executor and as DVC -------------------------------------------------------------------

    def check(self, job: Job) -> None:
        assert (job.address, job.python) == ("stage.m.train", "3.11")

    def run(self, job: Job) -> Outcome:
        assert job.address == "stage.m.train"
        self.ran += 1
        self.command()
        return self.outcome

    def find_tracked(self, paths: Iterable[str]) -> list[str]:
        return [path for path in paths if path in self.tracked]

    def commit(self, dvcfile: str, stage: str) -> None:
        """What DVC does: it writes down what it finds."""
        self.asked.append(f"commit {dvcfile}:{stage}")
        self.meanwhile()
        locked = {
            path: LockedPath(path, md5(self.read(path) or ""), 1)
            for path in ("rows.csv", "train.py", "model.onnx")
        }
        entry = LockEntry(
            cmd="python train.py",
            deps=(locked["rows.csv"], locked["train.py"]),
            outs=(locked["model.onnx"],),
        )
        entries = {**parse_lock(self.read(LOCK) or ""), stage: entry}
        self.write(LOCK, dump_lock(entries))

    def push(self, dvcfile: str, stage: str) -> None:
        self.asked.append(f"push {dvcfile}:{stage}")

    # What is desired -----------------------------------------------------------------------------

    def context(self) -> Context:
        train = Stage(command="python train.py", outputs=("model.onnx",))
        judge = Stage(command="python judge.py", metrics="metrics.json")
        artifact = Artifact(path="model.onnx", format="onnx")
        model = Model(stages={"train": train, "judge": judge}, artifact=artifact)
        resources = (
            FileResource(GeneratedFile(PARAMS, "{}\n", "model.m", Consequence.NONE)),
            ModelResource("m", model, ("stage.m.judge", "stage.m.train"), ()),
            self.stage("train", train, "rows.csv", "train.py"),
            self.stage("judge", judge),
        )
        desired = Desired(Spec(mlspec=1, project="p"), "", {r.address: r for r in resources})
        given: Any = SimpleNamespace(
            fingerprints={"stage.m.train": self.fingerprint}, contents={}, steps={}
        )
        hands: Any = self
        return Context(
            root=self.root,
            desired=desired,
            facts=given,
            recorded=Recorded.of({}),
            worktree=Worktree(self.root),
            dvc=hands,
            executor=hands,
            logs=self.root / ".mlspec/logs",
            source=Source("c", False, 0),
            place="here",
            on_line=lambda _address, _line: None,
        )

    fingerprint = stage_fingerprint(
        "python train.py", {"rows.csv": md5("rows"), "train.py": md5("code")}, {}, ["model.onnx"]
    )

    def stage(self, name: str, stage: Stage, *reads: str) -> StageResource:
        texts = {"rows.csv": "rows", "train.py": "code"}
        return StageResource(
            model="m",
            name=name,
            stage=stage,
            dependencies=tuple(
                Dependency(path, DependencyKind.INPUT, md5(texts[path])) for path in reads
            ),
            params={},
            command=stage.command,
            writes=stage.writes,
            files=(f"file.{PARAMS}",),
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def refuse(world: World) -> MlspecError:
    with pytest.raises(MlspecError) as caught:
        apply(STEP, world.context())
    return caught.value


def test_a_run_is_recorded_with_its_entry(world: World) -> None:
    change = apply(STEP, world.context())
    assert world.asked == [f"{do} pipelines/m/dvc.yaml:train" for do in ("commit", "push")]
    run = change.records[run_path("m", "train", world.fingerprint)]
    assert isinstance(run, Run)
    assert (run.fingerprint, run.seconds, run.commit) == (world.fingerprint, 1.5, "c")
    assert [out["path"] for out in run.entry["outs"]] == ["model.onnx"]
    assert change.records[state_path("m")] == ModelState(
        runs={"train": world.fingerprint}, durations={"train": (1.5,)}
    )
    assert change.detail == "1 output"


def test_an_earlier_output_is_gone_before_the_command_runs(world: World) -> None:
    world.write("model.onnx", "old")
    seen = []
    world.command = lambda: (
        seen.append(world.read("model.onnx")),
        world.write("model.onnx", "new"),
    )
    apply(STEP, world.context())
    assert seen == [None]


@pytest.mark.parametrize("path", ["rows.csv", "train.py", PARAMS])
@pytest.mark.parametrize("gone", [True, False])
def test_nothing_runs_when_what_it_reads_has_changed(world: World, path: str, gone: bool) -> None:
    context = world.context()
    context.worktree.digest(path)
    (world.root / path).unlink() if gone else world.write(path, "another")
    with pytest.raises(MlspecError, match=f"was not run: {path} changed since the plan was made"):
        apply(STEP, context)
    assert (world.ran, world.asked) == (0, [])


def test_nothing_runs_that_git_tracks_the_outputs_of(world: World) -> None:
    """DVC would refuse to record the run, after all the time that it took."""
    world.tracked = ["model.onnx"]
    error = refuse(world)
    assert error.message == "stage.m.train was not run: Git tracks model.onnx, which it writes"
    assert error.hint == "git rm -r --cached model.onnx; then commit and apply again"
    assert (world.ran, world.asked) == (0, [])


@pytest.mark.parametrize("path", ["rows.csv", "train.py", PARAMS])
def test_nothing_is_recorded_when_what_it_reads_changes_meanwhile(world: World, path: str) -> None:
    def command() -> None:
        world.write("model.onnx", "weights")
        world.write(path, "another")

    world.command = command
    error = refuse(world)
    assert error.message == f"stage.m.train ran, and {path} changed meanwhile"
    assert "the run is not recorded" in error.hint
    assert (world.asked, world.read(LOCK)) == ([], None)


@pytest.mark.parametrize("before", [None, "schema: '2.0'\nstages: {}\n"])
def test_an_entry_that_would_lie_does_not_stay(world: World, before: str | None) -> None:
    """The data change in the moment in which DVC looks at them."""
    if before is not None:
        world.write(LOCK, before)
    world.meanwhile = lambda: world.write("rows.csv", "another")
    assert "what it reads changed meanwhile" in refuse(world).message
    assert world.read(LOCK) == before
    assert world.asked == ["commit pipelines/m/dvc.yaml:train"]


def test_a_command_that_fails_is_not_recorded(world: World) -> None:
    world.outcome = Outcome(Cause.EXIT, 3, 1.0, "exit code 3", ("first", "last"))
    error = refuse(world)
    assert error.message == "stage.m.train failed: exit code 3\nfirst\nlast"
    assert error.hint == "the whole log is .mlspec/logs/stage.m.train.log"
    assert world.asked == []


def test_an_output_that_is_not_written(world: World) -> None:
    world.command = lambda: None
    assert refuse(world).message == "stage.m.train ended well and did not write model.onnx"


@pytest.mark.parametrize("target", ["/etc/hostname", "..", "nowhere"])
def test_an_output_that_is_a_link_elsewhere_is_taken_away(world: World, target: str) -> None:
    world.command = lambda: (world.root / "model.onnx").symlink_to(target)
    assert "model.onnx" in refuse(world).message
    assert not (world.root / "model.onnx").is_symlink()
    assert world.asked == []


def test_an_artifact_that_is_a_folder(world: World) -> None:
    world.command = lambda: world.write("model.onnx/part", "")
    assert refuse(world).message == "stage.m.train made model.onnx a folder"


@pytest.mark.parametrize("before", [None, "{}"])
def test_the_output_of_another_stage_is_not_written_to(world: World, before: str | None) -> None:
    if before is not None:
        world.write("metrics.json", before)
    world.command = lambda: (
        world.write("model.onnx", "weights"),
        world.write("metrics.json", '{"auc": 1}'),
    )
    assert refuse(world).message == "stage.m.train wrote to metrics.json, which it does not own"
    assert world.asked == []


@pytest.mark.parametrize("begun_before", [True, False])
def test_another_stage_that_runs_meanwhile_may_write_its_output(
    world: World, begun_before: bool
) -> None:
    """It is at work when this one starts, or starts while this one runs."""
    context = world.context()
    with ExitStack() as others:

        def begin() -> None:
            others.enter_context(context.writers.writing("stage.m.judge"))

        def command() -> None:
            if not begun_before:
                begin()
            world.write("model.onnx", "weights")
            world.write("metrics.json", '{"auc": 1}')

        if begun_before:
            begin()
        world.command = command
        assert apply(STEP, context).detail == "1 output"


def test_outputs_that_are_put_back_meanwhile_are_nobodys_fault(world: World) -> None:
    context = world.context()
    world.command = lambda: (
        world.write("model.onnx", "weights"),
        world.write("metrics.json", "{}"),
        context.writers.wrote("stage.m.judge"),
    )
    assert apply(STEP, context).detail == "1 output"


def test_a_command_that_is_ended_with_the_apply_has_not_failed(world: World) -> None:
    world.outcome = Outcome(Cause.INTERRUPTED, -15, 1.0, "interrupted")
    with pytest.raises(CutShort):
        apply(STEP, world.context())
    assert world.asked == []
