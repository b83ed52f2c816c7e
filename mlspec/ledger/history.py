"""The audit, read back: what was done, newest first."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from mlspec.ledger.entry import Entry, load_entry
from mlspec.ledger.store import Ledger


def log(ledger: Ledger, limit: int | None = None, address: str | None = None) -> list[Entry]:
    """The entries at the ledger's tip; at most `limit`, of one resource if `address` names one."""
    return list(islice(_entries(ledger, address), limit))


def last_of(ledger: Ledger, command: str) -> Entry | None:
    """The newest entry that `command` wrote."""
    return next((entry for entry in _entries(ledger, None) if entry.command == command), None)


def _entries(ledger: Ledger, address: str | None) -> Iterator[Entry]:
    for oid, commit in ledger.chain(ledger.tip):
        entry = load_entry(oid, commit)
        if address is None or entry.address == address:
            yield entry
