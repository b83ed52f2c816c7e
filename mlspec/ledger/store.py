"""The ledger: records in, a commit on `refs/mlspec/ledger` out; shared through a Git remote.

The tree of a commit is the state (:mod:`mlspec.ledger.paths`), its message says what was done
(:mod:`mlspec.ledger.entry`). Writing is compare-and-swap: a record that was made from a state that
has moved is put on top of the new one if they touch different files, and is refused if not.
Read the records through :mod:`mlspec.ledger.state`, the audit through :mod:`mlspec.ledger.history`.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.git import Git, GitError, Identity, Remote, is_lost_race
from mlspec.ledger.conceding import find_conceded, note_conceded
from mlspec.ledger.entry import Entry, load_entry, render_message
from mlspec.ledger.objects import Commit, Draft, Objects, Signature
from mlspec.ledger.paths import HEAD, check_path
from mlspec.ledger.records import Record
from mlspec.ledger.snapshot import Snapshot, head_record
from mlspec.plan import canonical_json

if TYPE_CHECKING:
    from mlspec.ledger.lease import Lease

REF = "refs/mlspec/ledger"
FETCHED = "refs/mlspec/fetched"
"""The remote's ledger as last seen."""

_LOCAL_ATTEMPTS = 50
_REMOTE_ATTEMPTS = 10
_REMOTE_SECONDS = 60.0
"""How long to try at least: others may be writing many records in a row."""


class LedgerMoved(MlspecError):
    """Somebody else recorded other facts about the same things."""

    def __init__(self, paths: list[str], *, hint: str) -> None:
        shown = ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
        super().__init__(f"the ledger has moved: {shown} changed elsewhere", hint=hint)


