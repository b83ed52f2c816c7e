"""A ledger of an older schema is read, and taken along by the first record; a newer one is not."""

from __future__ import annotations

from typing import Any

import pytest

import mlspec.ledger.snapshot
from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger import paths
from mlspec.ledger.check import LedgerCheck
from mlspec.ledger.entry import Entry
from mlspec.ledger.migrations import MIGRATIONS
from mlspec.ledger.records import ModelState
from mlspec.ledger.state import load_recorded
from mlspec.ledger.store import Ledger

ENTRY = Entry(command="apply")


def to_second(path: str, content: Any) -> Any:
    """The first schema called it `is_retired`."""
    if path.endswith("/state.json"):
        content["retired"] = content.pop("is_retired")
    return content


class Old(ModelState):
    """A state as an mlspec of the first schema wrote it."""

    def model_dump(self, **_options: Any) -> dict[str, Any]:
        content = super().model_dump()
        return {**{k: v for k, v in content.items() if k != "retired"}, "is_retired": self.retired}


@pytest.fixture
def old(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """What an older mlspec left, for one whose schema is the second."""
    for model in ("risk", "churn"):
        ledger.record({paths.state_path(model): Old(retired=True)}, ENTRY)
    monkeypatch.setattr(mlspec.ledger.snapshot, "SCHEMA", 2)
    monkeypatch.setitem(MIGRATIONS, 1, to_second)
    return Ledger(Git(ledger.git.root))


def test_it_is_read_as_it_would_be_written_now(old: Ledger) -> None:
    state = load_recorded(old).model_state("risk")
    assert state is not None
    assert state.retired
    assert LedgerCheck(Git(old.git.root)).is_good(old.tip)
    assert old.snapshot.schema == 1


def test_the_first_record_takes_all_along(old: Ledger) -> None:
    old.record({paths.state_path("risk"): ModelState()}, ENTRY)
    now = Ledger(Git(old.git.root))
    assert now.snapshot.schema == 2
    states = {name: load_recorded(now).model_state(name) for name in ("risk", "churn")}
    assert {name: state and state.retired for name, state in states.items()} == {
        "risk": False,
        "churn": True,
    }
    assert b"is_retired" not in (now.read(paths.state_path("churn")) or b"")
    assert now.serial == 3
    assert LedgerCheck(Git(now.git.root)).is_good(now.tip)


def test_an_older_mlspec_writes_nothing_over_it(
    old: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tip = old.record({}, ENTRY)
    monkeypatch.setattr(mlspec.ledger.snapshot, "SCHEMA", 1)
    older = Ledger(Git(old.git.root))
    with pytest.raises(MlspecError, match="has schema 2; this mlspec reads up to 1"):
        older.record({}, ENTRY)
    assert old.reload() == tip


def test_a_schema_that_nothing_leads_from(old: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(MIGRATIONS, 1)
    with pytest.raises(MlspecError, match="from schema 1 to 2"):
        old.read(paths.state_path("risk"))


def test_every_schema_leads_to_the_present_one() -> None:
    assert sorted(MIGRATIONS) == list(range(1, mlspec.ledger.snapshot.SCHEMA))
