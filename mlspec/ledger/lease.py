"""The lock of an apply at the remote: one at a time among all clones, for as long as it is renewed.

It is a commit without parents on `refs/mlspec/lock` of the remote, moved by compare-and-swap only.
Its message says who holds it, and a token that is higher with each holding. The holder renews it:
each time the ref is another commit. Nobody compares clocks: who sees the same commit for a whole
lease, by a clock of their own that only goes forward, may take it over. A holder that was stopped
for so long finds that out by its next renewal, and its records are refused, for they are pushed
together with one. When it is given back the ref stays, and says that nobody holds it.
"""

from __future__ import annotations

import json
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from mlspec.children import is_alive
from mlspec.errors import Locked, LockLost, MlspecError
from mlspec.git import NETWORK_TIMEOUT, Git, NotAtomic, is_lost_race
from mlspec.ledger.lock import Holder, lock_file
from mlspec.ledger.objects import Signature
from mlspec.plan import canonical_json

REF = "refs/mlspec/lock"
LEASE = 60.0
"""Seconds, unless `git config mlspec.lease` says otherwise."""
_MOST_BETWEEN = 3.0
"""Seconds between two looks at a lock that another has."""
_LAST_PATIENCE = 5.0
"""Seconds for giving it back: an apply that was interrupted ends soon."""
_NOT_ATOMIC = (
    "warning: the remote {!r} cannot take a record and the lock's renewal in one push; "
    "the lock is renewed right before each record"
)
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOST_REFUSALS = 30
"""Pushes that were refused though nobody else moved the ref."""
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


@contextmanager
def hold(
    git: Git,
    holder: Holder,
    *,
    timeout: float,
    at_least: int,
    note: Callable[[str], None],
) -> Iterator[Lease | None]:
    """Hold the lock at the remote; the caller is `holder` of the local one. None without a remote.

    Its token is higher than `at_least`. Raises :class:`Locked` if another has it for longer than
    `timeout` seconds. What people should know goes to `note`.
    """
    seconds = lease_seconds(git)
    if seconds is None:
        yield None
        return
    place = _Place(git)
    own_file = _identity(lock_file(git))
    lock = Lock(holder=holder, lease=seconds, file=own_file)
    lease = _take(place, lock, own_file, time.monotonic() + timeout, at_least, note)
    renewing = threading.Thread(target=lease.keep, name="lease", daemon=True)
    renewing.start()
    try:
        yield lease
    finally:
        lease.give_back()


