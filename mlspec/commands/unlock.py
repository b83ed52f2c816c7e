"""`mlspec unlock ID`: free a lock whose holder is gone, here and at the remote."""

from __future__ import annotations

import os
from pathlib import Path

from mlspec.errors import Locked, MlspecError
from mlspec.git import Git
from mlspec.ledger.lock import Holder, acquire, load_holder, lock_file
from mlspec.ledger.remote_lock import find_holder, free
from mlspec.render.console import Console


def unlock(start: Path, console: Console, *, lock_id: str) -> int:
    """Free what is held under that id; refuses while the holder lives, or may."""
    git = Git(Git(start).toplevel)
    try:
        here = load_holder(git)
        known = here is not None and here.id == lock_id
        if here is not None and known:
            _unlock_here(git, console, here)
        there = find_holder(git)
        if there is not None and there.id == lock_id:
            free(git, lock_id)
            console.say(f"The lock of the remote {git.remote} was freed; its holder was {there}.")
        elif not known:
            _tell_unknown(console, here or there, lock_id)
    finally:
        git.close()
    return 0


def _tell_unknown(console: Console, holder: Holder | None, lock_id: str) -> None:
    if holder is not None:
        raise MlspecError(
            f"the lock is not {lock_id!r}: it is held by {holder}",
            hint=f"if that one is gone: mlspec unlock {holder.id}",
        )
    console.say("Nobody holds the lock.")


def _unlock_here(git: Git, console: Console, holder: Holder) -> None:
    """Take the note of the holder away."""
    try:
        with acquire(git):
            console.say(f"The lock is free; its last holder was {holder}.")
    except Locked as error:
        _free(git, holder.host, holder.pid, error)
        console.say(f"The lock was freed; its holder was {holder}.")


def _free(git: Git, host: str, pid: int, error: Locked) -> None:
    """The kernel still has it locked: for a process here that lives, or one of another machine."""
    if host != os.uname().nodename:
        raise Locked(
            f"{error.message}; whether it lives can only be told on {host}",
            hint=f"end process {pid} there: the lock goes with it",
        )
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        # A child of the holder has the file open. The next holder locks another file.
        lock_file(git).unlink(missing_ok=True)
    except PermissionError as denied:
        raise Locked(f"{error.message}; it lives", hint=error.hint) from denied
    else:
        raise Locked(f"{error.message}; it lives", hint=f"wait for it, or end it: kill {pid}")
