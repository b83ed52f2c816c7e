"""What must hold after a fault, and after the apply that follows it.

Comes in: a sandbox. Goes out: what is wrong, in words; nothing if all is well.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from sandbox import Done, Sandbox

_CODES = (*range(8), 143, -9, 137)
"""Of mlspec; of one that was asked to end; of one that was killed, as Python or a shell says it."""
REF = "refs/mlspec/ledger"
_CHANGING = re.compile(rb'"(seconds|durations|commit|dirty|place)":(\{[^}]*\}|"[^"]*"|[^,}]*)')
"""What differs from run to run of the same thing, and from folder to folder."""
_TEMPORARY = re.compile(r"(^|/)(\.mlspec-[^/]*|tmp_[^/]*|[^/]*\.tmp|ledger\.lock|fetched\.lock)$")
_OUTPUT = re.compile(r"^models/[^/]+\.bin$")
"""What the command of a stage writes: one that was ended has written a part of it."""
_KILLED = (-9, 137)
Audited = tuple[str, str, str]


@dataclass(frozen=True)
class State:
    """What there is: files by path, records by path, what each entry of the audit is about."""

    files: dict[str, bytes]
    storage: dict[str, bytes]
    records: dict[str, bytes]
    audit: list[Audited]
    tip: str
    effects: Counter[str]
    """What commands and targets did."""
    unfinished: bool = False
    """Whether an apply is written down as at work."""


def load_state(sandbox: Sandbox) -> State:
    """Everything of a sandbox that a user would miss."""
    repo = sandbox.repo
    tip = sandbox.run(["git", "rev-parse", "--verify", "-q", REF]).stdout.strip()
    records: dict[str, bytes] = {}
    audit: list[Audited] = []
    if tip:
        records = {
            path: _CHANGING.sub(rb'"\1":0', data) for path, data in _load_tree(sandbox, tip).items()
        }
        for body in sandbox.check("git", "log", "-z", "--format=%b", tip).split("\0"):
            if body.strip():
                entry = json.loads(body)
                audit.append((entry["address"], entry["action"], entry["outcome"]))
    files = _load_files(repo)
    storage = _load_files(sandbox.place / "storage")
    journal = repo / ".git/mlspec-unfinished.json"
    unfinished = journal.exists() and journal.read_text().endswith("]\n")
    effects = Counter(sandbox.effects())
    return State(files, storage, records, audit[::-1], tip, effects, unfinished)


def check_fault(
    sandbox: Sandbox, done: Done, before: State, after: State, *, error: str = ""
) -> Iterator[str]:
    """Right after the fault, which came between the states `before` and `after`.

    If it was an `error` (in words), a command that fails has to say so, and of what.
    """
    said = done.stdout + done.stderr
    if "Traceback" in said:
        yield f"a traceback: {said[-1500:]}"
    now = load_state(sandbox)
    old, told, new = (_without_more(state.audit) for state in (before, now, after))
    if told != new[: len(told)] or len(told) < len(old):
        yield f"the audit is none between old and new: {now.audit}"
    if done.returncode not in _CODES:
        yield f"it ended with {done.returncode}: {done.stderr[-500:]}"
    if done.returncode == 0:
        if _differing(now.records, after.records) - {"ledger.json"}:
            yield "it ended well, and not all is recorded"
        if lacking := _differing(now.files, after.files) | _differing(now.storage, after.storage):
            yield f"it ended well, and not all is done: {sorted(lacking)}"
    elif error and not _names_what(said, error):
        yield f"it does not say what failed by {error!r}: {said[-500:]}"
    for path, data in now.files.items():
        known = before.files.get(path), after.files.get(path)
        if not _TEMPORARY.search(path) and data not in known:
            if path.endswith("dvc.lock"):
                yield from _check_lock(path, data, *(each or b"" for each in known))
            elif not (_OUTPUT.match(path) and after.files.get(path, b"").startswith(data)):
                yield f"{path} is torn: {data[:80]!r}"
    checked = sandbox.mlspec("fsck", "--json")
    wrong = _torn(checked)
    if wrong:
        yield f"fsck: {wrong}"
    for path, data in now.storage.items():
        if not _TEMPORARY.search(path) and data != after.storage.get(path):
            yield f"the object {path} in storage is torn"


def check_rerun(
    sandbox: Sandbox,
    done: Done,
    left: State,
    before: State,
    after: State,
    *,
    faults: int = 1,
    killed: bool = False,
) -> Iterator[str]:
    """After one more apply, which began with what was `left`; `after` is without any fault.

    There were so many `faults` since the state `before`; `killed` if one of them killed mlspec.
    """
    if done.returncode != 0:
        said = f"{done.stdout[-600:]}{done.stderr[-800:]}"
        yield f"the next apply ends with {done.returncode}: {said}"
        return
    now = load_state(sandbox)
    for path in sorted(_differing(now.files, after.files)):
        yield f"{path} is not what an uninterrupted apply leaves: {now.files.get(path)!r:.200}"
    for path in sorted(_differing(now.storage, after.storage)):
        yield f"storage: {path} is not what an uninterrupted apply leaves"
    yield from _check_records(now, after)
    yield from _check_audit(sandbox, now, left, after, killed=killed)
    yield from _check_effects(now, left, before, after, more=faults)
    inside = (path.relative_to(sandbox.place).as_posix() for path in sandbox.place.rglob("*"))
    if temporary := [path for path in inside if _TEMPORARY.search(path)]:
        yield f"temporary files are left: {temporary}"
    planned = sandbox.mlspec("plan", "--detailed-exitcode")
    if planned.returncode != 0:
        yield f"the plan is not empty: {planned.stdout[-800:]}{planned.stderr[-400:]}"
    checked = sandbox.mlspec("fsck", "--json")
    if checked.returncode != 0:
        yield f"fsck: {checked.stdout}{checked.stderr}"
    sound = sandbox.run(["git", "fsck", "--strict", "--no-dangling"])
    if sound.returncode != 0:
        yield f"git fsck: {sound.stdout}{sound.stderr}"
    if (sandbox.place / "remote.git").exists():
        there = sandbox.check("git", "ls-remote", "origin", REF).split()
        if there[:1] != [now.tip]:
            yield f"the remote has {there[:1]}, not {now.tip}"


def is_killed(done: Done) -> bool:
    return done.returncode in _KILLED


def _load_tree(sandbox: Sandbox, commit: str) -> dict[str, bytes]:
    """The files of a commit, by path."""
    archive = sandbox.place / "ledger.tar"
    sandbox.check("git", "archive", "--output", str(archive), commit)
    with tarfile.open(archive) as tar:
        files = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
        found = {name: file.read() for name, file in files.items() if file is not None}
    archive.unlink()
    return found


def _load_files(folder: Path) -> dict[str, bytes]:
    """What lies below a folder, by path; without what Git keeps, and what is made again."""
    found = {}
    for inside, folders, names in os.walk(folder):
        place = Path(inside)
        folders[:] = (each for each in folders if each not in (".git", ".mlspec"))
        folders[:] = (each for each in folders if (place.name, each) != (".dvc", "tmp"))
        paths = (place / name for name in names if not (place / name).is_symlink())
        found |= {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    return found


def _differing(one: dict[str, bytes], other: dict[str, bytes]) -> set[str]:
    return {path for path in one.keys() | other.keys() if one.get(path) != other.get(path)}


def _names_what(said: str, error: str) -> bool:
    """Whether a line gives the error, and a file or a thing that it is about."""
    lines = [line for line in said.splitlines() if error in line]
    return any("/" in line or re.search(r"\w+\.\w+", line) for line in lines)


def _check_lock(path: str, data: bytes, old: bytes, new: bytes) -> Iterator[str]:
    """Each stage of a `dvc.lock` is as it was or as it will be."""
    try:
        found, *known = (
            (yaml.safe_load(text) or {}).get("stages", {}) for text in (data, old, new)
        )
    except (yaml.YAMLError, AttributeError):
        yield f"{path} is torn: {data[-80:]!r}"
        return
    for stage, entry in found.items():
        if entry not in [each.get(stage) for each in known]:
            yield f"{path} is torn: {stage} is {entry}"
    if lost := (known[0].keys() & known[1].keys()) - found.keys():
        yield f"{path} is torn: it has no {lost}"


def _load_stages(lock: bytes) -> dict[str, Any]:
    return (yaml.safe_load(lock) or {}).get("stages", {})


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


def _check_audit(
    sandbox: Sandbox, now: State, left: State, after: State, *, killed: bool
) -> Iterator[str]:
    if left.tip:
        older = sandbox.run(["git", "merge-base", "--is-ancestor", left.tip, REF])
        if older.returncode != 0:
            yield "entries of the audit are lost"
    serial = json.loads(now.records["ledger.json"])["serial"]
    if serial != len(now.audit):
        yield f"serial {serial} after {len(now.audit)} entries"
    ours, wanted = Counter(now.audit), Counter(after.audit)
    began = left.unfinished or (killed and left.effects and wanted - Counter(left.audit))
    if began and ("", "interrupt", "ended") not in now.audit:
        yield "the audit does not tell that an apply did not end"
    if lost := wanted - ours:
        yield f"entries of the audit are lost: {lost}"
    more = {each: count for each, count in (ours - wanted).items() if not _may_be_more(each)}
    if more:
        yield f"done twice: {more}"


def _check_effects(
    now: State, left: State, before: State, after: State, *, more: int
) -> Iterator[str]:
    """What was recorded is not done again; the rest once more for each fault, at most."""
    for effect, count in now.effects.items():
        if count > after.effects[effect] + more:
            yield f"{effect} was done {count} times"
    for address, action, outcome in left.audit[len(before.audit) :]:
        effect = _effect_of(address)
        if outcome == "done" and action in ("run", "deploy"):
            for each in now.effects:
                if each.startswith(effect) and now.effects[each] > left.effects[each]:
                    yield f"{each} was done again, though it was recorded"
    if lost := after.effects - now.effects:
        yield f"never done: {lost}"


def _effect_of(address: str) -> str:
    """How the note of what a step does begins."""
    kind, _, name = address.partition(".")
    return "-".join(reversed(name.split("."))) if kind == "stage" else f"deploy-{name}-"


def _without_more(audit: list[Audited]) -> list[Audited]:
    return [entry for entry in audit if not _may_be_more(entry)]


def _may_be_more(entry: Audited) -> bool:
    """That an apply was interrupted, a step that failed by the fault, a question asked again.

    A candidate without a version is judged anew: gates answer the same and have no effect.
    """
    return entry[1] in ("interrupt", "evaluate") or entry[2] in ("failed", "skipped", "interrupted")
