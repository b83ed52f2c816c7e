"""A job is tried again only while that can help, and never finds what an earlier try wrote."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlspec.executors import Cause, Job, Outcome
from mlspec.executors.retry import remove_output, run_with_retries


class Scripted:
    """Answers with the given causes, one a run, and writes the job's outputs each time."""

    def __init__(self, *causes: Cause) -> None:
        self.left = list(causes)
        self.found: list[bool] = []

    def check(self, job: Job) -> None:
        pass

    def run(self, job: Job) -> Outcome:
        self.found += [(job.root / path).exists() for path in job.outputs]
        for path in job.outputs:
            (job.root / path).write_text("x")
        cause = self.left.pop(0)
        return Outcome(cause, 0 if cause is Cause.OK else 1, 2.0, f"it was {cause}")


def job(root: Path, retries: int = 0, lines: list[str] | None = None) -> Job:
    on_line = None if lines is None else lines.append
    return Job("stage.m.s", "x", root, root / "log", None, retries, ("out",), on_line=on_line)


@pytest.mark.parametrize(
    ("retries", "causes", "cause", "seconds"),
    [
        (0, [Cause.EXIT], Cause.EXIT, 2.0),
        (2, [Cause.OK], Cause.OK, 2.0),
        (2, [Cause.EXIT, Cause.TIMEOUT, Cause.OK], Cause.OK, 6.0),
        (1, [Cause.EXIT, Cause.OUT_OF_MEMORY], Cause.OUT_OF_MEMORY, 4.0),
        (5, [Cause.EXIT, Cause.INTERRUPTED], Cause.INTERRUPTED, 4.0),
    ],
)
def test_how_often(
    tmp_path: Path, retries: int, causes: list[Cause], cause: Cause, seconds: float
) -> None:
    executor = Scripted(*causes)
    outcome = run_with_retries(executor, job(tmp_path, retries))
    assert (outcome.cause, outcome.seconds, executor.left) == (cause, seconds, [])
    assert not any(executor.found)


def test_each_new_try_is_told(tmp_path: Path) -> None:
    lines: list[str] = []
    run_with_retries(Scripted(Cause.EXIT, Cause.OK), job(tmp_path, 1, lines))
    assert lines == ["it was exit; trying again (1 of 1)"]


def test_removing_an_output_leaves_what_it_links_to(tmp_path: Path) -> None:
    (tmp_path / "object").mkdir()
    (tmp_path / "object/x").write_text("kept")
    (tmp_path / "out").symlink_to("object")
    remove_output(tmp_path / "out")
    remove_output(tmp_path / "out")
    assert (tmp_path / "object/x").read_text() == "kept"
    remove_output(tmp_path / "object")
    assert list(tmp_path.iterdir()) == []
