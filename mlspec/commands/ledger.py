"""`mlspec ledger recover`: go back to the last good ledger that Git still has."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger.check import claimed_serial
from mlspec.ledger.lock import acquire
from mlspec.ledger.recover import current_tip, find_good, gather, is_whole, lost, put_back, restore
from mlspec.render.console import Console
from mlspec.render.style import escape

_MOST = 20


def recover(start: Path, console: Console, *, yes: bool, lock_timeout: float) -> int:
    """Say what would be lost, ask, and do it. Nothing that is damaged is deleted."""
    git = Git(Git(start).toplevel)
    try:
        with acquire(git, lock_timeout):
            tip = current_tip(git)
            if is_whole(git, tip):
                console.say("The ledger is whole; nothing to recover.")
                return 0
            if not yes:
                _ask(console)
            aside = gather(git)
            found = find_good(git)
            if found is None:
                put_back(aside)
                raise MlspecError(
                    "no good ledger is left, neither here nor at the remote",
                    hint="copy refs/mlspec/ledger from another clone: git fetch CLONE "
                    "refs/mlspec/ledger:refs/mlspec/ledger",
                )
            entries = [*islice(lost(git, tip, found), _MOST + 1)]
            unread = tip != "" and not claimed_serial(git, tip)
            restore(git, found)
    finally:
        git.close()
    console.say(f"The ledger is at serial {found.serial}, commit {found.commit}.")
    if found.highest > found.serial:
        console.say(f"Lost: serials {found.serial + 1} to {found.highest}.")
        for entry in entries[:_MOST]:
            console.say(f"  {escape(entry)}")
        console.say("`mlspec plan` shows what is to be done again.")
    elif unread:
        console.say(f"Lost: what came after it, up to commit {tip}, which cannot be read.")
        console.say("`mlspec plan` shows what is to be done again.")
    else:
        console.say("Nothing was lost.")
    return 0


def _ask(console: Console) -> None:
    if not console.interactive:
        raise MlspecError(
            "nobody is here to confirm the recovery",
            hint="look at `mlspec fsck`, then run `mlspec ledger recover --yes`",
        )
    question = "Move damaged objects aside and go back to the last good serial?"
    if not console.confirm(question):
        raise MlspecError("not confirmed; nothing was changed")
