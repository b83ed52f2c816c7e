"""No changed byte of a ledger stays unseen, and the remote gives it back.

Each file of a small ledger (packs, their indexes, objects in files of their own, refs) is changed
in each of some ways, at random places; the table of all says what was seen and what came back.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlspec.commands.fsck import find_problems
from mlspec.git import Git
from mlspec.ledger import paths
from mlspec.ledger.entry import Entry
from mlspec.ledger.records import ModelState
from mlspec.ledger.recover import find_good, gather, restore
from mlspec.ledger.store import FETCHED, REF, Ledger

ENTRY = Entry(command="apply", address="model.risk", action="register", outcome="done")
FORMATS = ("sha1", "sha256")
RECORDS = 12
PAGE = 64
"""Bytes: of small files, as a disk would lose 4096 of large ones."""


def flip(data: bytearray, chance: random.Random) -> None:
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def insert(data: bytearray, chance: random.Random) -> None:
    data.insert(chance.randrange(len(data) + 1), chance.randrange(256))


def drop(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data))]


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def grow(data: bytearray, chance: random.Random) -> None:
    data += chance.randbytes(chance.randrange(1, PAGE))


def blank(data: bytearray, chance: random.Random) -> None:
    """A page of zeros: it never reached the disk."""
    start = chance.randrange(len(data))
    data[start : start + PAGE] = bytes(len(data[start : start + PAGE]))


def scramble(data: bytearray, chance: random.Random) -> None:
    start = chance.randrange(len(data))
    data[start : start + PAGE] = chance.randbytes(len(data[start : start + PAGE]))


def swap(data: bytearray, chance: random.Random) -> None:
    half = max(1, min(PAGE, len(data) // 2))
    data[:half], data[-half:] = data[-half:], data[:half]
    del chance


def empty(data: bytearray, chance: random.Random) -> None:
    del data[:], chance


WAYS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    flip,
    insert,
    drop,
    cut,
    grow,
    blank,
    scramble,
    swap,
    empty,
)
OTHER_FILE, DELETE = "other file", "delete"


@dataclass
class Tally:
    """How often each kind of change was made, seen, and mended; `wrong` is what was not."""

    made: Counter[tuple[str, str]] = field(default_factory=Counter)
    seen: Counter[tuple[str, str]] = field(default_factory=Counter)
    tried: Counter[tuple[str, str]] = field(default_factory=Counter)
    mended: Counter[tuple[str, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for mine, theirs in (
            (self.made, other.made),
            (self.seen, other.seen),
            (self.tried, other.tried),
            (self.mended, other.mended),
        ):
            mine.update(theirs)
        self.wrong += other.wrong

    def render(self) -> str:
        columns = ("changes", "seen", "recoveries", "same tip")
        lines = [f"{'file':8} {'change':12}" + "".join(f"{name:>12}" for name in columns)]
        counters = (self.made, self.seen, self.tried, self.mended)
        for file, way in sorted(self.made):
            counts = "".join(f"{each[file, way]:>12}" for each in counters)
            lines.append(f"{file:8} {way:12}{counts}")
        totals = "".join(f"{each.total():>12}" for each in counters)
        return "\n".join([*lines, f"{'all':21}{totals}"])


class Victim:
    """A ledger of some records whose remote has all of it, and a copy of its files."""

    def __init__(self, place: Path, object_format: str, *, packed: bool) -> None:
        self.root = place / "repository"
        kind = f"--object-format={object_format}"
        subprocess.run(["git", "init", "--quiet", kind, self.root], check=True)
        git = Git(self.root)
        ledger = Ledger(git)
        for number in range(RECORDS):
            state = ModelState(retired=bool(number))
            ledger.record({paths.state_path(f"m{number % 5}"): state}, ENTRY)
            if number == RECORDS // 2:
                git.run("repack", "-a", "-d", "-q")
                git.close()
        self._loosen(git)
        remote = place / "remote.git"
        subprocess.run(["git", "init", "--quiet", "--bare", kind, remote], check=True)
        git.run("remote", "add", "origin", str(remote))
        git.close()
        git = Git(self.root)
        self.tip = Ledger(git).publish()
        git.close()
        self.git = self.root / ".git"
        if packed:
            git.run("pack-refs", "--all")
            git.close()
        self.kept = place / "kept"
        shutil.copytree(self.git, self.kept)
        self.files = self._files()

    def _loosen(self, git: Git) -> None:
        """Have some of what is in small packs in files of their own."""
        packs = sorted((git.common_dir / "objects/pack").glob("*.pack"), key=_size)
        for pack in packs[: len(packs) // 2]:
            data = pack.read_bytes()
            for each in (pack, pack.with_suffix(".idx"), pack.with_suffix(".rev")):
                each.unlink(missing_ok=True)
            git.close()
            git.run("unpack-objects", "-q", stdin=data)

    def _files(self) -> dict[str, list[Path]]:
        """What the ledger is made of, by kind."""
        objects = self.git / "objects"
        found = {
            "pack": [*objects.glob("pack/*.pack")],
            "index": [*objects.glob("pack/*.idx")],
            "object": [path for path in objects.glob("[0-9a-f][0-9a-f]/*") if path.is_file()],
        }
        packed = self.git / "packed-refs"
        refs = {"ref": self.git / REF, "fetched": self.git / FETCHED}
        found |= {"packed": [packed]} if packed.exists() else {n: [f] for n, f in refs.items()}
        assert all(found.values()), found
        return {kind: sorted(files) for kind, files in found.items()}

    def change(self, file: Path, way: int, chance: random.Random) -> str:
        """Change a file for good; the name of how."""
        file.chmod(0o644)
        before = file.read_bytes()
        if file.name == "packed-refs":
            return self._change_line(file, way % len(WAYS), chance)
        if way == len(WAYS) and file.name != "fetched":  # without, nothing is known of the remote
            file.unlink()
            return DELETE
        if way >= len(WAYS):
            kind = next(files for files in self.files.values() if file in files)
            others = [path.read_bytes() for path in kind if path != file]
            if others and (other := chance.choice(others)) != before:
                file.write_bytes(other)
                return OTHER_FILE
            way = 0
        data = bytearray(before)
        while data == before:
            WAYS[way](data, chance)
        file.write_bytes(data)
        return WAYS[way].__name__

    def _change_line(self, file: Path, way: int, chance: random.Random) -> str:
        """Change what is said of the ledger, and nothing else."""
        before, line, after = file.read_bytes().partition(f"{self.tip} {REF}\n".encode())
        assert line
        data = bytearray(line)
        while data == line:
            WAYS[way](data, chance)
        file.write_bytes(before + data + after)
        return WAYS[way].__name__

    def wrong(self) -> list[str]:
        """The kinds of what fsck finds."""
        git = Git(self.root)
        try:
            return [problem.kind for problem in find_problems(self.root, git)]
        finally:
            git.close()

    def is_seen(self) -> bool:
        """Whether fsck finds anything; it need not look further then."""
        git = Git(self.root)
        try:
            return next(find_problems(self.root, git), None) is not None
        finally:
            git.close()

    def run(self, *arguments: str, stdin: bytes = b"") -> str:
        """Have Git do something that must go well."""
        git = Git(self.root)
        try:
            return git.run(*arguments, stdin=stdin)
        finally:
            git.close()

    def recover(self) -> str:
        """As `mlspec ledger recover` does; the commit that it went to."""
        git = Git(self.root)
        try:
            gather(git)
            found = find_good(git)
            if found is None:
                return ""
            restore(git, found)
            return found.commit
        finally:
            git.close()

    def says_the_same(self, file: Path) -> bool:
        """Whether an object has what it had: the last byte of a compressed one has unused bits."""
        before = (self.kept / file.relative_to(self.git)).read_bytes()
        try:
            now = file.read_bytes()
            return len(now) == len(before) and zlib.decompress(now) == zlib.decompress(before)
        except (OSError, zlib.error):
            return False

    def put_back(self, file: Path | None) -> None:
        """Have one file as it was, or all."""
        if file is not None:
            file.unlink(missing_ok=True)
            shutil.copy2(self.kept / file.relative_to(self.git), file)
        else:
            shutil.rmtree(self.git)
            shutil.copytree(self.kept, self.git)

    def try_all(self, count: int, seed: int, recover_each: int) -> Tally:
        """So many changes; each of some is recovered from."""
        tally, chance = Tally(), random.Random(seed)
        kinds = sorted(self.files)
        for number in range(count):
            kind = kinds[number % len(kinds)]
            file = chance.choice(self.files[kind])
            way = self.change(file, number // len(kinds) % (len(WAYS) + 2), chance)
            while kind == "object" and self.says_the_same(file):
                self.put_back(file)
                way = self.change(file, 0, chance)
            at = kind, way
            tally.made[at] += 1
            what = f"{seed}/{number}: {way} of {file.relative_to(self.git)}"
            if self.is_seen():
                tally.seen[at] += 1
            else:
                tally.wrong.append(f"{what} is not seen")
            if chance.randrange(recover_each):
                self.put_back(file)
                continue
            tally.tried[at] += 1
            tip, left = self.recover(), self.wrong()
            if tip == self.tip and not left:
                tally.mended[at] += 1
            else:
                tally.wrong.append(f"{what} is not mended: {tip or 'nothing'}, {left}")
            self.put_back(None)
        return tally


def _size(file: Path) -> int:
    return file.stat().st_size


def try_some(place: Path, count: int, seed: int, recover_each: int) -> Tally:
    """The seed says also of which of Git's formats the ledger is, and whether refs are packed."""
    place.mkdir()
    victim = Victim(place, FORMATS[seed % 2], packed=seed % 4 > 1)
    return victim.try_all(count, seed, recover_each)


