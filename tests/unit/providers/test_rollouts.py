"""When a release goes in steps, what is said of it, and what is known of one that went back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlspec.errors import ExitCode, MlspecError, RolledBack, Undecided
from mlspec.plan import Action, Consequence, Step
from mlspec.providers import rollouts
from mlspec.providers.context import Context, CutShort
from mlspec.providers.target import Release, Running
from mlspec.resources import DeploymentResource
from mlspec.rollouts.board import Board
from mlspec.rollouts.counts import Counts
from mlspec.rollouts.driver import Reading
from mlspec.rollouts.engine import Order
from mlspec.spec.models import Deployment, Rollout

STEP = Step("deployment.loans@here", Action.DEPLOY, Consequence.REDEPLOY, "")
CANARY: dict[str, Any] = {
    "strategy": "canary",
    "steps": ("20%",),
    "bake": "1s",
    "min_requests": 10,
    "abort_if": {"error_rate": "50%"},
}
RELEASE = Release("b" * 64, Path(), Path(), "t:2", "loans", 2, 1, None, None)


class Target:
    """One that serves `release`; its candidates count so many requests, of which some fail."""

    def __init__(self, release: str = "a" * 64) -> None:
        self.done: list[str] = []
        self.running: Running | None = Running(
            "serving", release, "loans", 1, "http://127.0.0.1:3000", "", 1, 1, 0
        )
        self.requests = 1000
        self.failing = 0.0
        self.champion_fails = 0.0
        self._reads = 0

    def observe(self, _deployment: str) -> Running | None:
        return self.running

    def deploy(self, _deployment: str, release: Release, _smoke: Sequence[Any]) -> Running:
        self.done.append("deploy")
        return self._serve(release)

    @contextmanager
    def try_out(
        self, _deployment: str, release: Release, _smoke: Sequence[Any], *, splits: bool
    ) -> Iterator[Target]:
        self.done.append("split" if splits else "switch")
        self._release = release
        yield self

    def weigh(self, share: float) -> None:
        self.done.append(f"{share:g}")

    def read(self) -> Reading:
        self._reads += 1
        return Reading(self._counts(self.champion_fails), self._counts(self.failing))

    def _counts(self, failing: float) -> Counts:
        failed = round(self.requests * failing)
        return Counts({200: (self.requests - failed) * self._reads, 500: failed * self._reads})

    def promote(self) -> None:
        self.done.append("promote")
        self._serve(self._release)

    def abort(self) -> None:
        self.done.append("abort")

    def _serve(self, release: Release) -> Running:
        self.running = Running(
            "serving", release.digest, "loans", 2, "http://127.0.0.1:3000", "", 1, 1, 0
        )
        return self.running


class Stop(threading.Event):
    """An apply that nobody ends, and time that flies; or one that ends at once."""

    def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002
        return self.is_set()


Deploy = Callable[..., Running]


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def deploy(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> Deploy:
    clock = iter(range(1_000_000))

    def later(sleep: Callable[[float], bool]) -> Any:
        return SimpleNamespace(now=lambda: float(next(clock)), sleep=sleep)

    monkeypatch.setattr(rollouts, "Clock", later)

    def deploy(
        target: Target,
        terms: Mapping[str, Any] | None = CANARY,
        step: Step = STEP,
        *,
        stopped: bool = False,
        port: int = 3000,
        kind: str = "local",
    ) -> Running:
        stop = Stop()
        if stopped:
            stop.set()
        rollout = Rollout.model_validate(terms) if terms else None
        deployment = Deployment(model="loans", targets=("here",), rollout=rollout)
        resource = DeploymentResource("loans", "here", deployment, port, {}, {}, (), kind=kind)
        context: Any = SimpleNamespace(
            root=tmp_path,
            unlocked=nullcontext,
            stop=SimpleNamespace(asked=stop),
            on_line=lambda address, line: said.append(f"{address}: {line}"),
        )
        hands: Any = target
        given: Context = context
        return rollouts.deploy(step, resource, RELEASE, hands, given)

    return deploy


def test_a_good_release_is_promoted_and_its_numbers_are_told(
    deploy: Deploy, said: list[str]
) -> None:
    target = Target()
    running = deploy(target)
    assert target.done == ["split", "0.2", "promote"]
    assert running.release == RELEASE.digest
    assert running.note.startswith(
        "serves at http://127.0.0.1:3000, after canary: 20% → 100%, bake 1s: "
    )
    assert "requests failed (0%), limit 50%" in running.note
    assert said[0] == "deployment.loans@here: canary 20% baking"
    assert said[-1].startswith("deployment.loans@here: canary 100% promoted: ")


@pytest.mark.parametrize(
    ("terms", "step", "port", "running"),
    [
        (None, STEP, 3000, True),
        (CANARY, Step(STEP.address, Action.ROLLBACK, Consequence.REDEPLOY, ""), 3000, True),
        (CANARY, STEP, 3001, True),
        (CANARY, STEP, 3000, False),
    ],
    ids=["none", "back", "port", "first"],
)
def test_what_has_no_steps_is_done_at_once(
    deploy: Deploy, terms: Any, step: Step, port: int, running: bool
) -> None:
    target = Target()
    if not running:
        target.running = None
    deploy(target, terms, step, port=port)
    assert target.done == ["deploy"]


def test_another_port_of_a_host_is_taken_at_once(deploy: Deploy) -> None:
    target = Target()
    deploy(target, port=3001, kind="ssh")
    assert target.done == ["deploy"]


def test_what_serves_already_is_mended_at_once(deploy: Deploy) -> None:
    target = Target(RELEASE.digest)
    deploy(target)
    assert target.done == ["deploy"]


def test_a_bad_release_goes_back(deploy: Deploy, tmp_path: Path) -> None:
    target = Target()
    target.failing = 0.9
    with pytest.raises(RolledBack, match="version 2 of loans went back: 900 of 1000") as error:
        deploy(target)
    assert not isinstance(error.value, Undecided)
    assert error.value.exit_code is ExitCode.ROLLED_BACK
    assert error.value.message.endswith("(at 20% of requests)")
    assert target.done == ["split", "0.2", "abort"]
    shown = Board(tmp_path, "loans@here").load()
    assert shown is not None
    assert (shown["phase"], shown["refused"], shown["version"]) == ("aborted", True, 2)


def test_what_was_aborted_and_not_recorded_is_not_tried_again(deploy: Deploy) -> None:
    target = Target()
    target.failing = 0.9
    for _ in range(2):
        with pytest.raises(RolledBack, match="went back: 900 of 1000"):
            deploy(target)
    assert target.done == ["split", "0.2", "abort"]
    # other terms are another trial
    with pytest.raises(RolledBack):
        deploy(target, {**CANARY, "bake": "2s"})
    assert target.done.count("abort") == 2


def test_a_release_that_is_not_to_blame_may_be_tried_again(deploy: Deploy) -> None:
    target = Target()
    target.failing = target.champion_fails = 0.9
    with pytest.raises(Undecided, match="version 2 of loans went back"):
        deploy(target)
    target.failing = target.champion_fails = 0.0
    deploy(target)
    assert target.done[-1] == "promote"


def test_an_apply_that_ends_goes_back_and_the_next_one_goes_on(
    deploy: Deploy, tmp_path: Path
) -> None:
    target = Target()
    with pytest.raises(CutShort):
        deploy(target, stopped=True)
    assert target.done == ["split", "0.2", "abort"]
    board = Board(tmp_path, "loans@here")
    assert not board.alive()
    with pytest.raises(MlspecError, match="no rollout"):
        board.tell(Order.PAUSE)
    deploy(target)
    assert target.done[-1] == "promote"


def test_a_target_without_rollouts(deploy: Deploy) -> None:
    target: Any = SimpleNamespace(observe=Target().observe)
    with pytest.raises(MlspecError, match="targets of kind local have no rollouts"):
        deploy(target)
