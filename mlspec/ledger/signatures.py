"""Whether the commits of a ledger are signed by whom Git trusts here.

A ledger whose writers sign (`commit.gpgsign`) cannot be written anew by anybody else: a signature
stands for all commits before it, so the last must be good, and after the first no one may lack.
Git itself looks at them, with the keys that it is set up with, at some 20 ms each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlspec.git import Git
from mlspec.ledger.check import Problem

_SIGNED = re.compile(rb"^gpgsig(-sha256)? ", re.MULTILINE)
_GOOD = frozenset("GXY")
"""As Git's `%G?` says it; a key that expired was good at its time."""
_REASONS = {
    "": "is not signed",
    "B": "has a bad signature: it is not what was signed",
    "R": "is signed with a key that was revoked",
    "U": "is signed by somebody whom Git does not trust here",
}
_UNKNOWN = "has a signature that cannot be checked here"
_LATEST = 100
"""Signatures that are looked at unless all are asked for: who rewrites has to rewrite the last."""
_NOT_ASKED = "G"


@dataclass(frozen=True, slots=True)
class _Signed:
    """A commit of the ledger, the first being 1; `verdict` is Git's, none without a signature."""

    number: int
    oid: str
    verdict: str


def wants_signatures(git: Git) -> bool:
    """Whether a ledger is to be signed: `mlspec.signed`, or if the user signs and can verify."""
    told = git.config.get("mlspec.signed", "").lower()
    if told:
        return told in {"true", "yes", "on", "1"}
    return git.signs and "gpg.ssh.allowedsignersfile" in git.config


def check_signatures(git: Git, tip: str, *, every: bool) -> Iterator[Problem]:
    """What is wrong with the signatures of a chain of commits that is whole.

    Each from the first signed one on must have one; all are looked at, or, unless `every` one is
    asked for, the latest.
    """
    commits = _load_commits(git, tip, every=every)
    first = next((each.number for each in commits if each.verdict), len(commits))
    wrong: dict[str, list[_Signed]] = {}
    for each in commits[first - 1 :]:
        if each.verdict not in _GOOD:
            wrong.setdefault(_REASONS.get(each.verdict, _UNKNOWN), []).append(each)
    for reason, found in wrong.items():
        oldest, more = found[0], len(found) - 1
        others = f", and {more} more since" if more else ""
        message = f"serial {oldest.number}, {oldest.oid}, {reason}{others}"
        yield Problem("signature", oldest.oid, message, _hint(reason))


def _hint(reason: str) -> str:
    if reason == _UNKNOWN:
        return "tell Git whom to trust: git config gpg.ssh.allowedSignersFile FILE, or import keys"
    if reason == _REASONS["U"]:
        return "if you do, tell Git: gpg.ssh.allowedSignersFile, or the trust of a GPG key"
    return "look at it: git log --show-signature refs/mlspec/ledger; a clone may have what it was"


def _load_commits(git: Git, tip: str, *, every: bool) -> list[_Signed]:
    """All of a chain, from the first."""
    listed = git.run("rev-list", "--reverse", tip).splitlines()
    signed = [
        found.oid
        for found in git.objects.get_many(listed)
        if _SIGNED.search(found.data.partition(b"\n\n")[0])
    ]
    verdicts = dict.fromkeys(signed, _NOT_ASKED)
    if signed:
        verdicts |= _ask_git(git, signed if every else signed[-_LATEST:])
    return [
        _Signed(number, oid, verdicts.get(oid, "")) for number, oid in enumerate(listed, start=1)
    ]


def _ask_git(git: Git, oids: list[str]) -> dict[str, str]:
    """Git's verdict on each; one that Git could not come to, or of no kind known, is `E`."""
    options = ("--no-walk=unsorted", "--stdin", "--format=%H %G?")
    said = git.run("log", *options, stdin="".join(f"{oid}\n" for oid in oids).encode())
    said_of = dict(line.split(" ", 1) for line in said.splitlines())
    return {oid: said_of.get(oid, "E").replace("N", "E") for oid in oids}
