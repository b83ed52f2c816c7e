"""`mlspec unlock ID`: free a lock whose holder is gone."""

from __future__ import annotations

import os
from pathlib import Path

from mlspec.errors import Locked, MlspecError
from mlspec.git import Git
from mlspec.ledger.lock import acquire, load_holder, lock_file
from mlspec.render.console import Console


def unlock(start: Path, console: Console, *, lock_id: str) -> int:
    """Take the note of the holder away; refuses while the holder lives, or may."""
    git = Git(Git(start).toplevel)
    try:
        holder = load_holder(git)
        if holder is None:
            console.say("Nobody holds the lock.")
            return 0
        if holder.id != lock_id:
            raise MlspecError(
                f"the lock is not {lock_id!r}: it is held by {holder}",
                hint=f"if that one is gone: mlspec unlock {holder.id}",
            )
        try:
            with acquire(git):
                console.say(f"The lock is free; its last holder was {holder}.")
                return 0
        except Locked as error:
            _free(git, holder.host, holder.pid, error)
            console.say(f"The lock was freed; its holder was {holder}.")
            return 0
    finally:
        git.close()


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