class Lease:
    """The lock at the remote, while this process holds it. Threads may share one."""

    def __init__(
        self,
        place: _Place,
        lock: Lock,
        oid: str,
        *,
        ledger: str,
        began: float,
        note: Callable[[str], None],
    ) -> None:
        self.ledger = ledger
        """The tip of the remote's ledger when the lock was taken."""
        self._place = place
        self._lock = lock
        self._oid = oid
        self._note = note
        self._renewed = began
        self._turn = threading.Lock()
        self._over = threading.Event()
        self._lost: LockLost | None = None
        self._atomic = True

    @property
    def token(self) -> int:
        """Higher than that of every holding before."""
        return self._lock.token

    def keep(self) -> None:
        """Renew it again and again until it is given back or lost."""
        while not self._over.wait(self._lock.lease / 3):
            with suppress(MlspecError):  # a remote that does not answer may do so next time
                self.renew()
            if self._lost:
                return

    def renew(self) -> None:
        """Raises :class:`LockLost` if another has it."""
        with self._turn:
            if not self._over.is_set():
                self._move(self._next())

    def check(self) -> None:
        """Ask the remote whether it is still ours; raises :class:`LockLost` if not."""
        with self._turn:
            if not self._over.is_set():
                self._find()

    def check_late(self) -> None:
        """As :meth:`check`, if it was not renewed for so long that another may have it."""
        if self._lost:
            raise self._lost
        if time.monotonic() - self._renewed >= self._lock.lease:
            self.check()

    def push(self, commit: str, ref: str, expected: str, *, last: bool = False) -> str:
        """Make `ref` of the remote `commit` if it is `expected` there and the lock is ours.

        Why not, or `""` if done. With the `last` push the lock is given back. Raises
        :class:`LockLost`.
        """
        with self._turn:
            if self._over.is_set():
                return self._place.git.push(self._place.remote, commit, ref, expected=expected)
            if self._atomic:
                with suppress(NotAtomic):
                    refused = self._move(self._next(last=last), {ref: (commit, expected)})
                    if last and not refused:
                        self._over.set()
                    return refused.get(ref) or next(iter(refused.values()), "")
                self._atomic = False
                self._note(_NOT_ATOMIC.format(self._place.remote))
            if refused := self._move(self._next()):
                return next(iter(refused.values()))
            return self._place.git.push(self._place.remote, commit, ref, expected=expected)

    def give_back(self) -> None:
        """Let others have it; what goes wrong is no loss, for it ends with its lease."""
        self._place.git.patience = _LAST_PATIENCE
        if self._turn.acquire(timeout=_LAST_PATIENCE):
            with suppress(MlspecError, OSError):
                if not self._over.is_set() and not self._lost and not self._move(self._lock.freed):
                    self._over.set()
            self._turn.release()
        self._over.set()
        self._place.git.patience = NETWORK_TIMEOUT

    def _next(self, *, last: bool = False) -> Lock:
        return self._lock.freed if last else replace(self._lock, renewals=self._lock.renewals + 1)

    def _move(
        self, lock: Lock, also: Mapping[str, tuple[str, str]] | None = None
    ) -> Mapping[str, str]:
        """Have the ref say `lock`, and all of `also` moved with it, or nothing; why not, by ref."""
        if self._lost:
            raise self._lost
        began, oid = time.monotonic(), self._place.write(lock)
        while True:
            updates = {**(also or {}), REF: (oid, self._oid)}
            refused = self._place.git.push_together(self._place.remote, updates)
            if not refused:
                if self._oid != oid:
                    self._place.forget(self._oid)
                self._oid, self._lock, self._renewed = oid, lock, began
                return {}
            before = self._oid
            self._find()
            if self._oid == before:
                self._place.forget(oid)
                return refused

    def _find(self) -> None:
        """Know at which commit the remote has it; a renewal may be there whose answer was lost."""
        oid, lock, _ = self._place.read()
        if lock.holder is None or lock.holder.id != _id(self._lock):
            self._lost = _lost(self._place.remote, lock)
            raise self._lost
        self._oid = oid


class _Place:
    """The ref at the remote, and what is remembered of it in this repository."""

    def __init__(self, git: Git, draft: str = "mlspec-lock.new") -> None:
        self._draft = draft
        self.git = git
        self.remote = git.remote
        self._ledger = "refs/mlspec/ledger"
        self._seen = git.common_dir / "mlspec-lock-seen.json"

    def read(self) -> tuple[str, Lock, str]:
        """The commit that the ref is at, what it says, and the tip of the ledger."""
        for _ in range(50):
            refs = self.git.remote_refs(self.remote, REF, self._ledger)
            oid = refs.get(REF, "")
            found = self.git.objects.get(oid) if oid else None
            if oid and found is None:
                self.git.fetch_objects(self.remote, REF)
                found = self.git.objects.get(oid)
            if found is not None or not oid:
                lock = load_lock(found.data) if found else Lock()
                return oid, lock, refs.get(self._ledger, "")
        raise MlspecError(f"the lock of the remote {self.remote!r} moves all the time")

    def swap(self, old: str, lock: Lock) -> tuple[str, str]:
        """Have the ref say `lock` if it is at `old`: the new commit, and why not."""
        oid = self.write(lock)
        why = self.git.push_together(self.remote, {REF: (oid, old)}).get(REF, "")
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


