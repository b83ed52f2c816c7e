"""Whether a ledger is whole: every object what its name says, every record where it belongs.

Comes in: a repository and a commit of its ledger. Goes out: what is wrong, in the order of the
chain. Nothing is trusted that Git says: an object's bytes must have the digest that is its id.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger import paths
from mlspec.ledger.entry import load_entry
from mlspec.ledger.objects import Commit, Objects
from mlspec.ledger.records import (
    Approval,
    Candidate,
    Deployed,
    Imported,
    ModelState,
    Policy,
    Record,
    Run,
    Version,
)
from mlspec.ledger.snapshot import Snapshot

_KINDS: tuple[tuple[re.Pattern[str], type[Record]], ...] = tuple(
    (re.compile(pattern), kind)
    for pattern, kind in (
        (r"models/[^/]+/[^/]+/state\.json", ModelState),
        (r"models/[^/]+/[^/]+/runs/[^/]+/[^/]+\.json", Run),
        (r"models/[^/]+/[^/]+/candidates/[^/]+\.json", Candidate),
        (r"models/[^/]+/[^/]+/versions/[^/]+\.json", Version),
        (r"deployments/[^/]+/[^/]+\.json", Deployed),
        (r"datasets/[^/]+/[^/]+\.json", Imported),
        (r"approvals/[^/]+/[^/]+/[^/]+/[^/]+\.json", Approval),
        (r"policy\.json", Policy),
    )
)
RECOVER = "mlspec ledger recover"
"""The hint for most of what may be wrong."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: what `kind` of thing, `where`, and what to do about it."""

    kind: str
    where: str
    message: str
    hint: str


