"""The repository as other machines reach it. Comes in: this checkout. Goes out: an address of Git,
without credentials, that has the commit; or an error that says what to commit or push.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.git import Git, GitError
from mlspec.git.errors import hide_password, reason_of
from mlspec.spec.models import Executor

PATIENCE = 60.0
"""Seconds for the remote to say what it has."""


class Origin:
    """Where the commits of one checkout can be fetched; each question to the remote once."""

    def __init__(self, git: Git) -> None:
        self._git = git
        self._check_shared = cache(self._ask_shared)

    def address(self, executor: str, section: Executor) -> str:
        """The address that workers clone from."""
        if section.repository is not None:
            return section.repository
        name = self._git.remote or "origin"
        done = self._git.call("remote", "get-url", name)
        url = done.stdout.decode("utf-8", "surrogateescape").strip()
        if done.returncode or not url:
            raise MlspecError(
                f"the executor {executor} needs the repository's address, and Git has no remote",
                hint=f"add one (git remote add origin ADDRESS), or set "
                f"executors.{executor}.repository",
            )
        return _absolute(_without_credentials(url), self._git.toplevel)

    def check_shared(self, commit: str, address: str) -> None:
        """Raise unless workers can get `commit` from `address`."""
        if not commit:
            raise MlspecError(
                "there is no commit yet, and workers take the code from one",
                hint="commit and push: git add --all && git commit && git push",
            )
        self._check_shared(commit, address)

    def check_committed(self, stage: str, paths: Iterable[str]) -> None:
        """Raise if any of `paths`, which `stage` reads, is not in the commit as it is here."""
        specs = [f":(literal){path}" for path in paths]
        if not specs:
            return
        listed = self._git.run(
            "status",
            "--porcelain",
            "-z",
            "--ignored",
            "--untracked-files=all",
            "--no-renames",
            "--",
            *specs,
        )
        changed = sorted({line[3:] for line in listed.split("\0") if line})
        if changed:
            more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
            raise MlspecError(
                f"{stage} runs from the commit, and these differ from it: "
                f"{', '.join(changed[:5])}{more}",
                hint="commit and push them: git add --all && git commit && git push",
            )

    def _ask_shared(self, commit: str, address: str) -> None:
        if self._git.run("for-each-ref", "--count=1", "--contains", commit, "refs/remotes/"):
            return
        done = self._git.call("ls-remote", "--quiet", "--", address, timeout=PATIENCE)
        if done.returncode:
            reason = reason_of(hide_password(done.stderr.decode("utf-8", "backslashreplace")))
            raise RemoteUnreachable(
                f"the repository that workers clone, {hide_password(address)}, cannot be reached "
                f"from here: {reason}",
                hint="try again, or mend the address",
            )
        tips = {line.split("\t")[0] for line in done.stdout.decode().splitlines()}
        if commit in tips or any(self._comes_before(commit, tip) for tip in tips):
            return
        raise MlspecError(
            f"the commit {commit[:9]} is not in {hide_password(address)}, where workers get it",
            hint="push it: git push",
        )

    def _comes_before(self, commit: str, tip: str) -> bool:
        try:
            return self._git.call("merge-base", "--is-ancestor", commit, tip).returncode == 0
        except GitError:
            return False


def _without_credentials(url: str) -> str:
    """The address without a password or a token: workers have their own."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    kept = user.partition(":")[0] if parts.scheme == "ssh" else ""
    return urlunsplit(parts._replace(netloc=f"{kept}{at}{host}" if kept else host))


def _absolute(url: str, root: Path) -> str:
    """A path that counts from the checkout, as the path that it is."""
    return str((root / url).resolve()) if url.startswith(("./", "../")) else url
