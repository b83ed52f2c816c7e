"""Commands that run at the same time want no more than there is, and none waits for ever."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.executors.capacity import Machine
from mlspec.executors.slots import ELSEWHERE, MOST_ELSEWHERE, NOTHING, Slots
from mlspec.spec.models import Resources

GIB = 2**30


@pytest.fixture
def slots() -> Slots:
    """Of a machine with four cores, 8 GiB and two graphics processors, for four jobs."""
    machine = Machine()
    vars(machine).update(cpus=4, memory=8 * GIB, gpus=2)
    return Slots(machine, 4)


def wants(slots: Slots, **resources: Any) -> tuple[int, ...]:
    return slots.here(Resources.model_validate(resources))


def fill(slots: Slots, *claims: tuple[int, ...]) -> list[int]:
    """Which of the claims start now, one after the other."""
    waiting = list(enumerate(claims))
    started = []
    while (number := slots.choose(waiting)) is not None:
        slots.take(claims[number])
        waiting = [(other, claim) for other, claim in waiting if other != number]
        started.append(number)
    return started


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({}, 4),
        ({"cpus": 0.1}, 4),
        ({"cpus": 1.5}, 2),
        ({"cpus": 4.0}, 1),
        ({"cpus": 64.0}, 1),
        ({"gpus": 1}, 2),
        ({"memory": "3GiB"}, 2),
        ({"memory": "900GiB"}, 1),
    ],
)
def test_as_many_as_there_is_room_for(slots: Slots, wanted: dict[str, Any], count: int) -> None:
    assert fill(slots, *[wants(slots, **wanted)] * 6) == list(range(count))


def test_what_is_given_back_is_free(slots: Slots) -> None:
    claim = wants(slots, cpus=3.0)
    assert fill(slots, claim, claim) == [0]
    slots.give(claim)
    assert fill(slots, claim) == [0]


def test_what_needs_nothing_always_starts(slots: Slots) -> None:
    fill(slots, wants(slots, cpus=4.0))
    assert slots.choose([(0, wants(slots)), (1, NOTHING)]) == 1


def test_other_machines_are_not_limited_by_this_one(slots: Slots) -> None:
    fill(slots, wants(slots, cpus=4.0))
    assert len(fill(slots, *[ELSEWHERE] * 300)) == MOST_ELSEWHERE


def test_the_first_that_waits_gets_what_becomes_free(slots: Slots) -> None:
    """It lacks cores, and whoever is behind it may not have them."""
    running, large, small = wants(slots, cpus=3.0), wants(slots, cpus=2.0), wants(slots)
    assert fill(slots, running, large, small) == [0]
    slots.give(running)
    assert fill(slots, large, small, small) == [0, 1, 2]


def test_what_it_lacked_once_stays_kept_for_it(slots: Slots) -> None:
    """First no graphics processor is free, then no core: neither is taken from it meanwhile."""
    busy = wants(slots, gpus=2, cpus=1.0)
    slots.take(busy)
    first = (7, wants(slots, gpus=2, cpus=4.0))
    cores = wants(slots, cpus=3.0)
    assert slots.choose([first]) is None
    slots.take(cores)
    slots.give(busy)
    assert slots.choose([first, (8, wants(slots, gpus=1, cpus=0.5))]) is None
    slots.give(cores)
    assert slots.choose([first]) == 7


def test_who_waits_for_a_gpu_leaves_the_cores_to_others(slots: Slots) -> None:
    slots.take(wants(slots, gpus=2))
    waiting = [(0, wants(slots, gpus=1)), (1, wants(slots)), (2, wants(slots))]
    assert slots.choose(waiting) == 1


def test_graphics_processors_are_counted_only_when_one_is_wanted() -> None:
    machine = Machine()
    vars(machine).update(cpus=1, memory=None)
    Slots(machine, 1).here(Resources())
    assert "gpus" not in vars(machine)


def test_memory_that_the_system_does_not_tell_limits_nothing() -> None:
    machine = Machine()
    vars(machine).update(cpus=2, memory=None, gpus=0)
    slots = Slots(machine, 2)
    assert fill(slots, *[wants(slots, memory="4GiB")] * 3) == [0, 1]
