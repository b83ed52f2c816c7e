"""A stage on another machine: what is asked, and which answers are believed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlspec.compilers.generated import GeneratedFile
from mlspec.dvc.lock import entry_as_dict, parse_lock
from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.executors import Cause, Outcome, Stop
from mlspec.executors.messages import Answer, Request, Trouble
from mlspec.fingerprint import stage_fingerprint
from mlspec.ledger.paths import run_path
from mlspec.ledger.records import Run
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
from mlspec.spec.models import Artifact, Executor, Model, Spec, Stage
from mlspec.worktree import Worktree

STEP = Step("stage.m.train", Action.RUN, Consequence.RETRAIN, "")
METRICS = b'{"accuracy": 0.5}'
CONFIG = ".dvc/config"
PARAMS = "pipelines/m/params.json"


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


DIGESTS = {"train.py": md5(b"code"), "rows.csv": md5(b"rows")}
FINGERPRINT = stage_fingerprint("python train.py", DIGESTS, {}, ["m.onnx", "m.json"])


def entry(**changes: Any) -> dict[str, Any]:
    def item(path: str, digest: str) -> dict[str, Any]:
        return {"path": path, "hash": "md5", "md5": digest, "size": 4}

    return {
        "cmd": "python train.py",
        "deps": [item(path, digest) for path, digest in sorted(DIGESTS.items())],
        "outs": [item("m.json", md5(METRICS)), item("m.onnx", md5(b"weights"))],
        **changes,
    }


GOOD = Answer(
    worker="tcp://10.0.0.7:4000",
    outcome=Outcome(Cause.OK, 0, 2.5, "ended well"),
    log="all that it printed\n",
    entry=entry(),
    metrics=METRICS,
)


class World:
    """A repository whose stage runs on `farm`; `answer` is what comes from there."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answer = GOOD
        self.asked: list[Request] = []
        self.ignored: list[str] = []
        self.heard: list[str] = []
        self.origin = self
        (root / "train.py").write_text("code")

    # As executors, their origin and DVC -----------------------------------------------------------

    def get(self, name: str) -> World:
        assert name == "farm"
        return self

    def run(self, request: Request, on_line: Callable[[str], None], _stop: Stop) -> Answer:
        self.asked.append(request)
        on_line("live")
        return self.answer

    def address(self, name: str, section: Executor) -> str:
        return f"{name}@{section.address}"

    def check_shared(self, commit: str, address: str) -> None:
        assert (commit, address) == ("c" * 40, "farm@tcp://farm:1")

    def check_committed(self, stage: str, paths: list[str]) -> None:
        assert (stage, paths) == ("stage.m.train", ["train.py"])

    def find_tracked(self, _paths: Iterable[str]) -> list[str]:
        return []

    def ignore(self, dvcfile: str, stage: str) -> None:
        self.ignored.append(f"{dvcfile}:{stage}")

    # What is desired -----------------------------------------------------------------------------

    def context(self) -> Context:
        train = Stage(command="python train.py", outputs=("m.onnx",), metrics="m.json")
        make = Stage(command="make rows", outputs=("rows.csv",))
        model = Model(
            stages={"train": train, "make": make},
            executor="farm",
            artifact=Artifact(path="m.onnx", format="onnx"),
        )
        files = tuple(
            FileResource(GeneratedFile(path, path, "m", Consequence.NONE))
            for path in (CONFIG, PARAMS)
        )
        dependencies = (
            Dependency("rows.csv", DependencyKind.INPUT, producer="stage.m.make"),
            Dependency("train.py", DependencyKind.CODE, DIGESTS["train.py"]),
        )
        names = tuple(file.address for file in files)
        trained = StageResource(
            "m", "train", train, dependencies, {}, "python train.py", ("m.onnx", "m.json"), names
        )
        made = StageResource("m", "make", make, (), {}, "make rows", ("rows.csv",), ())
        resources = (*files, trained, made, ModelResource("m", model, (), ()))
        section = Executor(kind="dask", address="tcp://farm:1")
        spec = Spec(mlspec=1, project="p", executors={"farm": section})
        out = {"path": "rows.csv", "md5": DIGESTS["rows.csv"], "size": 4, "isexec": True}
        before = Run(
            stage="make",
            fingerprint="f" * 64,
            entry={"cmd": "make rows", "outs": [out]},
            seconds=1,
            commit="",
        )
        facts: Any = SimpleNamespace(
            fingerprints={"stage.m.train": FINGERPRINT, "stage.m.make": "f" * 64},
            contents={"stage.m.make": {"rows.csv": DIGESTS["rows.csv"]}},
            steps={},
        )
        hands: Any = self
        return Context(
            root=self.root,
            desired=Desired(spec, "", {each.address: each for each in resources}),
            facts=facts,
            recorded=Recorded.of({run_path("m", "make", "f" * 64): before}),
            worktree=Worktree(self.root),
            dvc=hands,
            executor=hands,
            executors=hands,
            logs=self.root / ".mlspec/logs",
            source=Source("c" * 40, False, 0),
            place="here",
            on_line=lambda _address, line: self.heard.append(line),
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_the_request_has_all_that_a_machine_needs(world: World) -> None:
    apply(STEP, world.context())
    [request] = world.asked
    assert request == Request.model_validate_json(request.model_dump_json())
    origins = {each.path: (each.origin, each.md5, each.executable) for each in request.inputs}
    assert origins == {
        "rows.csv": ("storage", DIGESTS["rows.csv"], True),
        "train.py": ("git", DIGESTS["train.py"], False),
    }
    assert request.place.files == {CONFIG: CONFIG}
    assert request.files == {PARAMS: PARAMS}
    assert request.single == ("m.onnx", "m.json")
    assert request.python == "3.11"


def test_a_run_is_recorded_and_what_lay_here_is_gone(world: World) -> None:
    (world.root / "m.onnx").write_text("of an earlier run")
    change = apply(STEP, world.context())

    run = change.records[run_path("m", "train", FINGERPRINT)]
    assert isinstance(run, Run)
    assert (run.seconds, run.metrics, run.entry) == (2.5, {"accuracy": 0.5}, entry())
    assert not (world.root / "m.onnx").exists()
    assert world.ignored == ["pipelines/m/dvc.yaml:train"]
    locked = parse_lock((world.root / "pipelines/m/dvc.lock").read_text())
    assert entry_as_dict(locked["train"]) == entry()
    assert world.heard == ["live"]
    log = world.root / ".mlspec/logs/stage.m.train.log"
    assert log.read_text() == "all that it printed\n"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (GOOD.model_copy(update={"entry": entry(cmd="python other.py")}), "not what was planned"),
        (GOOD.model_copy(update={"entry": entry(deps=[])}), "not what was planned"),
        (GOOD.model_copy(update={"entry": None}), "an answer without digests"),
        (GOOD.model_copy(update={"outcome": None}), "an answer without an outcome"),
        (GOOD.model_copy(update={"metrics": b"{}"}), "m.json is not what its digest says"),
    ],
)
def test_an_answer_that_is_not_of_this_run_is_refused(
    answer: Answer, message: str, world: World
) -> None:
    world.answer = answer
    with pytest.raises(MlspecError, match=message):
        apply(STEP, world.context())
    assert not (world.root / "pipelines/m/dvc.lock").exists()


def test_trouble_is_said_with_the_worker(world: World) -> None:
    world.answer = Answer(
        worker="tcp://10.0.0.7:4000",
        trouble=Trouble(message="no key", hint="give it one", exit_code=5),
    )
    with pytest.raises(RemoteUnreachable) as error:
        apply(STEP, world.context())
    assert error.value.message == "stage.m.train on farm, tcp://10.0.0.7:4000: no key"
    assert error.value.hint == "give it one"


def test_a_command_that_fails_is_said_as_here(world: World) -> None:
    assert GOOD.outcome is not None
    outcome = replace(GOOD.outcome, cause=Cause.EXIT, detail="exit code 3", tail=("last",))
    world.answer = GOOD.model_copy(update={"outcome": outcome})
    with pytest.raises(MlspecError, match=r"stage\.m\.train failed: exit code 3\nlast"):
        apply(STEP, world.context())


def test_an_interrupted_run_is_no_failure(world: World) -> None:
    world.answer = Answer(outcome=Outcome(Cause.INTERRUPTED, -2, 0.0, "interrupted"))
    with pytest.raises(CutShort):
        apply(STEP, world.context())
