"""`mlspec fsck`: whether what mlspec keeps is whole. It changes nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from mlspec.dvc.lock import parse_lock
from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger.check import LedgerCheck, Problem
from mlspec.ledger.lock import acquire
from mlspec.ledger.store import FETCHED, REF
from mlspec.ledger.unfinished import load_unfinished
from mlspec.leftovers import find_leftovers
from mlspec.reconcile import storage_folder
from mlspec.render.console import Console
from mlspec.render.style import escape

_RECOVER = "mlspec ledger recover"
_APPLY = "the next `mlspec apply` takes it away"
_REF = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\n")


def fsck(start: Path, console: Console, *, as_json: bool) -> int:
    """Look at everything, and say what is wrong; exit code 1 if anything is."""
    git = Git(start)
    try:
        root = git.toplevel
        problems = [*find_problems(root, Git(root))]
    finally:
        git.close()
    if as_json:
        console.say_json({"problems": [asdict(problem) for problem in problems]})
    else:
        for problem in problems:
            console.say(f"{problem.kind}: {escape(problem.message)}")
            console.say(f"  = help: {escape(problem.hint)}")
        count = len(problems)
        found = "No problem" if not count else f"{count} problem{'s' * (count > 1)}"
        console.say(f"{found} found.")
    return int(bool(problems))


def find_problems(root: Path, git: Git) -> Iterator[Problem]:
    """Everything that is wrong, the ledger first."""
    yield from _check_refs(git)
    try:
        tip = git.ref(REF)
    except MlspecError as error:
        yield Problem("ledger", REF, error.message, _RECOVER)
        tip = ""
    if tip:
        yield from LedgerCheck(git).check(tip)
        yield from _check_history(git, tip)
    else:
        yield from _check_absent(git)
    yield from _check_git(git)
    yield from _check_locks(root)
    yield from _check_left(root, git)
    git.close()


def _check_refs(git: Git) -> Iterator[Problem]:
    """A ref that is a file says one commit, as Git writes it."""
    for name in (REF, FETCHED):
        file = git.common_dir / name
        try:
            if file.exists() and not _REF.fullmatch(file.read_text("utf-8")):
                yield Problem("ledger", name, f"{name} names no commit", _RECOVER)
        except (OSError, ValueError) as error:
            yield Problem("ledger", name, f"{name} cannot be read: {error}", _RECOVER)


def _check_absent(git: Git) -> Iterator[Problem]:
    """A ledger that the remote was seen to have is missing here."""
    try:
        known = git.ref(FETCHED)
    except MlspecError as error:
        yield Problem("ledger", FETCHED, error.message, _RECOVER)
        return
    if known:
        message = f"{REF} is gone, though the remote's was at {known}"
        yield Problem("ledger", REF, message, _RECOVER)


def _check_history(git: Git, tip: str) -> Iterator[Problem]:
    """What the remote had is still there: a history that was written anew is told by this alone."""
    try:
        known = git.ref(FETCHED)
        if known and git.merge_base(known, tip) not in (known, tip):
            message = f"the ledger's history is not the remote's, which was at {known}"
            hint = "if nobody pushes just now: mlspec ledger recover takes the remote's"
            yield Problem("history", FETCHED, message, hint)
    except MlspecError as error:
        yield Problem("ledger", FETCHED, error.message, _RECOVER)


def _check_git(git: Git) -> Iterator[Problem]:
    """Git's own opinion of its database, of which the ledger is a part."""
    done = git.call("fsck", "--full", "--no-dangling", "--no-reflogs", "--no-progress")
    if done.returncode != 0:
        lines = (done.stderr + done.stdout).decode("utf-8", "replace").strip().splitlines()
        for line in lines[:10]:
            hint = "mlspec ledger recover, if it is of the ledger; `git fsck` says more"
            yield Problem("git", "the Git repository", line, hint)


def _check_locks(root: Path) -> Iterator[Problem]:
    """Each dvc.lock of the repository must be one."""
    for file in sorted({*root.glob("pipelines/*/dvc.lock"), *root.glob("dvc.lock")}):
        try:
            parse_lock(file.read_text("utf-8"), file.relative_to(root).as_posix())
        except (MlspecError, ValueError, OSError) as error:
            name = file.relative_to(root).as_posix()
            hint = f"take the last that was whole: git checkout {name}; then mlspec apply"
            yield Problem("dvc.lock", name, f"{name} is damaged: {error}", hint)


def _check_left(root: Path, git: Git) -> Iterator[Problem]:
    """What applies leave that are killed; nothing of one that is at work just now."""
    try:
        with acquire(git):
            for run in load_unfinished(git):
                message = f"an apply did not end: process {run.pid}, since {run.since}"
                hint = "mlspec apply, which goes on where it ended"
                yield Problem("interrupted", run.id, message, hint)
            for path in find_leftovers(root, git, storage_folder(root)):
                hint = f"{_APPLY}, or do it by hand: rm {path}"
                yield Problem("temporary", str(path), f"{path} is left of one that ended", hint)
            for name in (REF, FETCHED):
                lock = git.common_dir / f"{name}.lock"
                if lock.exists():
                    message = f"{lock} is left of a Git that was killed"
                    yield Problem("lock", str(lock), message, _APPLY)
    except MlspecError:  # somebody is at work
        return
