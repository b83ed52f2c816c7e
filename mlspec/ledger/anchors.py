"""Whether a ledger is still the one that it was: what it cannot tell by itself.

A history that was written anew is as sound as the old one. So it is held against what is known from
elsewhere: the commit that the remote was last seen with, and commits that somebody noted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger.check import RECOVER, Problem
from mlspec.ledger.packed import is_sound, packed_refs
from mlspec.ledger.snapshot import Snapshot
from mlspec.ledger.store import FETCHED, REF, Ledger

_REF = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?\n")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


def check_refs(git: Git) -> Iterator[Problem]:
    """A ref that is a file says one commit, as Git writes it; and so do those that are packed."""
    for name in (REF, FETCHED):
        if not is_as_written(git, name):
            yield Problem("ledger", name, f"{name} is not what Git wrote", RECOVER)
    if not is_sound(git):
        file = packed_refs(git)
        yield Problem("ledger", str(file), f"{file} has lines that Git cannot read", RECOVER)


def is_as_written(git: Git, ref: str) -> bool:
    """Whether the file of a ref, if it has one, names a commit and nothing else."""
    file = git.common_dir / ref
    try:
        return not file.exists() or _REF.fullmatch(file.read_text("utf-8")) is not None
    except (OSError, ValueError):
        return False


def check_remote(git: Git, tip: str) -> Iterator[Problem]:
    """What the remote was seen to have is still here."""
    try:
        known = git.ref(FETCHED)
        if not known:
            return
        if not tip:
            message = f"{REF} is gone, though the remote's was at {known}"
            yield Problem("ledger", REF, message, RECOVER)
            return
        common = git.merge_base(known, tip)
        if common == tip != known:
            message = f"the ledger lacks what the remote had, which was at {known}"
            yield Problem(
                "history", FETCHED, message, "the next `mlspec apply` takes it from there"
            )
        elif common != known:
            message = f"the ledger's history is not the remote's, which was at {known}"
            hint = (
                "the next `mlspec apply` joins them if others recorded at the same time; "
                f"if this one was rewritten, take the remote's: git update-ref {REF} {known}"
            )
            yield Problem("history", FETCHED, message, hint)
    except MlspecError as error:
        yield Problem("ledger", FETCHED, error.message, RECOVER)


def check_anchor(git: Git, tip: str, noted: str) -> Iterator[Problem]:
    """The commit that was `noted` is the ledger's tip, or in its history.

    Raises :class:`MlspecError` if that is no id of a commit.
    """
    if not _COMMIT.fullmatch(noted):
        hint = "`mlspec fsck` prints the one to note; so does: git rev-parse " + REF
        raise MlspecError(f"{noted!r} is not the id of a commit", hint=hint)
    ledger = Ledger(git)
    try:
        if any(oid.startswith(noted) for oid, _ in ledger.chain(tip)):
            return
        serial = Snapshot(ledger.objects, tip).serial
    except MlspecError:
        serial = 0  # what is damaged was told already
    message = f"the ledger, at serial {serial}, does not hold the commit {noted} that was noted"
    hint = f"a clone or backup that holds it has the ledger as it was: git fetch CLONE {REF}"
    yield Problem("anchor", noted, message, hint)