class Ledger:
    """The ledger of a repository, read as of :attr:`tip`; only a call of its own moves that.

    Threads may share one; processes each have their own.
    """

    def __init__(self, git: Git) -> None:
        self.git = git
        self.alone = False
        """Set while the remote is out of reach: it is not asked, and records are kept here."""
        self.objects = Objects(git)
        self.lease: Lease | None = None
        """The lock at the remote, while it is held: records go there only together with it."""
        self._snapshot: Snapshot | None = None
        self._draft = Draft(self.objects)
        self._staged: list[tuple[Mapping[str, str], Entry]] = []
        """The files and the entry of each record that is not on disk yet."""
        self._base: Snapshot | None = None
        """What the first of these was put on."""
        self._lock = threading.RLock()
        self._flushing = threading.RLock()
        """Taken before the other one."""

    @property
    def snapshot(self) -> Snapshot:
        """The state at the tip; stays as it is when the ledger goes on."""
        with self._lock:
            if self._snapshot is None:
                self._snapshot = Snapshot(self.objects, self._ref(REF))
            return self._snapshot

    @property
    def tip(self) -> str:
        """The commit that is read; none before the first record."""
        return self.snapshot.commit

    @property
    def serial(self) -> int:
        return self.snapshot.serial

    def read(self, path: str) -> bytes | None:
        """The file at `path`; none if it is not there."""
        return self.snapshot.read(path)

    def list(self, prefix: str = "") -> tuple[str, ...]:
        """The paths of all files in and below the folder `prefix`, sorted."""
        return self.snapshot.list(prefix)

    def reload(self) -> str:
        """Look at what others in this repository have recorded; the new tip."""
        with self._flushing, self._lock:
            self.flush()
            if self._snapshot is not None and self._snapshot.commit != self._ref(REF):
                self._snapshot = None
            return self.tip

    def record(self, changes: Mapping[str, Record | None], entry: Entry) -> str:
        """Write records (`None` deletes) and what was done, as one commit; the new tip.

        Raises :class:`LedgerMoved` if one of the paths has changed since :attr:`tip`.
        """
        with self._flushing:
            try:
                self.stage(changes, entry)
                return self.flush()
            except BaseException:
                self._unstage()
                raise

    def stage(self, changes: Mapping[str, Record | None], entry: Entry) -> None:
        """As :meth:`record`, but on disk only after :meth:`flush`; here it is read at once."""
        data = {
            check_path(path): None if record is None else record_data(path, record)
            for path, record in changes.items()
        }
        with self._lock:
            base = self.snapshot
            files = {
                path: "" if text is None else self._draft.add_blob(text)
                for path, text in data.items()
            }
            self._snapshot = self._commit(base, files, entry, self._draft)
            if not self._staged:
                self._base = base
            self._staged.append((files, entry))

    def flush(self) -> str:
        """Have on disk all that was staged, a commit for each; the new tip.

        What many threads have staged is written by the first of them. Raises as :meth:`record`;
        nothing is lost then, and another call tries again.
        """
        with self._flushing:
            for attempt in range(_LOCAL_ATTEMPTS):
                with self._lock:
                    if not self._staged:
                        return self.tip
                    count, base, top = len(self._staged), self._base, self.snapshot
                assert base is not None
                self._draft.write()
                if self._move(base.commit, top.commit):
                    with self._lock:
                        del self._staged[:count]
                        self._base = top
                    return top.commit
                _pause(attempt, 0.2)
                with self._lock:
                    self._stage_again(base)
            raise self._stuck()

    def _stage_again(self, base: Snapshot) -> None:
        """Put what is staged on `base` on what others have made of that."""
        changed = {path: oid for files, _ in self._staged for path, oid in files.items()}
        self._base = top = self._follow(base, changed)
        for files, entry in self._staged:
            top = self._commit(top, files, entry, self._draft)
        self._snapshot = top

    def _unstage(self) -> None:
        with self._lock:
            if self._staged:
                self._snapshot = self._base
            self._staged.clear()
            self._draft.drop()

    def ensure_local(self) -> str:
        """The tip, taken from the remote if there is no ledger here: so a fresh clone can plan."""
        return self.reload() or self.sync()

    def refresh(self, warn: Callable[[str], None]) -> str:
        """The tip after going forward to what the remote has: for looking, it joins nothing.

        Warns of a remote that does not answer; raises where nothing is known without it.
        """
        ours, remote = self._own_tip(), self.git.remote
        if not remote or self.alone:
            return ours
        try:
            theirs = Remote(self.git, remote).fetch(REF, FETCHED)
        except RemoteUnreachable as error:
            if not ours:
                raise
            warn(f"warning: {error.message}; what others did since is not known here")
        else:
            if theirs and self._common(ours, theirs) == ours:
                self._move(ours, theirs)
        return self.reload()

    def _own_tip(self) -> str:
        """The tip here; raises if there was one with records that the remote lacks, and is gone."""
        tip = self.reload()
        if not tip and (seen := self._ref(FETCHED)):
            from mlspec.ledger.recover import find_good

            left = find_good(self.git)
            if left is not None and self._common(left.commit, seen) != left.commit:
                raise MlspecError(
                    f"{REF} is gone, and with it records that the remote was not given yet",
                    hint="mlspec ledger recover",
                )
        return tip

    def sync(self) -> str:
        """Take the remote's records, and put those that it does not have on top; the new tip.

        Where both have other records about the same thing the remote's are taken; the entry of
        what was done here stays.
        """
        return self._join(concede=True)

    def _join(self, *, concede: bool) -> str:
        ours = self._own_tip()
        if not self.git.remote or self.alone:
            return ours
        theirs = Snapshot(self.objects, Remote(self.git, self.git.remote).fetch(REF, FETCHED))
        with self._flushing, self._lock:
            for attempt in range(_LOCAL_ATTEMPTS):
                ours = self.reload()
                base = self._common(ours, theirs.commit)
                if base == theirs.commit:
                    return ours
                forward = base == ours and theirs.serial > 0
                joined = theirs.commit if forward else self._replay(base, ours, theirs, concede)
                if self._move(ours, joined):
                    return self.reload()
                _pause(attempt, 0.2)
            raise self._stuck()

    def publish(self, *, last: bool = False) -> str:
        """Bring the local records to the remote, if there is one; the tip that it has then.

        With the `last` ones the lock at the remote is given back. Raises :class:`LedgerMoved` if it
        has others about the same things, :class:`LockLost` if the lock is not ours any more.
        """
        tip, remote = self.reload(), self.git.remote
        if not remote or not tip or self.alone:
            return tip
        deadline = time.monotonic() + _REMOTE_SECONDS
        attempt = 0
        while attempt < _REMOTE_ATTEMPTS or time.monotonic() < deadline:
            known = self._ref(FETCHED)
            if known == tip:
                return tip
            if self._common(known, tip) == known:
                refused = self._push(remote, tip, known, last=last)
                if not refused:
                    self.git.run("update-ref", FETCHED, tip)
                    return tip
                if not is_lost_race(refused):
                    raise MlspecError(f"the remote {remote!r} refused the ledger: {refused}")
                _pause(attempt, 2.0)
                attempt += 1
            tip = self._join(concede=False)
        raise MlspecError(
            f"others wrote to the remote's ledger first, {attempt} times",
            hint="apply again: the records are kept here, and the next apply publishes them",
        )

    def _push(self, remote: str, tip: str, known: str, *, last: bool) -> str:
        if self.lease is not None:
            return self.lease.push(tip, REF, known, last=last)
        return Remote(self.git, remote).push(tip, REF, expected=known)

    @property
    def published(self) -> bool:
        """Whether the remote, as last seen, has all records; also without a remote."""
        return not self.git.remote or self._ref(REF) in ("", self._ref(FETCHED))

    def tidy(self) -> None:
        """Have many records in one file rather than in many: they stay as they are.

        What goes wrong is no loss: the next time may do better.
        """
        if self.tip:
            with suppress(GitError, OSError):
                self.git.tidy(REF)

    def chain(self, tip: str, until: str = "") -> Iterator[tuple[str, Commit]]:
        """The commits from `tip` back to, and without, `until`; with their ids."""
        while tip and tip != until:
            commit = self.objects.commit(tip)
            yield tip, commit
            tip = commit.parent

    def _commit(
        self,
        base: Snapshot,
        files: Mapping[str, str],
        entry: Entry,
        draft: Draft,
        original: Commit | None = None,
    ) -> Snapshot:
        """A commit on `base`, in `draft`; by the author of the `original` that it repeats."""
        serial = base.serial + 1
        head = draft.add_blob(head_record(serial))
        older = {path: draft.add_blob(data) for path, data in base.older().items()}
        tree = draft.add_tree(base.tree, {**older, **files, HEAD: head})
        user = self.git.user
        now = int(time.time())
        new = Commit(
            tree=tree,
            parent=base.commit,
            name=(original and original.name) or user.name,
            email=original.email if original else user.email,
            seconds=original.seconds if original else now,
            message=render_message(entry.model_copy(update={"serial": serial})),
        )
        if self.git.signs:
            draft.write()
            commit = self._commit_signed(new, user, now)
        else:
            commit = draft.add_commit(new, Signature(user.name, user.email, now))
        return Snapshot.written(self.objects, commit, tree, serial)

    def _commit_signed(self, new: Commit, user: Identity, now: int) -> str:
        return self.git.run(
            "commit-tree",
            "-S",
            *(["-p", new.parent] if new.parent else []),
            new.tree,
            stdin=new.message.encode(),
            env={
                "GIT_AUTHOR_NAME": new.name,
                "GIT_AUTHOR_EMAIL": new.email,
                "GIT_AUTHOR_DATE": f"@{new.seconds} +0000",
                "GIT_COMMITTER_NAME": user.name,
                "GIT_COMMITTER_EMAIL": user.email,
                "GIT_COMMITTER_DATE": f"@{now} +0000",
            },
        )

    def _move(self, old: str, new: str) -> bool:
        """Make `new` the local tip if `old` still is; false if it may be worth another try."""
        said = self.git.move_ref(REF, new, expected=old)
        if not said:
            return True
        if self._ref(REF) != old:
            return False
        if "File exists" in said:
            self.git.break_lock(REF)
            return False
        raise self.git.failure("update-ref", said.encode())

    def _follow(self, base: Snapshot, files: Mapping[str, str]) -> Snapshot:
        """The state to put `files` on, after others have moved it from `base`."""
        now = Snapshot(self.objects, self._ref(REF))
        hint = "plan again: what it says may have changed"
        if self._common(base.commit, now.commit) != base.commit:
            raise LedgerMoved([REF], hint=hint)
        _check_apart(dict(self.objects.changes(base.tree, now.tree)), files.items(), hint)
        return now

    def _replay(self, base: str, ours: str, theirs: Snapshot, concede: bool) -> str:
        """The commits from `base` to `ours` once more, on top of `theirs`.

        What `theirs` has otherwise is left out if we `concede`, and raises if not.
        """
        start = Snapshot(self.objects, base)
        moved = dict(self.objects.changes(start.tree, theirs.tree))
        written = [*self._written(base, ours)]
        changed = [pair for _, _, files in written for pair in files.items()]
        conceded = find_conceded(moved, changed, self.objects.blob)
        if not concede:
            hint = "apply again: that takes the remote's side, and plans anew"
            _check_apart(moved, changed, hint)
        top, draft = theirs, Draft(self.objects)
        for commit, entry, files in written:
            if not conceded.isdisjoint(files):
                entry = note_conceded(entry)
            kept = {path: oid for path, oid in files.items() if path not in conceded}
            top = self._commit(top, kept, entry, draft, original=commit)
        draft.write()
        return top.commit

    def _written(self, base: str, tip: str) -> Iterator[tuple[Commit, Entry, Mapping[str, str]]]:
        """The commits from `base` to `tip`, with their entries and the files that each wrote."""
        tree = Snapshot(self.objects, base).tree
        for oid, commit in reversed(list(self.chain(tip, until=base))):
            files = dict(self.objects.changes(tree, commit.tree))
            files.pop(HEAD, None)
            yield commit, load_entry(oid, commit), files
            tree = commit.tree

    def _common(self, one: str, other: str) -> str:
        """The newest commit in the history of both; none if there is none."""
        return self.git.merge_base(one, other) if one and other else ""

    def _ref(self, name: str) -> str:
        return self.git.ref(name)

    def _stuck(self) -> GitError:
        lock = self.git.common_dir / f"{REF}.lock"
        return GitError(
            "cannot write the ledger: another process keeps changing or locking it",
            hint=f"apply again; if no Git is running, remove {lock}, which a killed one left",
        )


def record_data(path: str, record: Record) -> bytes:
    """The file that holds a record; raises for what JSON cannot say, such as NaN."""
    try:
        return canonical_json(record.model_dump()).encode() + b"\n"
    except (ValueError, TypeError) as error:
        raise MlspecError(f"cannot record {path}: {error}") from error


def _check_apart(moved: Mapping[str, str], files: Iterable[tuple[str, str]], hint: str) -> None:
    """Raise if a file of `files` was changed, to something else, in what `moved`."""
    clashes = sorted({path for path, oid in files if moved.get(path, oid) != oid})
    if clashes:
        raise LedgerMoved(clashes, hint=hint)


def _pause(attempt: int, longest: float) -> None:
    time.sleep(random.uniform(0, min(0.01 * 2**attempt, longest)))
