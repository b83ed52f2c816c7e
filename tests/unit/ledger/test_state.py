"""Typed reading: lazily, each record once, and with a name for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlspec.errors import MlspecError
from mlspec.ledger import paths
from mlspec.ledger.entry import Entry
from mlspec.ledger.records import (
    Candidate,
    Deployed,
    File,
    Imported,
    ModelState,
    Record,
    Run,
    Verdict,
    Version,
)
from mlspec.ledger.state import Recorded, load_recorded
from mlspec.ledger.store import Ledger

ENTRY = Entry(command="apply")
FP = "ab" * 32
VERDICT = Verdict(gate="good", metric="auc", level="fail", result="pass", value=0.9, detail="ok")


def version(number: int) -> Version:
    return Version(
        model="risk",
        number=number,
        fingerprint=FP,
        stages={"train": FP},
        artifact=File(path="model.onnx", format="onnx", md5="0" * 32, size=7),
        signature={"columns": [{"name": "age", "type": "number"}]},
        metrics={"auc": 0.1 + 0.2},
        verdicts=(VERDICT,),
        commit="c0ffee",
    )


def deployed(target: str) -> Deployed:
    return Deployed(
        deployment="scores",
        target=target,
        model="risk",
        version=1,
        release="sha256:1",
        status="serving",
        place="here",
    )


RECORDS: Mapping[str, Record] = {
    paths.state_path("risk"): ModelState(runs={"train": FP}, candidate=FP, version=10),
    paths.run_path("risk", "train", FP): Run(
        stage="train", fingerprint=FP, entry={"cmd": "x"}, seconds=1.5, commit="c0ffee"
    ),
    paths.candidate_path("risk", FP): Candidate(
        fingerprint=FP, stages={"train": FP}, status="accepted", version=1, commit="c0ffee"
    ),
    paths.version_path("risk", 9): version(9),
    paths.version_path("risk", 10): version(10),
    paths.deployment_path("scores", "production"): deployed("production"),
    paths.deployment_path("scores", "local"): deployed("local"),
    paths.dataset_path("loans"): Imported(dataset="loans", source=None, md5="0" * 32, size=1),
}


def in_git(ledger: Ledger) -> Recorded:
    ledger.record(RECORDS, ENTRY)
    return load_recorded(ledger)


@pytest.fixture(params=[True, False], ids=["git", "dict"])
def recorded(request: pytest.FixtureRequest, ledger: Ledger) -> Recorded:
    return in_git(ledger) if request.param else Recorded.of(RECORDS)


def test_everything_reads_back(recorded: Recorded) -> None:
    assert recorded.models() == ("risk",)
    assert recorded.model_state("risk") == RECORDS[paths.state_path("risk")]
    run = RECORDS[paths.run_path("risk", "train", FP)]
    assert recorded.run("risk", "train", FP) == recorded.latest_run("risk", "train") == run
    assert recorded.candidate("risk", FP) == RECORDS[paths.candidate_path("risk", FP)]
    assert recorded.version("risk", 9) == version(9)
    assert [found.number for found in recorded.versions("risk")] == [9, 10]
    assert recorded.deployed("deployment.scores@local") == deployed("local")
    assert list(recorded.deployments().items()) == [
        ("deployment.scores@local", deployed("local")),
        ("deployment.scores@production", deployed("production")),
    ]
    assert recorded.imported("loans") == RECORDS[paths.dataset_path("loans")]


def test_what_is_not_there(recorded: Recorded) -> None:
    assert recorded.model_state("other") is None
    assert recorded.run("risk", "train", "cd" * 32) is None
    assert recorded.latest_run("risk", "split") is None
    assert recorded.latest_run("other", "train") is None
    assert recorded.version("risk", 11) is None
    assert recorded.versions("other") == ()
    assert recorded.deployed("deployment.scores@staging") is None
    assert recorded.imported("other") is None


def test_an_empty_ledger(ledger: Ledger) -> None:
    recorded = load_recorded(ledger)
    assert recorded.models() == ()
    assert recorded.deployments() == {}
    assert recorded.model_state("risk") is None


def test_a_record_is_read_once_and_the_rest_not_at_all(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_git(ledger)
    recorded = load_recorded(Ledger(ledger.git))
    asked: list[str] = []
    get = ledger.git.objects.get
    monkeypatch.setattr(ledger.git.objects, "get", lambda name: asked.append(name) or get(name))
    first = recorded.model_state("risk")
    blob = ledger.git.run("rev-parse", f"{ledger.tip}:{paths.state_path('risk')}")
    assert asked.count(blob) == 1
    assert len(asked) <= 7  # the commit, ledger.json, four folders and the file
    asked.clear()
    assert recorded.model_state("risk") is first
    assert asked == []


def test_it_stays_as_of_one_commit(ledger: Ledger) -> None:
    recorded = in_git(ledger)
    ledger.record({paths.state_path("risk"): ModelState(version=11)}, ENTRY)
    state = recorded.model_state("risk")
    assert state is not None
    assert state.version == 10


class Odd(Record):
    schema_of_the_future: int = 1


@pytest.mark.parametrize("wrong", [Odd(), version(1)])
def test_a_record_that_is_not_known(ledger: Ledger, wrong: Record) -> None:
    ledger.record({}, ENTRY)
    ledger.record({paths.state_path("risk"): wrong}, ENTRY)
    with pytest.raises(MlspecError) as raised:
        load_recorded(ledger).model_state("risk")
    assert paths.state_path("risk") in str(raised.value)
    assert "serial 2" in str(raised.value)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
RUNS = st.builds(
    Run,
    stage=TEXT,
    fingerprint=st.just(FP),
    entry=st.dictionaries(TEXT, JSON, max_size=4),
    metrics=st.dictionaries(TEXT, NUMBERS, max_size=3),
    seconds=NUMBERS,
    commit=TEXT,
    dirty=st.booleans(),
)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(run=RUNS)
def test_reading_gives_what_was_written(ledger: Ledger, run: Run) -> None:
    ledger.record({paths.run_path("risk", "train", FP): run}, ENTRY)
    assert load_recorded(Ledger(ledger.git)).run("risk", "train", FP) == run
