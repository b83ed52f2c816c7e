"""What must hold after a fault, and after the apply that follows it.

Comes in: a sandbox. Goes out: what is wrong, in words; nothing if all is well.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sandbox import Done, Sandbox

_CODES = (*range(8), -9, 137)
"""Of mlspec; and of one that was killed, as Python, a shell or unshare tell it."""
REF = "refs/mlspec/ledger"
_CHANGING = re.compile(rb'"(seconds|durations|commit|dirty)":(\{[^}]*\}|"[^"]*"|[^,}]*)')
"""What differs from run to run of the same thing."""
_TEMPORARY = re.compile(r"(^|/)(\.mlspec-[^/]*|tmp_[^/]*|[^/]*\.tmp|ledger\.lock|fetched\.lock)$")


@dataclass(frozen=True)
class State:
    """What there is: files by path, records by path, what each entry of the audit is about."""

    files: dict[str, bytes]
    storage: dict[str, bytes]
    records: dict[str, bytes]
    audit: list[tuple[str, str, str]]
    tip: str
    unfinished: bool = False
    """Whether an apply is written down as at work."""


def load_state(sandbox: Sandbox) -> State:
    """Everything of a sandbox that a user would miss."""
    repo = sandbox.repo
    tip = sandbox.run(["git", "rev-parse", "--verify", "-q", REF]).stdout.strip()
    records: dict[str, bytes] = {}
    audit: list[tuple[str, str, str]] = []
    if tip:
        for path in sandbox.check("git", "ls-tree", "-r", "--name-only", tip).splitlines():
            text = sandbox.check("git", "cat-file", "blob", f"{tip}:{path}").encode()
            records[path] = _CHANGING.sub(rb'"\1":0', text)
        for body in sandbox.check("git", "log", "-z", "--format=%b", tip).split("\0"):
            if body.strip():
                entry = json.loads(body)
                audit.append((entry["address"], entry["action"], entry["outcome"]))
    kept = (path for path in repo.rglob("*") if path.is_file() and not path.is_symlink())
    files = {
        name: path.read_bytes()
        for path in kept
        if not (name := path.relative_to(repo).as_posix()).startswith(
            (".git/", ".mlspec/", ".dvc/tmp/")
        )
    }
    storage = sandbox.place / "storage"
    objects = {
        path.relative_to(storage).as_posix(): path.read_bytes()
        for path in storage.rglob("*")
        if path.is_file()
    }
    journal = repo / ".git/mlspec-unfinished.json"
    unfinished = journal.exists() and journal.read_text().endswith("]\n")
    return State(files, objects, records, audit[::-1], tip, unfinished)


def check_fault(sandbox: Sandbox, done: Done, before: State, after: State) -> Iterator[str]:
    """Right after the fault, which came between the states `before` and `after`."""
    if "Traceback" in done.stderr:
        yield f"a traceback: {done.stderr[-1500:]}"
    now = load_state(sandbox)
    told = [entry for entry in now.audit if entry in after.audit or not _may_be_more(entry)]
    if told != after.audit[: len(told)] or len(told) < len(before.audit):
        yield f"the audit is none between old and new: {now.audit}"
    if done.returncode not in _CODES:
        yield f"it ended with {done.returncode}: {done.stderr[-500:]}"
    if done.returncode == 0 and now.records != after.records:
        yield "it ended well, and not all is recorded"
    for path, data in now.files.items():
        if _TEMPORARY.search(path) or path.endswith("dvc.lock"):
            continue
        if data not in (before.files.get(path), after.files.get(path)):
            yield f"{path} is torn: {data[:80]!r}"
    checked = sandbox.run(["mlspec", "fsck", "--json"])
    wrong = _torn(checked)
    if wrong:
        yield f"fsck: {wrong}"
    for path, data in now.storage.items():
        if not _TEMPORARY.search(path) and data != after.storage.get(path):
            yield f"the object {path} in storage is torn"


def check_rerun(sandbox: Sandbox, done: Done, left: State, after: State) -> Iterator[str]:
    """After one more apply, which began with what was `left`; `after` is without any fault."""
    if done.returncode != 0:
        said = f"{done.stdout[-600:]}{done.stderr[-800:]}"
        yield f"the next apply ends with {done.returncode}: {said}"
        return
    now = load_state(sandbox)
    wanted = after.files
    for path in sorted(now.files.keys() | wanted.keys()):
        if now.files.get(path) != wanted.get(path):
            yield f"{path} is not what an uninterrupted apply leaves: {now.files.get(path)!r:.200}"
    for path in sorted(now.storage.keys() | after.storage.keys()):
        if now.storage.get(path) != after.storage.get(path):
            yield f"storage: {path} is not what an uninterrupted apply leaves"
    yield from _check_records(now, after)
    yield from _check_audit(sandbox, now, left, after)
    inside = (path.relative_to(sandbox.place).as_posix() for path in sandbox.place.rglob("*"))
    if temporary := [path for path in inside if _TEMPORARY.search(path)]:
        yield f"temporary files are left: {temporary}"
    planned = sandbox.run(["mlspec", "plan", "--detailed-exitcode"])
    if planned.returncode != 0:
        yield f"the plan is not empty: {planned.stdout[-800:]}{planned.stderr[-400:]}"
    effects = Counter(sandbox.effects())
    if twice := {name: count for name, count in effects.items() if count > 2}:
        yield f"commands ran more than once more: {twice}"
    checked = sandbox.run(["mlspec", "fsck", "--json"])
    if checked.returncode != 0:
        yield f"fsck: {checked.stdout}{checked.stderr}"
    sound = sandbox.run(["git", "fsck", "--strict", "--no-dangling"])
    if sound.returncode != 0:
        yield f"git fsck: {sound.stdout}{sound.stderr}"
    if (sandbox.place / "remote.git").exists():
        there = sandbox.check("git", "ls-remote", "origin", REF).split()
        if there[:1] != [now.tip]:
            yield f"the remote has {there[:1]}, not {now.tip}"


def _torn(checked: Done) -> list[Any]:
    """What fsck found but what a fault may leave: files that the next apply removes."""
    try:
        found = json.loads(checked.stdout)["problems"]
    except (ValueError, KeyError):
        return [checked.stdout + checked.stderr]
    return [each for each in found if each["kind"] not in ("temporary", "interrupted", "lock")]


def _check_records(now: State, after: State) -> Iterator[str]:
    for path in sorted(now.records.keys() | after.records.keys()):
        if path != "ledger.json" and now.records.get(path) != after.records.get(path):
            yield f"the record {path} is {now.records.get(path)!r:.300}"


def _check_audit(sandbox: Sandbox, now: State, left: State, after: State) -> Iterator[str]:
    if left.tip:
        older = sandbox.run(["git", "merge-base", "--is-ancestor", left.tip, REF])
        if older.returncode != 0:
            yield "entries of the audit are lost"
    serial = json.loads(now.records["ledger.json"])["serial"]
    if serial != len(now.audit):
        yield f"serial {serial} after {len(now.audit)} entries"
    ours, wanted = Counter(now.audit), Counter(after.audit)
    if left.unfinished and ("", "interrupt", "ended") not in now.audit:
        yield "the audit does not tell that an apply did not end"
    if lost := wanted - ours:
        yield f"entries of the audit are lost: {lost}"
    more = {each: count for each, count in (ours - wanted).items() if not _may_be_more(each)}
    if more:
        yield f"done twice: {more}"


def _may_be_more(entry: tuple[str, str, str]) -> bool:
    """That an apply was interrupted, a step that failed by the fault, a question asked again.

    A candidate without a version is judged anew: gates answer the same and have no effect.
    """
    return entry[1] in ("interrupt", "evaluate") or entry[2] in ("failed", "skipped")
