"""Tries a job as often as it may fail.

Comes in: an executor and a job. Goes out: the last outcome.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from mlspec.executors import Cause, Executor, Job, Outcome

FINAL = frozenset({Cause.OK, Cause.INTERRUPTED})


def run_with_retries(executor: Executor, job: Job) -> Outcome:
    """Run `job` until it ends well, at most `1 + job.retries` times; seconds are those of all."""
    executor.check(job)
    outcome = _run_once(executor, job)
    seconds = outcome.seconds
    tries = 1
    while outcome.cause not in FINAL and tries <= job.retries:
        if job.on_line is not None:
            job.on_line(f"{outcome.detail}; trying again ({tries} of {job.retries})")
        outcome = _run_once(executor, job)
        seconds += outcome.seconds
        tries += 1
    detail = outcome.detail if tries == 1 else f"{outcome.detail} (try {tries})"
    return replace(outcome, seconds=seconds, detail=detail)


def remove_output(path: Path) -> None:
    """Delete a file or a folder, never what a link points at: that may be an object of DVC's."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run_once(executor: Executor, job: Job) -> Outcome:
    for path in job.outputs:
        remove_output(job.root / path)
    return executor.run(job)
