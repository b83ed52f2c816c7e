"""Whoever writes the audit anew is found out: by the chain itself, or by what is known elsewhere.

An edit is one of a commit's bytes and of all commits after it, so that Git finds nothing wrong. The
table says for each kind what tells of it: the chain by itself, the commit that the remote was last
seen with, a commit that somebody noted, or signatures, which the one who edits cannot make.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from mlspec.git import Git
from mlspec.ledger import paths
from mlspec.ledger.anchors import check_anchor, check_remote
from mlspec.ledger.check import LedgerCheck
from mlspec.ledger.entry import Entry
from mlspec.ledger.objects import Draft, Objects
from mlspec.ledger.records import ModelState
from mlspec.ledger.signatures import check_signatures
from mlspec.ledger.snapshot import head_record
from mlspec.ledger.store import FETCHED, REF, Ledger
from mlspec.plan import canonical_json

RECORDS = 10
ENTRY = Entry(command="apply", address="model.risk", action="register", outcome="done")
KEPT, NONE, OWN = "kept", "none", "own"
"""What becomes of the signatures of commits that are written anew."""
BY = ("itself", "remote", "noted", "signature")
SIGNATURE = re.compile(rb"\ngpgsig(?:-sha256)? .*(?:\n .*)*")


@dataclass(frozen=True)
class Item:
    """A commit of the audit; `headers` are its bytes without tree and parents."""

    tree: str
    headers: bytes
    message: bytes
    merged: str = ""
    """A second parent."""

    def bytes_on(self, parent: str) -> bytes:
        parents = b"".join(b"\nparent " + each.encode() for each in (parent, self.merged) if each)
        return b"tree " + self.tree.encode() + parents + self.headers + b"\n\n" + self.message

    def told(self, **changes: object) -> Item:
        """With another entry."""
        line, _, body = self.message.partition(b"\n\n")
        text = canonical_json({**json.loads(body), **changes})
        return replace(self, message=line + b"\n\n" + text.encode() + b"\n")

    def header(self, pattern: bytes, new: bytes) -> Item:
        return replace(self, headers=re.sub(pattern, new, self.headers, count=1))


class World:
    """A signed ledger in a repository, another branch of it, and somebody's own key."""

    def __init__(self, place: Path, object_format: str) -> None:
        self.root = place / "repository"
        kind = f"--object-format={object_format}"
        subprocess.run(["git", "init", "--quiet", kind, self.root], check=True)
        self.keys = {name: place / name for name in ("ada", "eve")}
        for key in self.keys.values():
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)]
            subprocess.run(command, check=True)
        public = (place / "ada.pub").read_text()
        (place / "signers").write_text(f"ada@example.org {public}")
        settings = {
            "user.name": "Ada",
            "user.email": "ada@example.org",
            "gpg.format": "ssh",
            "user.signingkey": str(self.keys["ada"]),
            "gpg.ssh.allowedSignersFile": str(place / "signers"),
            "commit.gpgsign": "true",
        }
        for name, value in settings.items():
            subprocess.run(["git", "-C", self.root, "config", name, value], check=True)
        self.git = Git(self.root)
        ledger = Ledger(self.git)
        for number in range(RECORDS):
            if number == 4:
                self.git.run("update-ref", "refs/heads/other", ledger.tip)
            state = ModelState(retired=bool(number % 3))
            ledger.record({paths.state_path(f"m{number % 4}"): state}, ENTRY)
        self.tip = ledger.tip
        self.git.run("update-ref", REF, "refs/heads/other")
        ledger = Ledger(self.git)
        for number in range(3):
            ledger.record({paths.state_path("other"): ModelState(retired=bool(number))}, ENTRY)
        self.other = self._load(ledger.tip)
        self.git.run("update-ref", REF, self.tip)
        self.git.run("update-ref", FETCHED, self.tip)
        self.objects = Objects(self.git)
        self.chain = self._load(self.tip)

    def _load(self, tip: str) -> list[Item]:
        listed = self.git.run("rev-list", "--reverse", tip).splitlines()
        items = []
        for found in self.git.objects.get_many(listed):
            headers, _, message = found.data.partition(b"\n\n")
            lines = re.match(rb"tree (\w+)((?:\nparent \w+)*)", headers)
            assert lines is not None
            items.append(Item(lines[1].decode(), headers[lines.end() :], message))
        return items

    def renumber(self, items: list[Item]) -> list[Item]:
        """Sound in itself: serials in order, in trees and entries."""
        draft, numbered = Draft(self.objects), []
        for serial, item in enumerate(items, start=1):
            head = draft.add_blob(head_record(serial))
            tree = draft.add_tree(item.tree, {paths.HEAD: head})
            numbered.append(replace(item.told(serial=serial), tree=tree))
        draft.write()
        return numbered

    def with_record(self, item: Item, chance: random.Random) -> Item:
        """With another record in its tree."""
        draft = Draft(self.objects)
        state = ModelState(retired=True, durations={"train": (chance.random(),)})
        blob = draft.add_blob(canonical_json(state.model_dump()).encode() + b"\n")
        tree = draft.add_tree(item.tree, {paths.state_path("m1"): blob})
        draft.write()
        return replace(item, tree=tree)

    def write(self, items: list[Item], how: str) -> str:
        """The commits, as far as they are others; the tip. `how` is one of the three."""
        parent, rewritten = "", False
        made: dict[str, bytes] = {}
        for number, item in enumerate(items):
            content = item.bytes_on(parent)
            if number >= len(self.chain) or item != self.chain[number]:
                rewritten = True
            if rewritten and how == OWN:
                content = self._signed(content)
            elif rewritten and how == NONE:
                content = SIGNATURE.sub(b"", content)
            parent = self._id(content)
            if rewritten:
                made[parent] = b"commit %d\0%s" % (len(content), content)
        self.git.add_objects(made)
        return parent

    def _id(self, content: bytes) -> str:
        data = b"commit %d\0%s" % (len(content), content)
        return hashlib.new(self.git.object_format, data, usedforsecurity=False).hexdigest()

    def _signed(self, content: bytes) -> bytes:
        """With a signature by a key that nobody trusts."""
        content = SIGNATURE.sub(b"", content)
        file = self.root.parent / "commit"
        file.write_bytes(content)
        command = ["ssh-keygen", "-q", "-Y", "sign", "-n", "git", "-f", str(self.keys["eve"])]
        subprocess.run([*command, str(file)], check=True, capture_output=True)
        signature = file.with_name("commit.sig")
        lines = signature.read_bytes().rstrip(b"\n").replace(b"\n", b"\n ")
        signature.unlink()
        headers, _, message = content.partition(b"\n\n")
        name = b"gpgsig" if self.git.object_format == "sha1" else b"gpgsig-sha256"
        return headers + b"\n" + name + b" " + lines + b"\n\n" + message

    def told_by(self, tip: str) -> set[str]:
        """What tells that this is not the ledger as it was."""
        checks = {
            "itself": lambda: LedgerCheck(self.git).check(tip),
            "remote": lambda: check_remote(self.git, tip),
            "noted": lambda: check_anchor(self.git, tip, self.tip),
            "signature": lambda: check_signatures(self.git, tip, every=True),
        }
        return {name for name, check in checks.items() if any(check())}