def _take(
    place: _Place,
    lock: Lock,
    own_file: str,
    deadline: float,
    at_least: int,
    note: Callable[[str], None],
) -> Lease:
    """Take the lock once nobody has it."""
    seen = place.remembered()
    refusals, refused_at = 0, ""
    while True:
        oid, found, ledger = place.read()
        now = time.monotonic()
        seen = still_seen(seen, oid, now, _boot())
        if may_take(found, seen, now, own_file):
            mine = replace(lock, token=max(found.token, at_least) + 1)
            new, why = place.swap(oid, mine)
            if not why:
                return Lease(place, mine, new, ledger=ledger, began=now, note=note)
            refusals = refusals + 1 if oid == refused_at else 0
            refused_at = oid
            if refusals > _MOST_REFUSALS:  # nobody was quicker: a Git there left a lock file
                raise MlspecError(
                    f"the remote {place.remote!r} refused the lock: {why}",
                    hint=f"if no Git is at work there, remove {REF}.lock in its folder",
                )
            _check_race(place, why)
            time.sleep(0.1)
            continue
        if now >= deadline:
            place.remember(seen)
            raise _locked(place.remote, found)
        pause = min(found.lease / 10, _MOST_BETWEEN, deadline - now)
        time.sleep(max(pause, 0.01))


def find_holder(git: Git) -> Holder | None:
    """Who holds the lock at the remote, asked now; none where there is no such lock."""
    return None if lease_seconds(git) is None else _Place(git).read()[1].holder


def free(git: Git, lock_id: str) -> None:
    """Take the lock of that id from its holder, who may have ended; nothing if it is another's.

    Raises :class:`Locked` if the holder lives on this machine.
    """
    place = _Place(git, "mlspec-unlock.new")
    while True:
        oid, lock, _ = place.read()
        holder = lock.holder
        if holder is None or holder.id != lock_id:
            return
        here = holder.host == os.uname().nodename and lock.file.partition(":")[0] == _boot()
        if here and is_alive(holder.pid):
            raise Locked(
                f"the lock of the remote {place.remote!r} is held by {holder}; it lives",
                hint=f"wait for it, or end it: kill {holder.pid}",
            )
        _, why = place.swap(oid, lock.freed)
        if not why:
            return
        _check_race(place, why)


def _check_race(place: _Place, why: str) -> None:
    """Raise if a push was refused for another reason than that somebody was quicker."""
    if not is_lost_race(why):
        raise MlspecError(
            f"the remote {place.remote!r} refused the lock: {why}",
            hint="without a lock at the remote: git config mlspec.lock local",
        )


def _locked(remote: str, lock: Lock) -> Locked:
    assert lock.holder is not None
    return Locked(
        f"the lock of the remote {remote!r} is held by {lock.holder}",
        hint="wait for it, or give --lock-timeout; it is taken over when it was not renewed for "
        f"{lock.lease:g} s; if its holder is gone: mlspec unlock {lock.holder.id}",
    )


def _lost(remote: str, lock: Lock) -> LockLost:
    by = f"is held by {lock.holder}" if lock.holder else "was freed by another"
    return LockLost(
        f"this apply lost the lock of the remote {remote!r}, which {by}",
        hint="apply again: what was done and recorded here is kept, and the next apply goes on",
    )


def _id(lock: Lock) -> str:
    return lock.holder.id if lock.holder else ""


def _identity(file: Path) -> str:
    """What no other file is called while this machine is up."""
    found = file.stat()
    return f"{_boot()}:{found.st_dev}:{found.st_ino}"


def _boot() -> str:
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
        return Lock(**said, holder=Holder(**holder) if holder else None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise MlspecError(
            f"{REF} of the remote is not a lock that this mlspec reads",
            hint=f"if no other mlspec is at work: git push REMOTE :{REF}",
        ) from error
