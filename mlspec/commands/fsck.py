"""`mlspec fsck`: whether what mlspec keeps is whole. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from mlspec.dvc.lock import parse_lock
from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger.anchors import check_anchor, check_refs, check_remote
from mlspec.ledger.approvals import check_approvals
from mlspec.ledger.check import RECOVER, LedgerCheck, Problem
from mlspec.ledger.lock import acquire
from mlspec.ledger.recover import find_good
from mlspec.ledger.signatures import check_signatures, wants_signatures
from mlspec.ledger.store import FETCHED, REF, Ledger
from mlspec.ledger.unfinished import load_unfinished, worktrees_left
from mlspec.leftovers import find_leftovers
from mlspec.reconcile import storage_folder
from mlspec.render.console import Console
from mlspec.render.style import escape

_APPLY = "the next `mlspec apply` takes it away"


@dataclass(frozen=True, slots=True)
class Asked:
    """What is looked at beside: commits of the ledger that somebody noted, and signatures."""

    anchors: tuple[str, ...] = ()
    signed: bool = False


NOTHING_MORE = Asked()


def fsck(start: Path, console: Console, asked: Asked, *, as_json: bool) -> int:
    """Look at everything, and say what is wrong; exit code 1 if anything is."""
    git = Git(start)
    try:
        root = git.toplevel
        problems = [*find_problems(root, Git(root), asked)]
        tip, serial = _place(git)
        lost = None if tip or problems else find_good(git)
    finally:
        git.close()
    if as_json:
        ledger = {"commit": tip, "serial": serial}
        console.say_json({"ledger": ledger, "problems": [asdict(each) for each in problems]})
    else:
        for problem in problems:
            console.say(f"{problem.kind}: {escape(problem.message)}")
            console.say(f"  = help: {escape(problem.hint)}")
        count = len(problems)
        found = "No problem" if not count else f"{count} problem{'s' * (count > 1)}"
        console.say(f"{found} found.")
        if tip:
            console.say(f"The ledger is at serial {serial}, commit {tip}.")
        elif lost is not None:  # one that is lost, or the first apply ended before it was named
            there = f"one of serial {lost.serial} that {REF} does not name"
            console.say(f"There is no ledger, but Git has {there}: {RECOVER}")
    return int(bool(problems))


def _place(git: Git) -> tuple[str, int]:
    """Where the ledger is, which is what to note; nowhere if there is none that can be read."""
    with suppress(MlspecError):
        snapshot = Ledger(git).snapshot
        return snapshot.commit, snapshot.serial
    return "", 0


def find_problems(root: Path, git: Git, asked: Asked = NOTHING_MORE) -> Iterator[Problem]:
    """Everything that is wrong, the ledger first."""
    yield from _check_ledger(git, asked)
    yield from _check_git(git)
    yield from _check_locks(root)
    yield from _check_left(root, git)
    git.close()


def _check_ledger(git: Git, asked: Asked) -> Iterator[Problem]:
    yield from check_refs(git)
    try:
        tip = git.ref(REF)
    except MlspecError as error:
        yield Problem("ledger", REF, error.message, RECOVER)
        return
    if tip:
        found = [*LedgerCheck(git).check(tip)]
        yield from found
        readable = all(problem.kind != "ledger" for problem in found)
        if readable and (asked.signed or wants_signatures(git)):
            yield from check_signatures(git, tip, every=asked.signed)
        if not found:
            yield from check_approvals(git, tip, signed=asked.signed)
    yield from check_remote(git, tip)
    for noted in asked.anchors:
        yield from check_anchor(git, tip, noted)


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
            places = worktrees_left(git, root) or [root]
            left = (find_leftovers(place, git, storage_folder(place)) for place in places)
            for path in dict.fromkeys(path for paths in left for path in paths):
                hint = f"{_APPLY}, or do it by hand: rm {path}"
                yield Problem("temporary", str(path), f"{path} is left of one that ended", hint)
            for name in (REF, FETCHED):
                lock = git.common_dir / f"{name}.lock"
                if lock.exists():
                    message = f"{lock} is left of a Git that was killed"
                    yield Problem("lock", str(lock), message, _APPLY)
    except MlspecError:  # somebody is at work
        return
