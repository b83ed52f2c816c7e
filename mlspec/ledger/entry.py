"""The audit: what a commit of the ledger says about itself.

Comes in and goes out: an :class:`Entry`. As a commit's message it is a line for people, an empty
line, and the canonical JSON of what Git does not know. Who and when are the commit's author.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime

from mlspec.errors import MlspecError
from mlspec.git import Git, Identity
from mlspec.ledger.objects import Commit
from mlspec.ledger.records import Record
from mlspec.plan import canonical_json

_LINE = 120
_IN_THE_COMMIT = {"who", "when"}


class Entry(Record):
    """One thing that was done. `record` fills in `serial`, `who` and `when`.

    `command` did it (`apply`), carrying out the plan with the digest `plan`, from the source
    `commit`. The plan was of what `selection` stands for, or of everything if there is none.
    `action` was done to `address` with this `outcome`; `detail` is for people.
    """

    command: str
    address: str = ""
    action: str = ""
    outcome: str = ""
    detail: str = ""
    commit: str = ""
    dirty: bool = False
    plan: str = ""
    selection: str = ""
    host: str = ""
    run_url: str = ""
    serial: int = 0
    who: str = ""
    when: str = ""

    def about(self, address: str, action: str, outcome: str, detail: str = "") -> Entry:
        """The same command's entry for one of its steps."""
        step = {"address": address, "action": action, "outcome": outcome, "detail": detail}
        return self.model_copy(update=step)


def make_entry(git: Git, command: str, plan: str = "", selection: str = "") -> Entry:
    """An entry for what `command` is about to do here; complete it with :meth:`Entry.about`."""
    return Entry(
        command=command,
        plan=plan,
        selection=selection,
        commit=git.head(),
        dirty=git.dirty(),
        host=os.uname().nodename,
        run_url=run_url(os.environ),
    )


def run_url(environ: Mapping[str, str]) -> str:
    """Where the CI job that runs this is shown; none outside of GitHub's and GitLab's CI."""
    server, repository = environ.get("GITHUB_SERVER_URL"), environ.get("GITHUB_REPOSITORY")
    run = environ.get("GITHUB_RUN_ID")
    if server and repository and run:
        return f"{server}/{repository}/actions/runs/{run}"
    return environ.get("CI_JOB_URL", "")


def render_message(entry: Entry) -> str:
    """The commit message of an entry; without control characters, whatever the names are."""
    subject = f"{entry.command} {entry.address}".strip()
    summary = f"{subject}: {entry.action} {entry.outcome}".rstrip(": ")
    body = canonical_json(entry.model_dump(exclude=_IN_THE_COMMIT))
    return f"{_printable(summary)[:_LINE]}\n\n{_printable(body)}\n"


def load_entry(oid: str, commit: Commit) -> Entry:
    """The entry that a commit holds."""
    body = commit.message.partition("\n\n")[2]
    try:
        entry = Entry.model_validate_json(body)
        when = iso_time(commit.seconds)
    except (ValueError, OverflowError, OSError) as error:
        raise MlspecError(
            f"the ledger's commit {oid} is not an entry of mlspec",
            hint=f"look at it: git show {oid}",
        ) from error
    who = str(Identity(commit.name, commit.email))
    return entry.model_copy(update={"who": who, "when": when})


def iso_time(seconds: float) -> str:
    """A time in UTC, to the second: `2026-01-31T12:00:00Z`."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _printable(text: str) -> str:
    """`text` with every character that does not show written as JSON would escape it."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    # What is left of bytes that are not UTF-8 has no place in JSON: it becomes a question mark.
    units = char.encode("utf-16-be", "replace")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))
