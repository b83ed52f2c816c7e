"""The audit, read back: what was done, newest first."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import islice

from mlspec.ledger.entry import Entry, load_entry
from mlspec.ledger.store import Ledger

_UNTOUCHED = ("refused", "invalid")
"""Outcomes of an attempt of the agent that did nothing."""


def log(
    ledger: Ledger,
    limit: int | None = None,
    address: str | None = None,
    deployments: Collection[str] = (),
) -> list[Entry]:
    """The entries at the ledger's tip; at most `limit`, of one resource if `address` names one.

    Those of a model are also of its stages, of its gates and of its `deployments`.
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
    kind, _, name = (address or "").partition(".")
    parts = (f"stage.{name}.", f"gate.{name}.") if kind == "model" else ()
    for oid, commit in ledger.chain(ledger.tip):
        entry = load_entry(oid, commit)
        if (
            address is None
            or entry.address == address
            or entry.address in deployments
            or (parts and entry.address.startswith(parts))
        ):
            yield entry
