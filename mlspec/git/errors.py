"""What Git complains about, as errors of ours; without any password that an address holds."""

from __future__ import annotations

import re

from mlspec.errors import MlspecError

_PASSWORD = re.compile(r"://[^/\s@]*@")


class GitError(MlspecError):
    """Git refused; `stderr` is what it said, in English."""

    def __init__(self, message: str, *, hint: str = "", stderr: str = "") -> None:
        super().__init__(message, hint=hint)
        self.stderr = stderr


class NotAtomic(GitError):
    """A remote that cannot move several refs at once, or none of them."""


def hide_password(text: str) -> str:
    """`text` with `***` in the place of what an address says before its host."""
    return _PASSWORD.sub("://***@", text)


def reason_of(said: str) -> str:
    """The line of what Git said that names the cause."""
    lines = [line for line in said.splitlines() if line.strip()]
    causes = [line for line in lines if line.startswith(("fatal:", "error:"))] or lines[-1:]
    return (
        causes[0].removeprefix("fatal: ").removeprefix("error: ") if causes else "no reason given"
    )