Edit = Callable[[World, list[Item], random.Random], "list[Item] | None"]


def some(items: list[Item], chance: random.Random) -> int:
    return chance.randrange(len(items))


def drop(world: World, items: list[Item], chance: random.Random) -> None:
    del items[chance.randrange(len(items) - 1)], world


def drop_many(world: World, items: list[Item], chance: random.Random) -> None:
    start = chance.randrange(len(items) - 3)
    del items[start : start + 2 + chance.randrange(2)], world


def swap(world: World, items: list[Item], chance: random.Random) -> None:
    one = chance.randrange(len(items) - 1)
    other = chance.randrange(one + 1, len(items))
    items[one], items[other] = items[other], items[one]
    del world


def repeat(world: World, items: list[Item], chance: random.Random) -> None:
    items.insert(some(items, chance), items[some(items, chance)])
    del world


def splice(world: World, items: list[Item], chance: random.Random) -> None:
    """An entry of another branch."""
    items.insert(chance.randrange(1, len(items)), chance.choice(world.other[-3:]))


def graft(world: World, items: list[Item], chance: random.Random) -> None:
    """Another branch from somewhere on."""
    items[chance.randrange(5, 8) :] = world.other[-3:]


def merge(world: World, items: list[Item], chance: random.Random) -> None:
    at = 1 + chance.randrange(len(items) - 1)
    items[at] = replace(items[at], merged=world.git.run("rev-parse", "refs/heads/other"))


