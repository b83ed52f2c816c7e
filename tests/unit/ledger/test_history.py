from __future__ import annotations

from mlspec.ledger.entry import Entry
from mlspec.ledger.history import log
from mlspec.ledger.store import Ledger


def test_newest_first_limited_and_by_address(ledger: Ledger) -> None:
    entry = Entry(command="apply", plan="sha256:1")
    for number in range(6):
        ledger.record({}, entry.about(f"model.m{number % 2}", "register", "done", str(number)))
    assert [found.serial for found in log(ledger)] == [6, 5, 4, 3, 2, 1]
    assert [found.detail for found in log(ledger, 2)] == ["5", "4"]
    assert [found.detail for found in log(ledger, 2, "model.m0")] == ["4", "2"]
    assert log(ledger, 5, "model.m9") == []


def test_before_the_first_record(ledger: Ledger) -> None:
    assert log(ledger, 10) == []
