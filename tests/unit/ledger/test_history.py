from __future__ import annotations

from mlspec.ledger.entry import Entry
from mlspec.ledger.history import last_apply, log, told_move
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


def test_the_log_of_a_model_has_all_that_belongs_to_it(ledger: Ledger) -> None:
    entry = Entry(command="apply")
    own = ("stage.m.train", "gate.m.good", "model.m", "deployment.d@here")
    for address in (*own, "stage.mm.train", "model.m-2", "deployment.e@here", "file.m"):
        ledger.record({}, entry.about(address, "run", "done"))
    found = log(ledger, address="model.m", deployments=["deployment.d@here"])
    assert [each.address for each in reversed(found)] == list(own)
    assert [each.address for each in log(ledger, address="stage.m.train")] == ["stage.m.train"]


def test_the_log_of_what_was_moved_goes_on_under_its_former_name(ledger: Ledger) -> None:
    entry = Entry(command="apply")
    for address in ("stage.a.train", "model.a"):
        ledger.record({}, entry.about(address, "run", "done"))
    ledger.record({}, entry.about("model.a", "move", "failed", told_move("model.c")))
    ledger.record({}, entry.about("model.a", "move", "done", told_move("model.b")))
    for address in ("stage.a.train", "stage.b.train"):  # another model has the name a now
        ledger.record({}, entry.about(address, "run", "done"))
    assert [found.serial for found in log(ledger, address="model.b")] == [6, 4, 3, 2, 1]
    assert log(ledger, address="model.c") == []


def test_the_last_apply_may_be_that_of_the_agent(ledger: Ledger) -> None:
    assert last_apply(ledger) is None
    partial = Entry(command="apply", selection="tag:x").about("stage.m.a", "run", "done")
    ledger.record({}, partial)
    agent = Entry(command="reconcile")
    for address, outcome in (
        ("deployment.d@here", "done"),  # mended on the way
        ("commit.123456789abc", "refused"),
        ("commit.123456789abc", "invalid"),
    ):
        ledger.record({}, agent.about(address, "apply", outcome))
        last = last_apply(ledger)
        assert last is not None
        assert last.selection == "tag:x"
    for outcome in ("applied", "rejected", "failed"):
        ledger.record({}, agent.about("commit.123456789abc", "apply", outcome))
        last = last_apply(ledger)
        assert last is not None
        assert (last.outcome, last.selection) == (outcome, "")
