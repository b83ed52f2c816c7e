"""What the commits of a repository hold that somebody may still ask for, without a checkout.

Comes in: a repository. Goes out: commits with a name for each, and of their files those that match
a pattern, each content once. What cannot be read raises: it may name what must be kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlspec.git.errors import GitError
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
    """All checkouts that are there, this one among them."""
    found = []
    for block in git.run("worktree", "list", "--porcelain").split("\n\n"):
        lines = dict(line.partition(" ")[::2] for line in block.splitlines())
        path = Path(lines.get("worktree", ""))
        if "worktree" in lines and "bare" not in lines:
            commit = lines.get("HEAD", "").strip("0")
            if path.is_dir() or commit:
                found.append(Worktree(path, lines.get("HEAD", "") if commit else ""))
    return found


def recent_commits(git: Git, since: int) -> list[str]:
    """Commits of any ref, or of what a ref was, made since that time in seconds since 1970."""
    every = (f"--exclude={_OWN}*", "--all", "--reflog")
    return git.run("rev-list", f"--since=@{since}", *every).split()


def files_of(git: Git, commits: Iterable[str], patterns: Sequence[str]) -> dict[str, str]:
    """The blobs of these commits' own files whose path matches, and a path of each."""
    return _listed(git, ["--no-walk", "--stdin"], commits, patterns)


def files_ever(git: Git, patterns: Sequence[str]) -> dict[str, str]:
    """The blobs of every commit that the repository knows a name of, or knew one of."""
    every = ("--full-history", f"--exclude={_OWN}*", "--all", "--reflog", "--stdin")
    return _listed(git, every, (), patterns)


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
    theirs = {oid: name for name, oid in git.remote_tips(remote).items()}
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


def _listed(
    git: Git, options: Sequence[str], commits: Iterable[str], patterns: Sequence[str]
) -> dict[str, str]:
    commits = list(commits)
    if "--no-walk" in options and not commits:
        return {}
    asked = "\n".join([*commits, "--", *(f":(glob)**/{pattern}" for pattern in patterns), ""])
    done = git.call("rev-list", "--objects", *options, stdin=asked.encode())
    if done.returncode != 0:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()
        raise _unreadable("a commit", reason[-1] if reason else "git rev-list failed")
    rows = (line.partition(" ") for line in done.stdout.decode("utf-8", "replace").splitlines())
    return {oid: path for oid, _, path in rows if path}


def _unreadable(what: str, why: str) -> GitError:
    return GitError(
        f"{what} cannot be read, and may name what must be kept: {why}",
        hint="`git fsck` tells what is damaged; a fetch from the remote may bring it back",
    )
