"""The agent's clone: what the branch of the remote has, and which commit lies in the worktree.

Nobody else works in it. Files that mlspec and DVC write are the agent's own and are given up for
those of the next commit; any other change is somebody's work, and the agent refuses to touch it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError

from mlspec.atomic import OWN, write_together
from mlspec.compilers.generated import MARK
from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.following.decision import Branch
from mlspec.following.memory import Memory, Rules
from mlspec.git import Git, Remote
from mlspec.spec.load import ROOT
from mlspec.spec.models import Reconcile
from mlspec.spec.tops import UnsureError, read_top

Kept = Mapping[str, bytes | None]
"""Files by path, as they were; none for one that was not there."""

_HEAD = 2000
"""Characters at the start of a file within which its mark stands."""


class Clone:
    """A checkout that follows `branch` of `remote`."""

    def __init__(self, git: Git, remote: str, branch: str) -> None:
        self.git = git
        self.root = git.root
        self.remote = remote
        self.branch = branch

    def look(self, memory: Memory) -> Branch:
        """What the branch has now.

        Raises :class:`RemoteUnreachable`, also when there is no such branch: that is never taken
        for a wish to delete.
        """
        into = f"refs/remotes/{self.remote}/{self.branch}"
        if f"remote.{self.remote}.url" not in self.git.config:
            raise MlspecError(
                f"there is no remote {self.remote!r} here",
                hint="run in a clone of the repository, or name another one with --remote",
            )
        tip = Remote(self.git, self.remote).fetch(f"refs/heads/{self.branch}", into)
        if not tip:
            raise RemoteUnreachable(
                f"the remote {self.remote!r} has no branch {self.branch!r}",
                hint="name another one with --branch",
            )
        if not memory.tried:
            return Branch(tip, (tip,))
        if not self._is_part(memory.tried, tip):
            return Branch(tip, (tip,), rewritten=True)
        walk = ("rev-list", "--first-parent", "--reverse", f"{memory.tried}..{tip}", "--")
        return Branch(tip, tuple(self.git.run(*walk).split()))

    def rules(self, tip: str) -> Rules | None:
        """What the spec of a commit says about the agent; none if that cannot be read."""
        done = self.git.call("cat-file", "blob", f"{tip}:{ROOT}")
        if done.returncode != 0:
            return None
        try:
            said = read_top(done.stdout, ROOT).sections.get("reconcile", {})
            found = Reconcile.model_validate_json(json.dumps(said))
        except (UnsureError, ValidationError):
            return None
        return Rules(found.self_heal, found.freeze)

    def subject(self, commit: str) -> str:
        """The first line of a commit's message."""
        return self.git.run("show", "--no-patch", "--format=%s", commit, "--")

    def check_alone(self, memory: Memory) -> None:
        """Raise if somebody works here: on files, or by commits that the remote does not have."""
        strange = sorted(path for path in self.changed() if not self._is_own(path, memory.left))
        if strange:
            more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
            raise MlspecError(
                f"somebody edits this checkout: {', '.join(strange[:3])}{more}",
                hint="the agent needs a clone of its own; commit and push, or take the edits back",
            )
        head, remote = self.git.head(), f"refs/remotes/{self.remote}/{self.branch}"
        known = head in ("", memory.at, memory.tried, memory.busy)
        if not known and not self._is_part(head, self.git.ref(remote)):
            raise MlspecError(
                f"commit {head[:9]} is checked out here, and the remote's {self.branch} lacks it",
                hint="push it, or check out what the remote has; the agent needs its own clone",
            )

    def changed(self) -> tuple[str, ...]:
        """The files that differ from the commit, also new ones; not ignored ones."""
        options = ("--porcelain", "-z", "--no-renames", "--untracked-files=all")
        rows = self.git.run("status", *options).split("\0")
        return tuple(row[3:] for row in rows if row)

    def go(self, commit: str) -> Kept:
        """Check a commit out; what that wrote over, to come :meth:`back` to.

        Raises :class:`MlspecError` for a commit that has files where mlspec keeps its own.
        """
        if self.git.blobs(commit, [OWN]):
            raise MlspecError(
                f"commit {commit[:9]} has files in {OWN}, which mlspec trusts as its own",
                hint=f"take them out of Git: git rm -r --cached {OWN}",
            )
        tracked = {*self.git.blobs(commit), *self.git.blobs("HEAD" if self.git.head() else commit)}
        kept = {path: self._read(path) for path in self.changed() if path in tracked}
        self._check_out(commit)
        return kept

    def back(self, commit: str, kept: Kept) -> None:
        """Have the worktree as it was before it went from `commit`."""
        self._check_out(commit)
        write_together(
            {str(self.root / path): data for path, data in kept.items() if data is not None}
        )
        for path, data in kept.items():
            if data is None:
                with suppress(FileNotFoundError):
                    (self.root / path).unlink()

    def _check_out(self, commit: str) -> None:
        self.git.run("checkout", "--quiet", "--force", "--detach", commit, "--")

    def _is_part(self, commit: str, of: str) -> bool:
        """Whether a commit is in the history of another."""
        if not of or self.git.call("cat-file", "-e", f"{commit}^{{commit}}").returncode != 0:
            return False
        return self.git.merge_base(commit, of) == commit

    def _is_own(self, path: str, left: Collection[str]) -> bool:
        """Whether the agent may give a changed file up: mlspec or DVC wrote it, now or once."""
        if path in left or path.endswith(("/dvc.lock", ".dvc")):
            return True
        now = (self._read(path) or b"")[:_HEAD]
        before = self.git.call("cat-file", "blob", f"HEAD:{path}").stdout[:_HEAD]
        return MARK.encode() in now or MARK.encode() in before

    def _read(self, path: str) -> bytes | None:
        try:
            return (Path(self.root) / path).read_bytes()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
