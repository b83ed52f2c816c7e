"""A rollout against a target that is only numbers: what it is told, and in which order."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspec.errors import MlspecError
from mlspec.rollouts.board import Board
from mlspec.rollouts.counts import Counts
from mlspec.rollouts.driver import Clock, Reading, Stopped, drive
from mlspec.rollouts.engine import Order, Phase, State, Terms
from mlspec.rollouts.judge import Limits, Query

TERMS = Terms("canary", (0.1, 0.5), bake=20, limits=Limits(error_rate=0.05, least=50))


class World:
    """A clock, and a trial that gets `rate` requests a second, of which some fail."""

    def __init__(self, rate: int = 100, failing: float = 0.0) -> None:
        self.time = 0.0
        self.rate = rate
        self.failing = failing
        self.trouble = ""
        self.share = 0.0
        self.done: list[str] = []
        self.shown: list[State] = []
        self.orders: list[Order | None] = []
        self.stop_at = float("inf")
        self.broken: Exception | None = None
        self.queried: float | None = None
        self._champion = [500, 5]
        self._candidate = [3, 2]

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> bool:
        self.time += seconds
        for counts, share in ((self._champion, 1 - self.share), (self._candidate, self.share)):
            requests = round(self.rate * seconds * share)
            failed = round(requests * self.failing) if counts is self._candidate else 0
            counts[0] += requests - failed
            counts[1] += failed
        return self.time >= self.stop_at

    def weigh(self, share: float) -> None:
        self.share = share
        self.done.append(f"{share:g}")

    def read(self) -> Reading:
        if self.broken:
            raise self.broken
        champion, candidate = self._champion, self._candidate
        return Reading(
            Counts({200: champion[0], 500: champion[1]}),
            Counts({200: candidate[0], 500: candidate[1]}),
            self.trouble,
        )

    def promote(self) -> None:
        self.done.append("promote")

    def abort(self) -> None:
        self.done.append("abort")

    def drive(self, terms: Terms = TERMS, step: int = 0) -> State:
        clock = Clock(self.now, self.sleep)
        orders = iter(self.orders)
        return drive(
            terms,
            self,
            clock,
            show=self.shown.append,
            order=lambda: next(orders, None),
            query=lambda: self.queried,
            step=step,
        )


def test_a_good_candidate_is_promoted() -> None:
    world = World()
    state = world.drive()
    assert state.phase is Phase.PROMOTED
    assert world.done == ["0.1", "0.5", "promote"]
    assert world.shown[-1] == state
    assert [shown.step for shown in world.shown] == sorted(shown.step for shown in world.shown)


def test_a_bad_one_goes_back_and_what_it_did_before_the_step_does_not_count() -> None:
    world = World(failing=0.4)
    state = world.drive()
    assert (state.phase, state.refused) == (Phase.ABORTED, True)
    assert world.done == ["0.1", "abort"]
    assert "of 20 requests failed" in state.reason


def test_without_traffic_it_waits() -> None:
    world = World(rate=0)
    world.stop_at = 10_000
    with pytest.raises(Stopped):
        world.drive()
    assert world.done == ["0.1", "abort"]
    assert world.shown[-1].verdict is not None
    assert world.shown[-1].verdict.result == "inconclusive"
    assert "0 requests of at least 50" in world.shown[-1].verdict.detail


def test_a_sick_candidate_goes_back() -> None:
    world = World()
    world.trouble = "a worker ended"
    assert world.drive().reason == "a worker ended"
    assert world.time == 1


def test_what_served_serves_again_when_the_target_is_lost() -> None:
    world = World()
    world.broken = MlspecError("gone")
    with pytest.raises(MlspecError, match="gone"):
        world.drive()
    assert world.done == ["0.1", "abort"]


def test_orders_are_obeyed() -> None:
    world = World()
    world.orders = [None, Order.PAUSE, None, None, Order.ABORT]
    state = world.drive()
    assert [shown.phase for shown in world.shown[2:4]] == [Phase.PAUSED, Phase.PAUSED]
    assert (state.phase, world.time) == (Phase.ABORTED, 5)


def test_an_earlier_try_goes_on_at_its_step() -> None:
    world = World()
    world.drive(step=1)
    assert world.done == ["0.5", "promote"]


def test_a_number_that_others_measure() -> None:
    asked = Limits(query=Query("http://127.0.0.1:9090", "lost", 0.1))
    terms = Terms("canary", (0.1,), bake=5, limits=asked)
    world = World()
    world.queried = 0.5
    assert world.drive(terms).reason == "query: 0.5, limit 0.1"
    world = World()
    world.queried = 0.05
    assert world.drive(terms).phase is Phase.PROMOTED


def test_blue_green_changes_over_once() -> None:
    world = World()
    world.drive(Terms("blue-green", (1.0,), 5, limits=Limits(error_rate=0.05)))
    assert world.done == ["1", "promote"]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board(tmp_path, "loans@here")
    with board.held():
        yield board


def show(board: Board, state: State) -> dict[str, Any] | None:
    board.show("trial", TERMS, state, {"model": "loans", "version": 2})
    return board.load()


def test_a_board_shows_the_state(board: Board) -> None:
    shown = show(board, State(Phase.BAKING, 1, 5.0))
    assert shown is not None
    assert (shown["phase"], shown["step"], shown["version"]) == ("baking", 1, 2)
    assert shown["shares"] == [0.1, 0.5]
    board.forget()
    assert board.load() is None


def test_a_board_takes_orders_while_it_is_held(tmp_path: Path, board: Board) -> None:
    assert board.take_order() is None
    Board(tmp_path, "loans@here").tell(Order.PAUSE)
    Board(tmp_path, "loans@here").tell(Order.ABORT)
    assert board.take_order() is Order.ABORT
    assert board.take_order() is None


def test_nobody_takes_orders_of_what_has_ended(tmp_path: Path) -> None:
    board = Board(tmp_path, "loans@here")
    with pytest.raises(MlspecError, match=r"no rollout of deployment\.loans@here is under way"):
        board.tell(Order.PAUSE)
    with board.held():
        pass
    assert not board.alive()


def test_an_order_to_an_earlier_driver_is_void(tmp_path: Path) -> None:
    board = Board(tmp_path, "loans@here")
    with board.held():
        board.tell(Order.ABORT)
    with board.held():
        assert board.take_order() is None


def test_what_is_left_of_one_that_was_killed(board: Board) -> None:
    show(board, State(Phase.BAKING, 1, 5.0))
    left = board.left_of("trial")
    assert left is not None
    assert left["step"] == 1
    assert board.left_of("another") is None
    show(board, State(Phase.PROMOTED, 1, 5.0))
    assert board.left_of("trial") is None


def test_a_board_that_was_spoiled_shows_nothing(tmp_path: Path, board: Board) -> None:
    for text in ("{", "[]", "{}"):
        (tmp_path / ".mlspec/rollouts/loans@here.json").write_text(text)
        assert board.load() is None


def test_the_lock_is_free_when_its_holder_is_gone(tmp_path: Path, board: Board) -> None:
    assert board.alive()
    with (tmp_path / ".mlspec/rollouts/loans@here.lock").open() as lock, pytest.raises(OSError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
