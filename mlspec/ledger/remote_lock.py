"""The lock at the remote: a ref that says who holds it, moved by compare-and-swap only.

It is a commit without parents on `refs/mlspec/lock` of the remote. Its message says who holds it,
and a token that is higher with each holding. Nobody compares clocks: who sees the same commit for a
whole lease, by a clock of their own that only goes forward, may take it over. When it is given back
the ref stays, and says that nobody holds it. How it is held: :mod:`mlspec.ledger.lease`.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlspec.children import is_alive
from mlspec.errors import Locked, MlspecError
from mlspec.git import Git, Remote, is_lost_race
from mlspec.ledger.lock import Holder
from mlspec.ledger.objects import Signature
from mlspec.plan import canonical_json

REF = "refs/mlspec/lock"
LEASE = 60.0
"""Seconds, unless `git config mlspec.lease` says otherwise."""
MOST_REFUSALS = 30
"""Pushes that were refused though nobody else moved the ref."""
PAUSE = 0.1
"""Seconds after such a push."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_UNSURE = uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class Lock:
    """What the ref says: nobody has the lock if there is no `holder`.

    It is taken over when it was not renewed for `lease` seconds. `file` is the lock file of the
    holder's repository: who has locked that file knows that this holder is gone.
    """

    token: int = 0
    holder: Holder | None = None
    lease: float = LEASE
    renewals: int = 0
    file: str = ""

    @property
    def freed(self) -> Lock:
        return Lock(self.token)


@dataclass(frozen=True, slots=True)
class Seen:
    """A commit that the ref was found at, and by the clock of this machine since when."""

    oid: str
    since: float
    boot: str


def still_seen(before: Seen | None, oid: str, now: float, boot: str) -> Seen:
    """What was seen `before`, if the ref has not moved and the clock has not begun anew."""
    if before is not None and (before.oid, before.boot) == (oid, boot) and before.since <= now:
        return before
    return Seen(oid, now, boot)


def may_take(lock: Lock, seen: Seen, now: float, own_file: str) -> bool:
    """Whether nobody holds it any more, as far as one knows who has locked `own_file`."""
    if lock.holder is None or (own_file and lock.file == own_file):
        return True
    return now - seen.since >= lock.lease


def lease_seconds(git: Git) -> float | None:
    """For how long the lock at the remote is held without a renewal; none if there is no such lock.

    `git config mlspec.lock local` is the choice of nothing but the lock of each repository.
    """
    choice = git.config.get("mlspec.lock", "remote")
    if choice not in ("remote", "local"):
        hint = "git config mlspec.lock remote, which is the default, or local"
        raise MlspecError(f"mlspec.lock is {choice!r} in the configuration of Git", hint=hint)
    if choice == "local" or not git.remote:
        return None
    said = git.config.get("mlspec.lease", str(LEASE))
    with suppress(ValueError):
        if 0 < float(said) < float("inf"):
            return float(said)
    hint = "write seconds: git config mlspec.lease 60"
    raise MlspecError(f"mlspec.lease is {said!r} in the configuration of Git", hint=hint)