def other_serial(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    items[at] = items[at].told(serial=at + 1 + chance.choice((-1, 1, 7)))
    del world


def other_tree(world: World, items: list[Item], chance: random.Random) -> None:
    """The records of another moment."""
    one, other = chance.sample(range(len(items)), 2)
    items[one] = replace(items[one], tree=items[other].tree)
    del world


def no_entry(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    items[at] = replace(items[at], message=b"Nothing to see\n")
    del world


def other_outcome(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    items[at] = items[at].told(outcome="failed", detail=f"{chance.random()}")
    del world


def other_address(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    items[at] = items[at].told(address=f"model.m{chance.randrange(99)}")
    del world


def other_plan(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    items[at] = items[at].told(plan=f"sha256:{chance.randbytes(32).hex()}", commit="c" * 40)
    del world


def other_author(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    items[at] = items[at].header(rb"author .*? <", b"author Bob%d <" % chance.randrange(999))
    del world


def other_date(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    seconds = b"%d" % chance.randrange(1_000_000_000)
    items[at] = items[at].header(rb"(author .*>) \d+", rb"\g<1> " + seconds)
    del world


def other_record(world: World, items: list[Item], chance: random.Random) -> None:
    at = some(items, chance)
    items[at] = world.with_record(items[at], chance)


def cut_off(world: World, items: list[Item], chance: random.Random) -> None:
    """The ref moved back: the last entries are no more."""
    del items[1 + chance.randrange(len(items) - 1) :], world


def add(world: World, items: list[Item], chance: random.Random) -> None:
    """One more at the end, which nobody did: all that was noted is still there."""
    items.append(chance.choice(world.other[-3:]))


def numbered(edit: Edit) -> Edit:
    """The same, and all serials put in order."""

    def both(world: World, items: list[Item], chance: random.Random) -> list[Item]:
        edit(world, items, chance)
        return world.renumber(items)

    both.__name__ = f"{edit.__name__}, numbered"
    return both


ADDED = numbered(add)
NOT_SOUND: tuple[Edit, ...] = (
    drop,
    drop_many,
    swap,
    repeat,
    splice,
    merge,
    other_serial,
    other_tree,
    no_entry,
)
"""Wrong in themselves."""
SOUND: tuple[Edit, ...] = (
    other_outcome,
    other_address,
    other_plan,
    other_author,
    other_date,
    other_record,
    cut_off,
    ADDED,
    *map(numbered, (drop, drop_many, swap, repeat, splice, graft)),
)
"""To be told by what is known elsewhere alone."""
EDITS = (*NOT_SOUND, *SOUND)


def try_edits(place: Path, object_format: str, seeds: range) -> Counter[tuple[str, str]]:
    """How often each kind of edit was made (`""`), and told by what; raises for one not told."""
    place.mkdir(exist_ok=True)
    world = World(place, object_format)
    assert world.told_by(world.tip) == set()
    counts: Counter[tuple[str, str]] = Counter()
    for seed in seeds:
        edit = EDITS[seed % len(EDITS)]
        chance = random.Random(seed)
        items = list(world.chain)
        while items == world.chain:
            changed = [*items]
            items = edit(world, changed, chance) or changed
        tip = world.write(items, (KEPT, NONE, OWN)[seed // len(EDITS) % 3])
        by = world.told_by(tip)
        name = edit.__name__
        counts[name, ""] += 1
        counts.update((name, each) for each in by)
        known = {"remote", "noted"} if edit is not ADDED else set()
        assert by & {"remote", "noted"} == known, f"{name} with {seed} is told by {by or 'nobody'}"
        assert ("itself" in by) == (edit in NOT_SOUND), f"{name} with {seed}: {by}"
        assert ("signature" in by) == (edit is not cut_off), f"{name} with {seed}: {by}"
    world.git.close()
    return counts


def render(counts: Counter[tuple[str, str]]) -> str:
    lines = [f"{'edit':20}{'made':>8}" + "".join(f"{by:>12}" for by in BY)]
    for edit in EDITS:
        told = "".join(f"{counts[edit.__name__, by]:>12}" for by in BY)
        lines.append(f"{edit.__name__:20}{counts[edit.__name__, '']:>8}{told}")
    totals = [sum(counts[edit.__name__, by] for edit in EDITS) for by in ("", *BY)]
    return "\n".join(
        [*lines, f"{'all':20}{totals[0]:>8}" + "".join(f"{n:>12}" for n in totals[1:])]
    )


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
def test_each_kind_of_edit_is_told(tmp_path: Path, object_format: str) -> None:
    half = len(EDITS) // 2  # of each, and with signatures of another kind
    start, end = (0, half) if object_format == "sha1" else (len(EDITS) + half, 2 * len(EDITS))
    try_edits(tmp_path, object_format, range(start, end))


@pytest.mark.thorough
def test_a_thousand_edits_are_told(tmp_path: Path) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=forked) as pool:
        jobs = [
            pool.submit(
                try_edits,
                tmp_path / str(start),
                "sha256" if start % 100 else "sha1",
                range(start, start + 50),
            )
            for start in range(0, 1000, 50)
        ]
        for job in as_completed(jobs):
            counts += job.result()
            sys.stdout.write(f"{sum(counts[edit.__name__, ''] for edit in EDITS)} edits\n")
            sys.stdout.flush()
    sys.stdout.write(f"{render(counts)}\n")
    assert sum(counts[edit.__name__, ""] for edit in EDITS) == 1000
