"""How an apply holds the lock at the remote: one at a time among all clones, while it is renewed.

The holder renews :mod:`mlspec.ledger.remote_lock` again and again: each time the ref is another
commit. A holder that was stopped for a whole lease finds that out by its next renewal, and its
records are refused, for they are pushed together with one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace

from mlspec.errors import Locked, LockLost, MlspecError
from mlspec.git import NETWORK_TIMEOUT, Git, NotAtomic
from mlspec.ledger.lock import Holder, lock_file
from mlspec.ledger.remote_lock import (
    MOST_REFUSALS,
    PAUSE,
    REF,
    Lock,
    LockRef,
    boot_id,
    check_race,
    identity,
    lease_seconds,
    may_take,
    refusal,
    still_seen,
)

_MOST_BETWEEN = 3.0
"""Seconds between two looks at a lock that another has."""
_LAST_PATIENCE = 5.0
"""Seconds for giving it back: an apply that was interrupted ends soon."""
_LEAST_PATIENCE = 1.0
"""Seconds of these for the remote, though a renewal took the others."""
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_NOT_ATOMIC = (
    "warning: the remote {!r} cannot take a record and the lock's renewal in one push; "
    "the lock is renewed right before each record"
)


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
    ref = LockRef(git)
    own_file = identity(lock_file(git))
    lock = Lock(holder=holder, lease=seconds, file=own_file)
    lease = _take(ref, lock, own_file, time.monotonic() + timeout, at_least, note)
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
        ref: LockRef,
        lock: Lock,
        oid: str,
        *,
        ledger: str,
        began: float,
        note: Callable[[str], None],
    ) -> None:
        self.ledger = ledger
        """The tip of the remote's ledger when the lock was taken."""
        self._ref = ref
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
            # a remote that does not answer, or a disk that is full, may be well the next time
            with suppress(MlspecError, OSError):
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
        if _time_also_asleep() - self._renewed >= self._lock.lease:
            self.check()

    def push(self, commit: str, ref: str, expected: str, *, last: bool = False) -> str:
        """Make `ref` of the remote `commit` if it is `expected` there and the lock is ours.

        Why not, or `""` if done. With the `last` push the lock is given back. Raises
        :class:`LockLost`.
        """
        with self._turn:
            if self._over.is_set():
                return self._ref.remote.push(commit, ref, expected=expected)
            if self._atomic:
                with suppress(NotAtomic):
                    refused = self._move(self._next(last=last), {ref: (commit, expected)})
                    if last and not refused:
                        self._over.set()
                    return refused.get(ref) or next(iter(refused.values()), "")
                self._atomic = False
                self._note(_NOT_ATOMIC.format(self._ref.remote.name))
            if refused := self._move(self._next()):
                return next(iter(refused.values()))
            return self._ref.remote.push(commit, ref, expected=expected)

    def give_back(self) -> None:
        """Let others have it; what goes wrong is no loss, for it ends with its lease."""
        limit = time.monotonic() + _LAST_PATIENCE
        ours = self._turn.acquire(timeout=_LAST_PATIENCE)
        if ours:
            self._ref.git.patience = max(limit - time.monotonic(), _LEAST_PATIENCE)
            with suppress(MlspecError, OSError):
                if not self._over.is_set() and not self._lost:
                    self._move(self._lock.freed)
            self._turn.release()
        self._over.set()
        if not ours:  # the renewal under way must not go on when this process has ended
            self._ref.git.hang_up()
        self._ref.git.patience = NETWORK_TIMEOUT

    def _next(self, *, last: bool = False) -> Lock:
        return self._lock.freed if last else replace(self._lock, renewals=self._lock.renewals + 1)

    def _move(
        self, lock: Lock, also: Mapping[str, tuple[str, str]] | None = None
    ) -> Mapping[str, str]:
        """Have the ref say `lock`, and all of `also` moved with it, or nothing; why not, by ref."""
        if self._lost:
            raise self._lost
        began, oid = _time_also_asleep(), self._ref.write(lock)
        while True:
            updates = {**(also or {}), REF: (oid, self._oid)}
            refused = self._ref.remote.push_together(updates)
            if not refused:
                if self._oid != oid:
                    self._ref.forget(self._oid)
                self._oid, self._lock, self._renewed = oid, lock, began
                return {}
            before = self._oid
            self._find()
            if self._oid == before:
                self._ref.forget(oid)
                return refused

    def _find(self) -> None:
        """Know at which commit the remote has it; a renewal may be there whose answer was lost."""
        oid, lock, _ = self._ref.read()
        if lock.holder is None or lock.holder.id != _id(self._lock):
            self._lost = _lost(self._ref.remote.name, lock)
            raise self._lost
        self._oid = oid


def _take(
    ref: LockRef,
    lock: Lock,
    own_file: str,
    deadline: float,
    at_least: int,
    note: Callable[[str], None],
) -> Lease:
    """Take the lock once nobody has it."""
    seen = ref.remembered()
    refusals, refused_at, waits = 0, "", False
    while True:
        oid, found, ledger = ref.read()
        now = time.monotonic()
        seen = still_seen(seen, oid, now, boot_id())
        if may_take(found, seen, now, own_file):
            mine = replace(lock, token=max(found.token, at_least) + 1)
            began = _time_also_asleep()
            new, why = ref.swap(oid, mine)
            if not why:
                return Lease(ref, mine, new, ledger=ledger, began=began, note=note)
            refusals = refusals + 1 if oid == refused_at else 0
            refused_at = oid
            if refusals > MOST_REFUSALS:
                raise refusal(ref, why)
            check_race(ref, why)
            time.sleep(PAUSE)
            continue
        if now >= deadline:
            ref.remember(seen)
            raise _locked(ref.remote.name, found)
        if not waits:
            waits = True
            left = f"{deadline - now:.0f} s at most"
            note(f"Waiting for the lock of the remote {ref.remote.name!r}, {left}.")
        pause = min(found.lease / 10, _MOST_BETWEEN, deadline - now)
        time.sleep(max(pause, 0.01))


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


def _time_also_asleep() -> float:
    """Seconds that go on while this machine is suspended, for others do not wait for it."""
    return time.clock_gettime(_CLOCK)