class LedgerCheck:
    """Checks commits of one ledger; what was found whole once is not looked at again."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._objects = Objects(git)
        self._whole: set[str] = set()
        self._good: set[str] = set()
        """Commits whose chain is good down to the first."""

    def check(self, tip: str) -> Iterator[Problem]:
        """What is wrong with the ledger that ends in `tip`; what lies before a gap is not known."""
        faults = [*self._check_chain(tip)]
        yield from faults
        if not faults:
            yield from self._check_records(tip)

    def is_good(self, tip: str) -> bool:
        """Whether all of it is as it should be, records and audit."""
        return next(self.check(tip), None) is None

    def _check_chain(self, tip: str) -> Iterator[Problem]:
        passed: list[str] = []
        above: int | None = None
        oid = tip
        while oid and oid not in self._good:
            try:
                commit = self._commit(oid)
                serial = Snapshot(self._objects, oid).serial
                entry = load_entry(oid, commit)
            except MlspecError as error:
                yield Problem("ledger", oid, error.message, error.hint or RECOVER)
                return
            told = f"its entry says {entry.serial}"
            if entry.serial != serial:
                message = f"the ledger's serial is {serial} at {oid}, and {told}"
                yield Problem("serial", oid, message, RECOVER)
            if (above is not None and above != serial + 1) or (not commit.parent and serial != 1):
                message = f"serial {serial} at {oid} is not where it belongs in the chain"
                yield Problem("serial", oid, message, RECOVER)
            above = serial
            passed.append(oid)
            oid = commit.parent
        if oid and above is not None and above != Snapshot(self._objects, oid).serial + 1:
            yield Problem("serial", tip, f"the serial jumps after {oid}", RECOVER)
        self._good.update(passed)

    def _check_records(self, tip: str) -> Iterator[Problem]:
        snapshot = Snapshot(self._objects, tip)
        records: dict[str, Record] = {}
        for path, _ in self._objects.files(snapshot.tree):
            if path == paths.HEAD:
                continue
            kind = next((kind for pattern, kind in _KINDS if pattern.fullmatch(path)), None)
            if kind is None:
                yield _misplaced(path, "nothing of the ledger is kept there")
                continue
            try:
                record = kind.model_validate_json(snapshot.read(path) or b"")
                records[path] = record
                belongs = _place_of(path, record)
            except (ValidationError, MlspecError) as error:
                first = str(error).splitlines()[0]
                message = f"{path} is not a {kind.__name__} that this mlspec knows: {first}"
                yield Problem("record", path, message, RECOVER)
                continue
            if belongs != path:
                yield _misplaced(path, f"what it holds belongs at {belongs}")
        yield from _check_references(records)

    def _commit(self, oid: str) -> Commit:
        """A commit, with all that its tree holds read and compared with its digest."""
        headers = self._check_object(oid, "commit").partition(b"\n\n")[0]
        if headers.count(b"\nparent ") > 1:
            raise MlspecError(f"the ledger's commit {oid} is a merge: it is a chain", hint=RECOVER)
        commit = self._objects.commit(oid)
        self._check_tree(commit.tree)
        return commit

    def _check_tree(self, oid: str) -> None:
        if oid in self._whole:
            return
        self._check_object(oid, "tree")
        for node in self._objects.tree(oid).values():
            if node.folder:
                self._check_tree(node.oid)
            elif node.oid not in self._whole:
                self._check_object(node.oid, "blob")
        self._whole.add(oid)

    def _check_object(self, oid: str, kind: str) -> bytes:
        """Its content, which has the digest that is its id."""
        found = self._git.objects.get(oid)
        if found is None or found.kind != kind:
            raise MlspecError(f"the ledger's {kind} {oid} is missing", hint=RECOVER)
        content = b"%s %d\0%s" % (kind.encode(), len(found.data), found.data)
        digest = hashlib.new(self._git.object_format, content, usedforsecurity=False).hexdigest()
        if digest != oid:
            raise MlspecError(f"the ledger's {kind} {oid} was altered", hint=RECOVER)
        if kind == "blob":
            self._whole.add(oid)
        return found.data


def _misplaced(path: str, why: str) -> Problem:
    return Problem("record", path, f"{path} does not belong where it lies: {why}", RECOVER)


def _place_of(path: str, record: Record) -> str:
    """Where a record belongs, as far as it says itself what it is about."""
    parts = path.split("/")
    match record:
        case ModelState():
            return paths.state_path(parts[2])
        case Run():
            return paths.run_path(parts[2], record.stage, record.fingerprint)
        case Candidate():
            return paths.candidate_path(parts[2], record.fingerprint)
        case Version():
            return paths.version_path(record.model, record.number)
        case Deployed():
            return paths.deployment_path(record.deployment, record.target)
        case Approval():
            about = (record.deployment, record.target, record.release)
            return paths.approval_path(*about, record.by)
        case Imported():
            return paths.dataset_path(record.dataset)
        case _:
            return path


def _check_references(records: Mapping[str, Record]) -> Iterator[Problem]:
    """Records that others name must be there."""
    for path, record in records.items():
        model = path.split("/")[2] if path.startswith("models/") else ""
        wanted: list[str] = []
        match record:
            case ModelState():
                wanted += (paths.run_path(model, *run) for run in record.runs.items())
                if record.candidate:
                    wanted.append(paths.candidate_path(model, record.candidate))
                if record.version:
                    wanted.append(paths.version_path(model, record.version))
            case Candidate() if record.version:
                wanted.append(paths.version_path(model, record.version))
            case Version():
                wanted.append(paths.candidate_path(model, record.fingerprint))
            case Deployed() if record.version:
                wanted.append(paths.version_path(record.model, record.version))
        for each in wanted:
            if each not in records:
                yield Problem("reference", path, f"{path} names {each}, which is missing", RECOVER)


def claimed_serial(git: Git, oid: str) -> int:
    """The serial that a commit says it has; 0 if it is none of a ledger."""
    found = git.objects.get(oid)
    if found is None or found.kind != "commit":
        return 0
    try:
        body = json.loads(found.data.partition(b"\n\n")[2].partition(b"\n\n")[2])
        return int(body["serial"]) if {"command", "address", "outcome"} <= body.keys() else 0
    except (ValueError, TypeError, KeyError, AttributeError):
        return 0
