"""One ledger, many clones: what one publishes another plans from, and no record is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mlspec.ledger.store
from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.git import Git, Remote
from mlspec.ledger.entry import Entry
from mlspec.ledger.history import log
from mlspec.ledger.paths import deployment_path, run_path, state_path
from mlspec.ledger.records import Deployed, ModelState, Run
from mlspec.ledger.state import load_recorded
from mlspec.ledger.store import FETCHED, REF, Ledger, LedgerMoved

APPLY = Entry(command="apply")

WRITE = """
import sys
from pathlib import Path
from mlspec.git import Git
from mlspec.ledger.entry import Entry
from mlspec.ledger.paths import state_path
from mlspec.ledger.records import ModelState
from mlspec.ledger.store import Ledger
ledger = Ledger(Git(Path(sys.argv[1])))
for number in range(5):
    ledger.sync()
    ledger.record({state_path(sys.argv[2]): ModelState(version=number)}, Entry(command="apply"))
    ledger.publish()
"""


@pytest.fixture(autouse=True)
def nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where nobody has set up Git."""
    (tmp_path / "home").mkdir()
    for name in [name for name in os.environ if name.startswith(("GIT_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)


@pytest.fixture
def remote(tmp_path: Path) -> Git:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "remote.git"], check=True)
    return Git(tmp_path / "remote.git")


def clone(remote: Git, name: str) -> Ledger:
    root = remote.root.parent / name
    subprocess.run(["git", "clone", "--quiet", remote.root, root], check=True, capture_output=True)
    return Ledger(Git(root))


def write(ledger: Ledger, model: str, version: int) -> str:
    return ledger.record({state_path(model): ModelState(version=version)}, APPLY)


def versions(ledger: Ledger) -> dict[str, int | None]:
    recorded = load_recorded(ledger)
    states = {model: recorded.model_state(model) for model in recorded.models()}
    return {model: state.version for model, state in states.items() if state}


def test_a_fresh_clone_plans_from_the_ledger(remote: Git) -> None:
    one = clone(remote, "one")
    tip = write(one, "risk", 1)
    assert one.publish() == tip
    assert remote.refs(REF) == {REF: tip}
    two = clone(remote, "two")
    assert two.tip == ""
    assert two.ensure_local() == tip
    assert versions(two) == {"risk": 1}


def test_a_remote_without_a_ledger(remote: Git) -> None:
    ledger = clone(remote, "one")
    assert ledger.ensure_local() == ledger.sync() == ledger.publish() == ""
    tip = write(ledger, "risk", 1)
    assert ledger.sync() == tip
    assert remote.refs(REF) == {}


def test_looking_goes_forward_and_joins_nothing(remote: Git) -> None:
    one, two = clone(remote, "one"), clone(remote, "two")
    assert two.refresh(pytest.fail) == ""
    write(one, "risk", 1)
    assert two.refresh(pytest.fail) == ""
    tip = one.publish()
    assert one.refresh(pytest.fail) == two.refresh(pytest.fail) == tip
    write(one, "risk", 2)
    one.publish()
    ours = write(two, "fraud", 1)
    assert two.refresh(pytest.fail) == ours
    two.git.run("remote", "set-url", "origin", "nowhere")
    said: list[str] = []
    assert Ledger(Git(two.git.root)).refresh(said.append) == ours
    assert "'origin' cannot be reached" in said[0]


def test_taking_and_giving(remote: Git) -> None:
    one, two = clone(remote, "one"), clone(remote, "two")
    write(one, "risk", 1)
    one.publish()
    two.sync()
    write(two, "risk", 2)
    tip = two.publish()
    assert one.ensure_local() != tip
    assert one.sync() == tip
    assert versions(one) == {"risk": 2}


def test_records_about_other_things_go_on_top(remote: Git) -> None:
    one, two = clone(remote, "one"), clone(remote, "two")
    write(one, "risk", 1)
    one.publish()
    two.sync()
    two.git.run("config", "user.name", "Ada")
    two = Ledger(Git(two.git.root))
    write(two, "fraud", 1)
    write(two, "fraud", 2)
    before = log(two)
    write(one, "risk", 2)
    first = one.publish()

    tip = two.publish()
    assert remote.refs(REF) == {REF: tip}
    assert two.git.merge_base(first, tip) == first
    assert versions(two) == {"risk": 2, "fraud": 2}
    entries = log(two)
    assert [entry.serial for entry in entries] == [4, 3, 2, 1]
    assert [entry.who[:3] for entry in entries] == ["Ada", "Ada", "mls", "mls"]
    assert [entry.when for entry in entries[:2]] == [entry.when for entry in before[:2]]
    assert one.sync() == tip


def test_two_ledgers_that_began_apart_become_one(remote: Git) -> None:
    one, two = clone(remote, "one"), clone(remote, "two")
    write(one, "risk", 1)
    write(two, "fraud", 1)
    one.publish()
    two.publish()
    one.sync()
    assert versions(one) == versions(two) == {"risk": 1, "fraud": 1}
    assert [entry.serial for entry in log(one)] == [2, 1]


def test_records_about_the_same_thing_are_refused(remote: Git) -> None:
    one, two = clone(remote, "one"), clone(remote, "two")
    write(one, "risk", 1)
    write(two, "risk", 2)
    published = one.publish()
    kept = two.tip
    with pytest.raises(LedgerMoved, match="changed elsewhere") as raised:
        two.publish()
    assert remote.refs(REF) == {REF: published}
    assert two.reload() == kept

    assert "apply again" in raised.value.hint
    before = log(two)
    two.sync()
    assert versions(two) == {"risk": 1}
    assert [entry.serial for entry in log(two)] == [2, 1]
    assert "not kept" in log(two)[0].detail
    assert log(two)[0].who == before[0].who
    assert two.publish() == remote.refs(REF)[REF]


def test_what_follows_from_a_record_that_gives_way_goes_with_it(remote: Git) -> None:
    one, two = clone(remote, "one"), clone(remote, "two")
    run, fingerprint = run_path("risk", "train", "a" * 32), "a" * 32
    made = Run(stage="train", fingerprint=fingerprint, entry={}, seconds=1, commit="")
    live = Deployed(
        deployment="api",
        target="local",
        model="risk",
        version=1,
        release="r",
        status="serving",
        place="here",
    )
    write(one, "risk", 1)
    one.publish()
    two.record({run: made, state_path("risk"): ModelState(runs={"train": fingerprint})}, APPLY)
    two.record({deployment_path("api", "local"): live}, APPLY)
    two.record({deployment_path("web", "local"): live.model_copy(update={"model": "x"})}, APPLY)
    two.sync()
    assert two.read(run) is not None
    assert two.read(deployment_path("api", "local")) is None
    assert two.read(deployment_path("web", "local")) is not None
    assert versions(two) == {"risk": 1}
    assert ["not kept" in entry.detail for entry in log(two)] == [False, True, True, False]


def test_clones_that_write_at_the_same_time(remote: Git) -> None:
    names = ["one", "two", "three"]
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(clone(remote, name).git.root), name])
        for name in names
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    ledger = clone(remote, "reader")
    ledger.ensure_local()
    assert ledger.serial == 15
    assert [entry.serial for entry in log(ledger)] == list(range(15, 0, -1))
    assert versions(ledger) == dict.fromkeys(sorted(names), 4)


