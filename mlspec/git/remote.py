"""Another repository, which is asked over the network or in a folder: what it has, and may take."""

from __future__ import annotations

import random
import re
import subprocess
import time
from collections.abc import Iterable, Mapping

from mlspec.errors import RemoteUnreachable
from mlspec.git.errors import GitError, NotAtomic, hide_password, reason_of
from mlspec.git.repository import Git

_LOST_RACES = (
    "stale info",
    "fetch first",
    "non-fast-forward",
    "lock ref",
    "failed to update ref",
    "incorrect old value",
    "reference already exists",
    "atomic",
)
_ONLY_THAT = (
    "--quiet",
    "--no-tags",
    "--no-write-fetch-head",
    "--recurse-submodules=no",
    "--refmap=",  # a mirror's `+refs/*:refs/*` would put the remote's ledger over the one here
)
"""Of a fetch: no other ref moves than the one that is asked for."""


class Remote:
    """The remote of `git` with this name or address; what it does not answer raises
    :class:`RemoteUnreachable`."""

    def __init__(self, git: Git, name: str) -> None:
        self.git = git
        self.name = name

    def fetch(self, ref: str, into: str) -> str:
        """Bring `ref` of the remote to the local ref `into`; the commit, or none if it has none."""
        refspec = f"+{ref}:{into}"
        for delay in (0.02, 0.1, 0.5, 0):
            done = self._ask("fetch", *_ONLY_THAT, "--", self.name, refspec)
            if b"cannot lock ref" not in done.stderr:
                break
            if delay == 0.1:
                self.git.break_lock(into)
            time.sleep(delay * random.uniform(0.5, 1.5))  # another process fetches just now
        if b"couldn't find remote ref" in done.stderr:
            self.git.run("update-ref", "-d", into)
            return ""
        if done.returncode != 0:
            raise self._unreachable(self.git.failure("fetch", done.stderr))
        return self.git.refs(into)[into]

    def tips(self) -> dict[str, str]:
        """The branches and tags that the remote has now: what each points to, by name."""
        done = self._ask("ls-remote", "--quiet", "--heads", "--tags", "--", self.name)
        if done.returncode != 0:
            raise self._unreachable(self.git.failure("ls-remote", done.stderr))
        rows = (line.split("\t", 1) for line in done.stdout.decode().splitlines())
        return {name.removeprefix("refs/"): oid for oid, name in rows}

    def push(self, commit: str, ref: str, *, expected: str) -> str:
        """Make `ref` of the remote `commit` if it is `expected` there; why not, or `""` if done."""
        return self.push_together({ref: (commit, expected)}).get(ref, "")

    def push_together(self, updates: Mapping[str, tuple[str, str]]) -> Mapping[str, str]:
        """Move refs of the remote, all or none: each to a commit if it is what is expected there.

        `updates` are these two by ref, `""` for an absent one. Why not, by ref, or nothing if it
        was done. Raises :class:`NotAtomic` if the remote can move only one at a time.
        """
        options = ("--porcelain", "--no-verify", "--no-follow-tags", "--recurse-submodules=no")
        leases = [f"--force-with-lease={ref}:{old}" for ref, (_, old) in updates.items()]
        refs = [f"{new}:{ref}" for ref, (new, _) in updates.items()]
        atomic = ["--atomic"] * (len(updates) > 1)
        mirror = f"remote.{self.name}.mirror"  # it would push all refs or none, and deletes
        setting = ("-c", f"{mirror}=false") if mirror in self.git.config else ()
        push = (*setting, "push", *options, *atomic, *leases, "--", self.name, *refs)
        done = self._ask(*push)
        if b"does not support --atomic" in done.stderr:
            raise NotAtomic(f"the Git remote {hide_password(self.name)!r} has no atomic push")
        said = done.stdout.decode("utf-8", "backslashreplace")
        refused = dict(re.findall(r"^!\t.*:(.*)\t(.*)$", said, re.MULTILINE))
        if done.returncode != 0 and not refused:
            raise self._unreachable(self.git.failure("push", done.stderr))
        if b"File exists" in done.stderr:
            self._break_locks(updates)
        return refused

    def _break_locks(self, refs: Iterable[str]) -> None:
        """Take the locks of refs away that a killed Git left, at a remote that is a folder here.

        At any other, the Git that moves its refs does not end with the one that asks for it.
        """
        url = self.git.call("ls-remote", "--get-url", "--", self.name).stdout.decode().strip()
        folder = self.git.root / url.removeprefix("file://")
        if folder.is_dir():
            there = Git(folder)
            for ref in refs:
                there.break_lock(ref)

    def refs(self, *refs: str) -> Mapping[str, str]:
        """What these refs are at the remote, by whole name; absent ones are left out."""
        done = self._ask("ls-remote", "--quiet", "--", self.name, *refs)
        if done.returncode != 0:
            raise self._unreachable(self.git.failure("ls-remote", done.stderr))
        rows = (line.split("\t", 1) for line in done.stdout.decode("utf-8", "replace").splitlines())
        return {name: oid for oid, name in rows if name in refs}

    def fetch_objects(self, ref: str) -> None:
        """Have what `ref` of the remote names, if it is there; no ref of it is made here."""
        done = self._ask("fetch", *_ONLY_THAT, "--", self.name, ref)
        if done.returncode != 0 and b"couldn't find remote ref" not in done.stderr:
            raise self._unreachable(self.git.failure("fetch", done.stderr))

    def _ask(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return self.git.call(*arguments, timeout=self.git.patience)
        except GitError as error:
            raise self._unreachable(error) from error

    def _unreachable(self, error: GitError) -> RemoteUnreachable:
        name = hide_password(self.name)
        message = (
            f"the Git remote {name!r} cannot be reached: {reason_of(error.stderr or str(error))}"
        )
        hint = "try again, or work without it: git config mlspec.remote ''"
        return RemoteUnreachable(message, hint=hint)


def is_lost_race(why: str) -> bool:
    """Whether a push was refused, for the reason `why`, because another one was quicker."""
    return any(reason in why for reason in _LOST_RACES)