@pytest.mark.parametrize("seed", range(4))
def test_changed_bytes_are_seen_and_the_remote_gives_them_back(tmp_path: Path, seed: int) -> None:
    tally = try_some(tmp_path / "one", 40, seed, recover_each=10)
    assert not tally.wrong, tally.render()


@pytest.mark.parametrize("object_format", FORMATS)
def test_an_object_that_became_another_kind_is_not_kept(tmp_path: Path, object_format: str) -> None:
    """The kind stands in the first byte of an entry, and no checksum of its own covers it."""
    victim = Victim(tmp_path, object_format, packed=False)
    pack = max(victim.files["pack"], key=_size)
    index = pack.with_suffix(".idx").read_bytes()
    for entry in victim.run("show-index", stdin=index).splitlines()[::4]:
        data = bytearray(pack.read_bytes())
        data[int(entry.split()[0])] ^= 0x10
        pack.chmod(0o644)
        pack.write_bytes(data)
        assert victim.recover() == victim.tip
        victim.run("fsck", "--no-dangling")
        victim.put_back(None)


@pytest.mark.thorough
def test_ten_thousand_changes(tmp_path: Path) -> None:
    parts, tally = 40, Tally()
    forked = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=forked) as pool:
        jobs = [
            pool.submit(try_some, tmp_path / str(seed), 10_000 // parts, seed, 20)
            for seed in range(parts)
        ]
        for job in as_completed(jobs):
            tally.add(job.result())
            sys.stdout.write(f"{tally.made.total()} changes, {len(tally.wrong)} wrong\n")
            sys.stdout.flush()
    sys.stdout.write(f"{tally.render()}\n")
    assert not tally.wrong, "\n".join(tally.wrong)
