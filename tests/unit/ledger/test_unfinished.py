"""An apply that was killed, or asked to end, is told by the next one: once."""

from __future__ import annotations

from contextlib import suppress

import pytest

from mlspec.errors import Interrupted
from mlspec.ledger.entry import Entry
from mlspec.ledger.history import log
from mlspec.ledger.store import Ledger
from mlspec.ledger.unfinished import at_work, journal_file, load_unfinished, settle_unfinished

ENTRY = Entry(command="apply", plan="sha256:1", commit="c" * 40)


def kill(ledger: Ledger) -> bytes:
    """What an apply that is killed leaves: its line in the journal."""
    with at_work(ledger, ENTRY):
        left = journal_file(ledger.git).read_bytes()
    journal_file(ledger.git).write_bytes(left)
    return left


def test_one_that_ends_leaves_nothing(ledger: Ledger) -> None:
    with at_work(ledger, ENTRY):
        assert len(load_unfinished(ledger.git)) == 1
    with suppress(KeyError), at_work(ledger, ENTRY):
        raise KeyError
    assert load_unfinished(ledger.git) == []
    assert log(ledger) == []


def test_one_that_was_killed_is_told_once(ledger: Ledger) -> None:
    left = kill(ledger)
    with at_work(ledger, ENTRY):
        pass
    [entry] = log(ledger)
    assert (entry.command, entry.action, entry.outcome) == ("apply", "interrupt", "ended")
    assert "did not end by itself" in entry.detail
    assert entry.plan == ENTRY.plan
    journal_file(ledger.git).write_bytes(left)  # that one was killed before it could take it away
    settle_unfinished(ledger)
    assert len(log(ledger)) == 1
    assert load_unfinished(ledger.git) == []


def test_one_that_was_asked_to_end_is_told(ledger: Ledger) -> None:
    with pytest.raises(Interrupted), at_work(ledger, ENTRY):
        raise Interrupted(15)
    settle_unfinished(ledger)
    assert [entry.action for entry in log(ledger)] == ["interrupt"]


@pytest.mark.parametrize("half", [b"", b'[{"id": "1', b"[1]", b'[{"id": "1"}]'])
def test_one_that_was_killed_while_it_wrote_itself_down(ledger: Ledger, half: bytes) -> None:
    journal_file(ledger.git).write_bytes(half)
    settle_unfinished(ledger)
    assert log(ledger) == []