class LockRef:
    """The ref at the remote, and what is remembered of it in this repository."""

    def __init__(self, git: Git, draft: str = "mlspec-lock.new") -> None:
        self._draft = draft
        self.git = git
        self.remote = Remote(git, git.remote)
        self._ledger = "refs/mlspec/ledger"
        self._seen = git.common_dir / "mlspec-lock-seen.json"

    def read(self) -> tuple[str, Lock, str]:
        """The commit that the ref is at, what it says, and the tip of the ledger."""
        for _ in range(50):
            refs = self.remote.refs(REF, self._ledger)
            oid = refs.get(REF, "")
            found = self.git.objects.get(oid) if oid else None
            if oid and found is None:
                self.remote.fetch_objects(REF)
                found = self.git.objects.get(oid)
            if found is not None or not oid:
                lock = load_lock(found.data) if found else Lock()
                return oid, lock, refs.get(self._ledger, "")
        raise MlspecError(f"the lock of the remote {self.remote.name!r} moves all the time")

    def swap(self, old: str, lock: Lock) -> tuple[str, str]:
        """Have the ref say `lock` if it is at `old`: the new commit, and why not."""
        oid = self.write(lock)
        why = self.remote.push_together({REF: (oid, old)}).get(REF, "")
        if why:
            self.forget(oid)
        return oid, why

    def write(self, lock: Lock) -> str:
        """A commit that says it."""
        user = self.git.user
        by = Signature(user.name, user.email, int(time.time()))
        tree = self.git.add_loose("tree", b"", self._draft)
        lines = [f"tree {tree}", f"author {by}", f"committer {by}", "", render_lock(lock)]
        return self.git.add_loose(
            "commit", "\n".join(lines).encode("utf-8", "replace"), self._draft
        )

    def forget(self, oid: str) -> None:
        """Take a commit away that was written here and that nothing names."""
        with suppress(OSError):
            (self.git.common_dir / "objects" / oid[:2] / oid[2:]).unlink()

    def remembered(self) -> Seen | None:
        try:
            return Seen(**json.loads(self._seen.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def remember(self, seen: Seen) -> None:
        with suppress(OSError):
            self._seen.write_text(json.dumps(asdict(seen)) + "\n", encoding="utf-8")


def find_holder(git: Git) -> Holder | None:
    """Who holds the lock at the remote, asked now; none where there is no such lock."""
    return None if lease_seconds(git) is None else LockRef(git).read()[1].holder


def free(git: Git, lock_id: str) -> None:
    """Take the lock of that id from its holder, who may have ended; nothing if it is another's.

    Raises :class:`Locked` if the holder lives on this machine.
    """
    ref = LockRef(git, "mlspec-unlock.new")
    for _ in range(MOST_REFUSALS):
        oid, lock, _ = ref.read()
        holder = lock.holder
        if holder is None or holder.id != lock_id:
            return
        here = holder.host == os.uname().nodename and lock.file.partition(":")[0] == boot_id()
        if here and is_alive(holder.pid):
            raise Locked(
                f"the lock of the remote {ref.remote.name!r} is held by {holder}; it lives",
                hint=f"wait for it, or end it: kill {holder.pid}",
            )
        _, why = ref.swap(oid, lock.freed)
        if not why:
            return
        check_race(ref, why)
        time.sleep(PAUSE)
    raise refusal(ref, why)


def refusal(ref: LockRef, why: str) -> MlspecError:
    """What to raise when nobody was quicker, and yet the ref does not move."""
    return MlspecError(
        f"the remote {ref.remote.name!r} refused the lock: {why}",
        hint=f"if no Git is at work there, remove {REF}.lock in its folder",
    )


def check_race(ref: LockRef, why: str) -> None:
    """Raise if a push was refused for another reason than that somebody was quicker."""
    if not is_lost_race(why):
        raise MlspecError(
            f"the remote {ref.remote.name!r} refused the lock: {why}",
            hint="without a lock at the remote: git config mlspec.lock local",
        )


def identity(file: Path) -> str:
    """What no other file is called while this machine is up."""
    found = file.stat()
    return f"{boot_id()}:{found.st_dev}:{found.st_ino}"


def boot_id() -> str:
    """This start of this machine; of this process where it cannot be told."""
    try:
        return _BOOT.read_text("ascii").strip()
    except OSError:
        return _UNSURE


def render_lock(lock: Lock) -> str:
    """The message of the commit: a line for people, and JSON."""
    said = f"locked by {lock.holder}" if lock.holder else "not locked"
    return f"{said}\n\n{canonical_json(asdict(lock))}\n"


def load_lock(data: bytes) -> Lock:
    """What a commit says, given its bytes; raises for one that mlspec did not write."""
    try:
        message = data.decode("utf-8", "replace").partition("\n\n")[2]
        said: dict[str, Any] = json.loads(message.partition("\n\n")[2])
        holder = said.pop("holder")
        lock = Lock(**said, holder=Holder(**holder) if holder else None)
        return replace(lock, token=int(lock.token), lease=float(lock.lease))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MlspecError(
            f"{REF} of the remote is not a lock that this mlspec reads",
            hint=f"if no other mlspec is at work: git push REMOTE :{REF}",
        ) from error
