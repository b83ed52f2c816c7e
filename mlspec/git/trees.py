"""What the commits of a repository hold that somebody may still ask for, without a checkout.

Comes in: a repository. Goes out: commits with a name for each, and of their files those that match
a pattern, each content once. What cannot be read raises: it may name what must be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from mlspec.git.errors import GitError
from mlspec.git.objects import Object
from mlspec.git.remote import Remote
from mlspec.git.repository import Git

_OWN = "refs/mlspec/"
_STASH = "refs/stash"


@dataclass(frozen=True, slots=True)
class Worktree:
    """A checkout of the repository and the commit that it has, if any."""

    path: Path
    commit: str


def find_tips(git: Git) -> dict[str, str]:
    """Commits, or trees, that a ref, a worktree or a stash names; the name of each for people."""
    refs = {name: oid for name, oid in git.refs("refs").items() if not name.startswith(_OWN)}
    named = dict(_peeled(git, refs))
    for worktree in list_worktrees(git):
        if worktree.commit:
            named.setdefault(worktree.commit, f"the worktree {worktree.path.name}")
    if _STASH in refs:
        for oid in git.run("rev-list", "-g", _STASH).split():
            for part in (oid, f"{oid}^2", f"{oid}^3"):  # worktree, index, files that were untracked
                found = git.objects.get(part)
                if found is not None:
                    named.setdefault(found.oid, "a stash")
    return named


def list_worktrees(git: Git) -> list[Worktree]:
    """All checkouts, this one among them, but for those whose folder was removed.

    Raises for one that Git was told to keep (`git worktree lock`) while its folder is away.
    """
    found = []
    for block in git.run("worktree", "list", "--porcelain").split("\n\n"):
        lines = dict(line.partition(" ")[::2] for line in block.splitlines())
        path = Path(lines.get("worktree", ""))
        if "worktree" in lines and "bare" not in lines:
            if path.is_dir() and not (path / ".git").exists():
                path = _main_checkout(git)
            commit = lines.get("HEAD", "").strip("0")
            if "locked" in lines and not path.is_dir():
                raise GitError(
                    f"the worktree {path} is not there, and is locked so that it is not forgotten",
                    hint=f"bring it back, or forget it: git worktree remove -f -f {path}",
                )
            if path.is_dir() or commit:
                found.append(Worktree(path, lines.get("HEAD", "") if commit else ""))
    return found


def _main_checkout(git: Git) -> Path:
    """The checkout that Git's folder is not in: that of a submodule, say."""
    if Path(git.run("rev-parse", "--absolute-git-dir")).resolve() == git.common_dir:
        return git.toplevel
    for name in ("config", "config.worktree"):
        file = str(git.common_dir / name)
        found = git.call("config", "--file", file, "core.worktree").stdout.decode().rstrip("\n")
        if found:
            return (git.common_dir / found).resolve()
    raise GitError(
        f"where the main checkout of {git.common_dir} is cannot be told, and it may need something",
        hint="run the same there",
    )


class Trees:
    """The files of commits. A folder that many commits have is read once.

    `patterns` are those of names of files, such as `*.dvc`.
    """

    def __init__(self, git: Git, *patterns: str) -> None:
        self._git = git
        self._patterns = patterns
        self._seen: set[str] = set()

    def new_files(self, commits: Iterable[str]) -> dict[str, str]:
        """A path by the blob of each file that matches, unless an earlier call gave that."""
        found: dict[str, str] = {}
        level = {oid: "" for oid in commits if oid not in self._seen}
        while level:
            self._seen |= level.keys()
            below: dict[str, str] = {}
            for oid, kind, data in self._read(level):
                if kind == "commit":
                    below[data[5 : data.index(b"\n")].decode()] = ""
                elif kind == "tag":
                    below[data[7 : data.index(b"\n")].decode()] = ""
                elif kind == "tree":
                    self._sort(data, len(oid) // 2, level[oid], below, found)
            level = {oid: path for oid, path in below.items() if oid not in self._seen}
        return found

    def _read(self, level: dict[str, str]) -> Iterator[Object]:
        missing = dict(level)
        for found in self._git.objects.get_many(list(level)):
            missing.pop(found.oid, None)
            yield found
        if missing:
            oid, path = next(iter(missing.items()))
            raise _unreadable(path or "a commit", f"the object {oid} is missing")

    def _sort(
        self, data: bytes, width: int, prefix: str, below: dict[str, str], found: dict[str, str]
    ) -> None:
        for mode, name, oid in tree_entries(data, width):
            path = f"{prefix}{name}"
            if mode == b"40000":
                below.setdefault(oid, f"{path}/")
            elif mode != b"160000" and oid not in self._seen and self._matches(name):
                found[oid] = path
                self._seen.add(oid)

    def _matches(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)


def every_commit(git: Git) -> dict[str, int]:
    """Every commit that has a name here, or had one; when each was made, in seconds since 1970.

    Raises for a shallow clone, which lacks some.
    """
    if git.run("rev-parse", "--is-shallow-repository") == "true":
        raise GitError(
            "this clone is shallow: it lacks earlier commits, which may name what must be kept",
            hint="git fetch --unshallow",
        )
    listed = git.run("rev-list", "--timestamp", f"--exclude={_OWN}*", "--all", "--reflog")
    rows = (line.split() for line in listed.splitlines())
    return {oid: int(seconds) for seconds, oid in rows}


def tree_entries(data: bytes, width: int) -> Iterator[tuple[bytes, str, str]]:
    """What a tree's bytes say: mode, name, id; an id is `width` bytes long."""
    start = 0
    while start < len(data):
        end = data.index(b"\0", start)
        mode, _, name = data[start:end].partition(b" ")
        start = end + 1 + width
        yield mode, name.decode("utf-8", "surrogateescape"), data[end + 1 : start].hex()


def read_blobs(git: Git, blobs: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Path and content of each; raises if one is missing."""
    left = dict(blobs)
    for found in git.objects.get_many(list(blobs)):
        path = left.pop(found.oid)
        if found.kind == "blob":
            yield path, found.data
    if left:
        raise _unreadable(next(iter(left.values())), f"its content {next(iter(left))} is missing")


def check_all_fetched(git: Git, remote: str) -> dict[str, str]:
    """The branches and tags of the remote: their commits by id; raises if one is not here."""
    theirs = {oid: name for name, oid in Remote(git, remote).tips().items()}
    known = {found.oid for found in git.objects.get_many(list(theirs))}
    unknown = sorted(name for oid, name in theirs.items() if oid not in known)
    if unknown:
        shown = ", ".join(unknown[:3]) + (f" and {len(unknown) - 3} more" if unknown[3:] else "")
        raise GitError(
            f"the remote {remote!r} has commits that are not known here: {shown}",
            hint=f"git fetch --tags {remote} '+refs/heads/*:refs/remotes/{remote}/*'",
        )
    return theirs


def _peeled(git: Git, refs: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Tags stand for what they point to; one that points to a file asks for nothing."""
    for name, oid in refs.items():
        found = git.objects.get(f"{oid}^{{}}")
        if found is None:
            raise _unreadable(name, f"its object {oid} is missing or damaged")
        if found.kind != "blob":
            yield found.oid, name.removeprefix("refs/").removeprefix("heads/")


def _unreadable(what: str, why: str) -> GitError:
    return GitError(
        f"{what} cannot be read, and may name what must be kept: {why}",
        hint="`git fsck` tells what is damaged; a fetch from the remote may bring it back",
    )
