"""Commands at the same time get graphics processors of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlspec.executors import Job
from mlspec.executors.capacity import Machine
from mlspec.executors.devices import VARIABLE, Devices
from mlspec.executors.local import LocalExecutor
from mlspec.spec.models import Resources


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """One with four of them, all of which may be seen."""
    monkeypatch.delenv(VARIABLE, raising=False)
    machine = Machine()
    vars(machine).update(gpus=4)
    return machine


def test_each_gets_others_and_gives_them_back(machine: Machine) -> None:
    devices = Devices(machine)
    with devices.lend(2) as first, devices.lend(1) as second:
        assert (first, second) == ({VARIABLE: "0,1"}, {VARIABLE: "2"})
    with devices.lend(3) as third:
        assert third == {VARIABLE: "0,1,2"}


@pytest.mark.parametrize("count", [0, 4, 5])
def test_who_wants_none_or_all_is_left_alone(machine: Machine, count: int) -> None:
    with Devices(machine).lend(count) as environment:
        assert environment == {}


def test_only_those_that_the_user_lets_be_seen(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "2, GPU-8932f937")
    devices = Devices(machine)
    with devices.lend(1) as first, devices.lend(1) as second, devices.lend(1) as third:
        assert (first, second, third) == ({VARIABLE: "2"}, {VARIABLE: "GPU-8932f937"}, {})


def test_a_command_sees_its_own(machine: Machine, tmp_path: Path) -> None:
    job = Job(
        "stage.m.train",
        f"echo ${VARIABLE}",
        tmp_path,
        tmp_path / "log",
        resources=Resources(gpus=1),
    )
    assert LocalExecutor(machine=machine).run(job).tail == ("0",)
