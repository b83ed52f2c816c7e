"""A stage that wants more than there is is not started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.executors import capacity
from mlspec.executors.capacity import Machine
from mlspec.spec.models import Resources

GIB = 2**30


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processors, 8 GiB, one graphics processor."""
    monkeypatch.setattr(capacity, "count_cpus", lambda: 4)
    monkeypatch.setattr(capacity, "_memory", lambda: 8 * GIB)
    monkeypatch.setattr(capacity, "_count_gpus", lambda: 1)


def resources(**wanted: object) -> Resources:
    return Resources.model_validate(wanted)


@pytest.mark.parametrize(
    "wanted", [{}, {"cpus": 4.0, "memory": "8GiB", "gpus": 1}, {"cpus": 0.5, "memory": "1B"}]
)
def test_what_is_there_is_given(wanted: dict[str, object]) -> None:
    Machine().check("stage.m.train", resources(**wanted))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"cpus": 4.5}, "4.5 cpus (4 here)"),
        ({"memory": "9GiB"}, "9 GiB of memory (8 GiB here)"),
        ({"gpus": 2}, "2 gpus (1 here)"),
        ({"cpus": 64.0, "gpus": 8}, "64 cpus (4 here), 8 gpus (1 here)"),
    ],
)
def test_what_is_not_there_is_named(wanted: dict[str, object], said: str) -> None:
    with pytest.raises(MlspecError) as caught:
        Machine().check("stage.m.train", resources(**wanted))
    assert caught.value.message == f"stage.m.train was not run: it wants {said}"
    assert "`resources`" in caught.value.hint


def test_no_graphics_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "_count_gpus", lambda: 0)
    with pytest.raises(MlspecError, match=r"1 gpus \(none here\)"):
        Machine().check("stage.m.train", resources(gpus=1))


def test_memory_that_the_system_does_not_tell_is_not_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(capacity, "_memory", lambda: None)
    Machine().check("stage.m.train", resources(memory="900TiB"))


def test_each_thing_is_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []
    monkeypatch.setattr(capacity, "_count_gpus", lambda: looks.append("gpus") or 1)
    machine = Machine()
    for _ in range(3):
        machine.check("stage.m.train", resources(gpus=1))
    assert looks == ["gpus"]


@pytest.mark.parametrize(
    ("count", "text"), [(1, "1 B"), (1536, "1.5 KiB"), (2**40, "1 TiB"), (2**52, "4096 TiB")]
)
def test_sizes_are_said_in_units(count: int, text: str) -> None:
    assert capacity.readable_size(count) == text


class TestThisMachine:
    """The real ones, not those of the fixture."""

    @pytest.fixture(autouse=True)
    def machine(self) -> None:
        """Nothing is made up."""

    def test_it_has_the_cores_that_this_process_may_use(self) -> None:
        assert 1 <= capacity.count_cpus() <= (os.cpu_count() or 1)

    def test_it_has_memory(self) -> None:
        found = capacity._memory()
        assert found is not None
        assert found > 2**20

    def test_a_control_group_may_allow_less(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inner = tmp_path / "a/b"
        inner.mkdir(parents=True)
        (inner / "memory.max").write_text("max\n")
        (tmp_path / "a/memory.max").write_text("4096\n")
        monkeypatch.setattr(
            capacity, "memory_groups", lambda: iter((inner, tmp_path / "a", tmp_path))
        )
        assert capacity._memory() == 4096

    def test_nvidia_smi_counts_where_there_are_no_devices(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text("#!/bin/sh\necho 'GPU 0: A'\necho 'GPU 1: B'\necho other\n")
        program.chmod(0o755)
        monkeypatch.setattr(Path, "glob", lambda *_: iter(()))
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        assert capacity._count_gpus() == 2

    def test_devices_are_counted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        found = [Path("/dev/nvidia0"), Path("/dev/nvidia1"), Path("/dev/nvidia0-caps")]
        monkeypatch.setattr(Path, "glob", lambda *_: iter(found))
        assert capacity._count_gpus() == 2
