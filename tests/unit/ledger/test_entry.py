from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger.entry import Entry, load_entry, make_entry, render_message, run_url
from mlspec.ledger.objects import Commit

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
ENTRIES = st.builds(
    Entry,
    command=TEXT,
    address=TEXT,
    action=TEXT,
    outcome=TEXT,
    detail=TEXT,
    commit=TEXT,
    dirty=st.booleans(),
    plan=TEXT,
    host=TEXT,
    run_url=TEXT,
    serial=st.integers(0, 2**53),
)


def committed(message: str) -> Commit:
    return Commit("tree", "", "Ada", "ada@example.org", 1_700_000_000, message)


@given(ENTRIES)
def test_a_message_reads_back_and_has_no_control_characters(entry: Entry) -> None:
    message = render_message(entry)
    assert message.replace("\n", "").isprintable()
    assert message.count("\n") == 3
    loaded = load_entry("c0ffee", committed(message))
    assert loaded.model_copy(update={"who": "", "when": ""}) == entry
    assert (loaded.who, loaded.when) == ("Ada <ada@example.org>", "2023-11-14T22:13:20Z")


def test_the_message_is_a_line_for_people_and_json() -> None:
    entry = Entry(command="apply", plan="sha256:1").about("model.risk", "register", "done", "v3")
    subject, body = render_message(entry).split("\n\n")
    assert subject == "apply model.risk: register done"
    assert json.loads(body)["plan"] == "sha256:1"
    assert render_message(Entry(command="apply")).startswith("apply\n")


def test_an_entry_from_before_there_were_selections_is_of_everything() -> None:
    older = {"command": "apply", "address": "model.risk", "action": "register", "serial": 7}
    entry = load_entry("c0ffee", committed(f"apply model.risk\n\n{json.dumps(older)}\n"))
    assert (entry.serial, entry.selection) == (7, "")


def test_bytes_that_are_no_text_do_not_break_a_message() -> None:
    entry = Entry(command="apply").about("model.risk", "run", "failed", "caf\udce9\x1b[31m")
    message = render_message(entry)
    assert "\x1b" not in message
    assert load_entry("c0ffee", committed(message)).detail == "caf?\x1b[31m"


@pytest.mark.parametrize("message", ["", "By hand\n", "x\n\n[]\n", 'x\n\n{"command":1}\n'])
def test_a_commit_of_another_kind(message: str) -> None:
    with pytest.raises(MlspecError, match="c0ffee is not an entry of mlspec"):
        load_entry("c0ffee", committed(message))


def test_an_impossible_time() -> None:
    commit = committed(render_message(Entry(command="apply")))._replace(seconds=10**18)
    with pytest.raises(MlspecError, match="not an entry"):
        load_entry("c0ffee", commit)


def test_where_the_run_is_shown() -> None:
    github = {
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_REPOSITORY": "team/models",
        "GITHUB_RUN_ID": "7",
    }
    assert run_url(github) == "https://github.example/team/models/actions/runs/7"
    assert run_url({"CI_JOB_URL": "https://gitlab.example/j/7"}) == "https://gitlab.example/j/7"
    assert run_url({}) == ""


def test_an_entry_knows_its_source(git: Git) -> None:
    assert make_entry(git, "apply").commit == ""
    (git.root / "file").write_text("")
    assert make_entry(git, "apply", "sha256:1").dirty
    git.run("add", "file")
    git.run("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "Commit")
    entry = make_entry(git, "apply", "sha256:1")
    assert (entry.commit, entry.dirty, entry.plan) == (git.head(), False, "sha256:1")