def test_processes_of_one_clone_that_write_at_the_same_time(remote: Git) -> None:
    root = clone(remote, "one").git.root
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(root), f"m{number}"])
        for number in range(3)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    ledger = clone(remote, "reader")
    ledger.ensure_local()
    assert ledger.serial == 15
    assert versions(ledger) == {"m0": 4, "m1": 4, "m2": 4}


def test_a_newer_view_of_the_remote_is_not_pushed_over(remote: Git) -> None:
    one, two = clone(remote, "one"), clone(remote, "two")
    write(one, "risk", 1)
    one.publish()
    write(two, "fraud", 1)
    published = two.publish()
    write(one, "risk", 2)
    Remote(one.git, "origin").fetch(REF, FETCHED)  # as another process of the same clone would
    tip = one.publish()
    assert one.git.merge_base(published, tip) == published
    assert versions(one) == {"risk": 2, "fraud": 1}


def test_a_remote_that_lost_its_ledger_gets_it_again(remote: Git) -> None:
    ledger = clone(remote, "one")
    write(ledger, "risk", 1)
    ledger.publish()
    remote.run("update-ref", "-d", REF)
    tip = write(ledger, "risk", 2)
    assert ledger.publish() == tip
    assert remote.refs(REF) == {REF: tip}


def test_a_shallow_clone(remote: Git) -> None:
    one = clone(remote, "one")
    (one.git.root / "file").write_text("")
    one.git.run("add", "file")
    one.git.run("-c", "user.name=x", "-c", "user.email=x@y", "commit", "--quiet", "-m", "Commit")
    one.git.run("push", "--quiet", "origin", "HEAD:refs/heads/main")
    write(one, "risk", 1)
    write(one, "risk", 2)
    one.publish()
    root = remote.root.parent / "shallow"
    shallow = ["git", "clone", "--quiet", "--depth=1", "--branch=main", remote.root.as_uri(), root]
    subprocess.run(shallow, check=True)
    ledger = Ledger(Git(root))
    ledger.ensure_local()
    assert [entry.serial for entry in log(ledger)] == [2, 1]
    write(ledger, "risk", 3)
    tip = ledger.publish()
    assert remote.refs(REF) == {REF: tip}


def test_a_remote_that_is_gone(remote: Git) -> None:
    ledger = clone(remote, "one")
    remote.root.rename(remote.root.with_name("moved.git"))
    with pytest.raises(RemoteUnreachable):
        ledger.ensure_local()
    tip = write(ledger, "risk", 1)
    assert ledger.ensure_local() == tip
    for use in (ledger.sync, ledger.publish):
        with pytest.raises(RemoteUnreachable) as raised:
            use()
        assert "git config mlspec.remote" in raised.value.hint
    assert ledger.reload() == tip
    ledger.git.run("config", "mlspec.remote", "")
    assert Ledger(Git(ledger.git.root)).publish() == tip


def test_a_remote_that_refuses(remote: Git) -> None:
    hook = remote.root / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    ledger = clone(remote, "one")
    tip = write(ledger, "risk", 1)
    with pytest.raises(MlspecError, match=r"refused the ledger: .*hook declined"):
        ledger.publish()
    assert ledger.reload() == tip


def test_the_users_own_push_hook_is_not_run(remote: Git) -> None:
    ledger = clone(remote, "one")
    hook = ledger.git.root / ".git/hooks/pre-push"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    tip = write(ledger, "risk", 1)
    assert ledger.publish() == tip


def test_a_race_that_is_never_won(remote: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlspec.ledger.store, "_REMOTE_ATTEMPTS", 3)
    monkeypatch.setattr(mlspec.ledger.store, "_REMOTE_SECONDS", 0)
    monkeypatch.setattr(Remote, "push", lambda *_, **__: "[rejected] (stale info)")
    ledger = clone(remote, "one")
    tip = write(ledger, "risk", 1)
    with pytest.raises(MlspecError, match="wrote to the remote's ledger first, 3 times"):
        ledger.publish()
    assert ledger.reload() == tip
