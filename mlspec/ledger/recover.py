"""The last good ledger that Git still has: here, or at the remote.

Comes in: a repository whose ledger is damaged. Goes out: a :class:`Found`, and by :func:`restore`
a ref that points there. Objects that are damaged are moved aside, to `.git/mlspec-damaged`, and
never deleted.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.git import Git, Remote
from mlspec.ledger.anchors import check_refs, is_as_written
from mlspec.ledger.check import LedgerCheck, claimed_serial
from mlspec.ledger.packed import mend
from mlspec.ledger.snapshot import Snapshot
from mlspec.ledger.store import FETCHED, REF, Ledger

DAMAGED = "mlspec-damaged"
"""The folder of what was moved aside, in the Git folder."""


@dataclass(frozen=True, slots=True)
class Found:
    """A good ledger: its `commit` and `serial`; `highest` is the highest serial ever heard of."""

    commit: str
    serial: int
    highest: int


def current_tip(git: Git) -> str:
    """What the ref says, if that can be read; the commit that it names may be damaged."""
    with suppress(MlspecError):
        return git.ref(REF)
    return git.call("rev-parse", "--verify", "--quiet", REF).stdout.decode().strip()


def is_whole(git: Git, tip: str) -> bool:
    """Whether there is nothing to recover: a good ledger in a database that Git finds sound."""
    if not tip or any(check_refs(git)):
        return False
    return LedgerCheck(git).is_good(tip) and not damaged_files(git)


def damaged_files(git: Git) -> list[Path]:
    """Packs, and objects in files of their own, that do not hold what their name says."""
    objects = git.common_dir / "objects"
    found = []
    for index in sorted(objects.glob("pack/*.idx")):
        pack = index.with_suffix(".pack")
        if git.call("index-pack", "--verify", str(pack)).returncode != 0 or not _indexed(git, pack):
            found.append(pack)
    packs = sorted(objects.glob("pack/pack-*.pack"))
    found += (pack for pack in packs if not pack.with_suffix(".idx").exists())
    for loose in sorted(objects.glob("[0-9a-f][0-9a-f]/*")):
        oid = loose.parent.name + loose.name
        if len(oid) in (40, 64) and not _is_sound(loose, oid, git.object_format):
            found.append(loose)
    return found


def gather(git: Git) -> dict[Path, Path]:
    """Have all good objects in a sound database again, and the remote's with them.

    What is damaged is moved aside, and whatever can be read of it is taken back. Answers where
    each file was and is.
    """
    moved: dict[Path, Path] = {}
    aside = git.common_dir / DAMAGED
    mend(git, aside)
    for path in damaged_files(git):
        aside.mkdir(exist_ok=True)
        pack = path.suffix == ".pack"
        for each in (path, path.with_suffix(".idx"), path.with_suffix(".rev")) if pack else (path,):
            if each.exists():
                target = aside / (each.name if pack else path.parent.name + path.name)
                shutil.move(each, target)
                moved[each] = target
        if pack and path in moved:
            _salvage(git, aside / path.name)
    git.close()
    if git.remote:
        _take_from_remote(git)
    git.close()
    return moved


def put_back(moved: Mapping[Path, Path]) -> None:
    """Have everything as it was before :func:`gather`."""
    for path, target in moved.items():
        if not path.exists():
            shutil.move(target, path)


def find_good(git: Git) -> Found | None:
    """The good ledger with the highest serial, among all commits that Git has."""
    check = LedgerCheck(git)
    listed = git.call(
        "cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"
    )
    names = (line.split(" ") for line in listed.stdout.decode().splitlines())
    commits = [oid for kind, *rest in names if kind == "commit" for oid in rest]
    claims = sorted(((claimed_serial(git, oid), oid) for oid in commits), reverse=True)
    highest = claims[0][0] if claims else 0
    preferred = {git.refs(FETCHED).get(FETCHED, "")} if _readable(git) else set()
    claims.sort(key=lambda claim: (claim[0], claim[1] in preferred), reverse=True)
    for serial, oid in claims:
        if serial and check.is_good(oid):
            return Found(oid, Snapshot(Ledger(git).objects, oid).serial, highest)
    return None


def restore(git: Git, found: Found) -> None:
    """Make it the ledger; the caller holds the lock."""
    if current_tip(git) != found.commit or not is_as_written(git, REF):
        _set_aside(git, REF)
    git.run("update-ref", REF, found.commit)
    known = git.objects.get(FETCHED) if is_as_written(git, FETCHED) else None
    if known is None or not LedgerCheck(git).is_good(known.oid):  # lost, in part or as a whole
        _set_aside(git, FETCHED)
        git.call("update-ref", "-d", FETCHED)


def _set_aside(git: Git, ref: str) -> None:
    """Have it out of the way: Git moves and deletes no ref that it cannot read."""
    file = git.common_dir / ref
    if file.exists():
        aside = git.common_dir / DAMAGED
        aside.mkdir(exist_ok=True)
        shutil.move(file, aside / ref.rpartition("/")[2])


def lost(git: Git, tip: str, found: Found) -> Iterator[str]:
    """What the entries say that come after the good ones, as far as they can be read."""
    oid = tip
    while oid and oid != found.commit and claimed_serial(git, oid) > found.serial:
        with suppress(MlspecError):
            commit = Ledger(git).objects.commit(oid)
            yield commit.message.partition("\n")[0]
            oid = commit.parent
            continue
        return


def _salvage(git: Git, pack: Path) -> None:
    """Take what can be read of a damaged pack, and only what it is said to hold.

    One byte makes a blob into a tree, or has a change applied to another base: that is an object
    with a name of its own, which nobody wrote. Without an index nobody knows the names.
    """
    index = pack.with_suffix(".idx")
    listed = git.call("show-index", stdin=index.read_bytes()).stdout if index.exists() else b""
    known = {line.split(b" ")[1] for line in listed.splitlines()}
    with tempfile.TemporaryDirectory(prefix="mlspec-") as folder:
        other = Git(Path(folder))
        try:
            other.run("init", "--quiet", "--bare", f"--object-format={git.object_format}")
            other.call("unpack-objects", "-r", "-q", stdin=pack.read_bytes())
            names = other.call("cat-file", "--batch-all-objects", "--batch-check=%(objectname)")
            good = [name for name in names.stdout.splitlines() if name in known or not known]
            repacked = other.call("pack-objects", "--stdout", "-q", stdin=b"\n".join(good) + b"\n")
        finally:
            other.close()
    git.close()
    git.call("unpack-objects", "-r", "-q", stdin=repacked.stdout)


def _take_from_remote(git: Git) -> None:
    """Objects that are damaged here are not sent again by a fetch; so another repository asks."""
    with tempfile.TemporaryDirectory(prefix="mlspec-") as folder:
        other = Git(Path(folder))
        url = git.run("remote", "get-url", git.remote)
        where = git.root / url if "://" not in url and (git.root / url).exists() else url
        try:
            other.run("init", "--quiet", "--bare", f"--object-format={git.object_format}")
            tip = Remote(other, str(where)).fetch(REF, REF)
            if tip:
                pack = other.call(
                    "pack-objects", "--revs", "--stdout", "-q", stdin=f"{tip}\n".encode()
                )
                git.call("unpack-objects", "-r", "-q", stdin=pack.stdout)
                git.call("index-pack", "--stdin", stdin=pack.stdout)
        except MlspecError:
            return  # what is here must do
        finally:
            other.close()


def _readable(git: Git) -> bool:
    with suppress(MlspecError):
        git.refs(FETCHED)
        return True
    return False


def _indexed(git: Git, pack: Path) -> bool:
    """Whether the index is the one that the pack has."""
    return git.call("verify-pack", str(pack)).returncode == 0


def _is_sound(path: Path, oid: str, object_format: str) -> bool:
    import hashlib
    import zlib

    try:
        stream = zlib.decompressobj()
        content = stream.decompress(path.read_bytes()) + stream.flush()
    except (OSError, zlib.error):
        return False
    digest = hashlib.new(object_format, content, usedforsecurity=False).hexdigest()
    return digest == oid and stream.eof and not stream.unused_data
