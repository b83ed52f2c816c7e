"""Whether approvals are by whom they name: who recorded each, and with whose signature.

A name in Git is a claim. What is signed is more: then Git says whose key it was.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mlspec.git import Git
from mlspec.ledger.check import Problem
from mlspec.ledger.objects import Objects
from mlspec.ledger.paths import APPROVALS
from mlspec.ledger.records import Approval

_ADDRESS = re.compile(r"<([^<>]+)>\s*$")


@dataclass(frozen=True, slots=True)
class _Given:
    """An approval, and the commit of the ledger that brought it."""

    path: str
    oid: str
    by: str
    author: str


def check_approvals(git: Git, tip: str, *, signed: bool) -> Iterator[Problem]:
    """Approvals that others recorded than they name or, if that is asked for, that others signed.

    The ledger is whole, and what is signed has good signatures: others look at that.
    """
    given = [*_find_given(Objects(git), tip)]
    for each in given:
        if each.by != each.author:
            message = f"{each.path} names {each.by}, and {each.author} recorded it in {each.oid}"
            yield Problem("approval", each.path, message, _hint(each))
    if not signed:
        return
    signers = _signers(git, [each.oid for each in given])
    for each in given:
        signer = signers.get(each.oid, "")
        if signer != each.by:
            who = f"{signer} signed it" if signer else "nobody signed it whom Git knows"
            message = f"{each.path} names {each.by}, and {who}, in {each.oid}"
            yield Problem("approval", each.path, message, _hint(each))


def _find_given(objects: Objects, tip: str) -> Iterator[_Given]:
    oid = tip
    while oid:
        commit = objects.commit(oid)
        before = objects.commit(commit.parent).tree if commit.parent else ""
        old, new = (_folder(objects, tree) for tree in (before, commit.tree))
        if old != new:
            for path, blob in sorted(objects.changes(old, new, f"{APPROVALS}/")):
                if blob:
                    approval = Approval.model_validate_json(objects.blob(blob))
                    yield _Given(path, oid, approval.by.lower(), commit.email.lower())
        oid = commit.parent


def _folder(objects: Objects, tree: str) -> str:
    """The id of the folder of approvals; none if there is none."""
    node = objects.tree(tree).get(APPROVALS) if tree else None
    return node.oid if node is not None and node.folder else ""


def _signers(git: Git, oids: list[str]) -> dict[str, str]:
    """By commit, the address that Git knows the key by that signed it; none of others."""
    if not oids:
        return {}
    options = ("--no-walk=unsorted", "--stdin", "--format=%H %GS")
    said = git.run("log", *options, stdin="".join(f"{oid}\n" for oid in oids).encode())
    named = (line.partition(" ") for line in said.splitlines())
    return {oid: _address(signer) for oid, _, signer in named}


def _address(signer: str) -> str:
    """Of `Ada <ada@example.org>`, as OpenPGP has it, or of an SSH key's `ada@example.org`."""
    found = _ADDRESS.search(signer)
    return (found[1] if found else signer).strip().lower()


def _hint(each: _Given) -> str:
    return f"ask them; if it is not theirs, undo what it led to: git show {each.oid}"
