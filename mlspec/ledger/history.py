"""The audit, read back: what was done, newest first."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from itertools import islice

from mlspec.ledger.entry import Entry, load_entry
from mlspec.ledger.store import Ledger

_UNTOUCHED = ("refused", "invalid")
"""Outcomes of an attempt of the agent that did nothing."""
_MOVED = re.compile(r"it is (\S+) now\b")


def told_move(now: str) -> str:
    """What the entry of a move says, so that the log of `now` finds what was before it."""
    return f"it is {now} now, with its history"


def log(
    ledger: Ledger,
    limit: int | None = None,
    address: str | None = None,
    deployments: Collection[str] = (),
) -> list[Entry]:
    """The entries at the ledger's tip; at most `limit`, of one resource if `address` names one.

    Those of a model are also of its stages, of its gates and of its `deployments`. What was moved
    has the entries of its former name too, from before that.
    """
    return list(islice(_entries(ledger, address, deployments), limit))


def last_apply(ledger: Ledger) -> Entry | None:
    """The newest entry of an apply, or of a commit that the agent applied.

    What the agent mends on the way is neither, and nor is a commit of which it did nothing.
    """
    return next(filter(_applies, _entries(ledger)), None)


def _applies(entry: Entry) -> bool:
    if entry.command == "reconcile":
        return entry.address.startswith("commit.") and entry.outcome not in _UNTOUCHED
    return entry.command == "apply"


def _entries(
    ledger: Ledger, address: str | None = None, deployments: Collection[str] = ()
) -> Iterator[Entry]:
    names, parts = {address}, _parts_of(address or "")
    for oid, commit in ledger.chain(ledger.tip):
        entry = load_entry(oid, commit)
        moved = _MOVED.match(entry.detail) if entry.action == "move" else None
        if moved and entry.outcome == "done" and moved[1] in names:
            names.add(entry.address)
            parts += _parts_of(entry.address)
        if (
            address is None
            or entry.address in names
            or entry.address in deployments
            or (parts and entry.address.startswith(parts))
        ):
            yield entry


def _parts_of(address: str) -> tuple[str, ...]:
    """What addresses of stages and gates begin with, if it is a model's."""
    kind, _, name = address.partition(".")
    return (f"stage.{name}.", f"gate.{name}.") if kind == "model" else ()
