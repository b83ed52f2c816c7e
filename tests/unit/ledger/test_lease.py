"""The lock at the remote: who may have it when, and what a holder may do that lost it."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from mlspec.commands.unlock import unlock
from mlspec.errors import ExitCode, Locked, LockLost, MlspecError, RemoteUnreachable
from mlspec.git import Git, Remote
from mlspec.ledger import lease as module
from mlspec.ledger.entry import Entry
from mlspec.ledger.lease import Lease, hold
from mlspec.ledger.lock import Holder, acquire
from mlspec.ledger.paths import state_path
from mlspec.ledger.records import ModelState
from mlspec.ledger.remote_lock import (
    _BOOT,
    LEASE,
    REF,
    Lock,
    Seen,
    find_holder,
    lease_seconds,
    load_lock,
    may_take,
    render_lock,
    still_seen,
)
from mlspec.ledger.store import REF as LEDGER
from mlspec.ledger.store import Ledger
from mlspec.plan import Action, Consequence, Step
from mlspec.reconcile import _Reconciled
from mlspec.render.console import Console

HOLDER = Holder(
    holder="Ada <ada@example.org>",
    host="elsewhere",
    pid=1,
    since="2026-01-31T12:00:00Z",
    run_url="https://gitlab.example/j/7",
    id="a" * 32,
)
LONG = 3600.0


@pytest.fixture
def remote(tmp_path: Path) -> Git:
    subprocess.run(["git", "init", "--quiet", "--bare", tmp_path / "remote.git"], check=True)
    return Git(tmp_path / "remote.git")


@pytest.fixture
def clone(remote: Git, tmp_path: Path) -> Callable[[str], Git]:
    def clone(name: str) -> Git:
        root = tmp_path / name
        command = ["git", "clone", "--quiet", remote.root, root]
        subprocess.run(command, check=True, capture_output=True)
        return Git(root)

    return clone


Clone = Callable[[str], Git]


class Holding:
    """The lock of a clone and that at the remote, held in a thread of its own."""

    def __init__(self, git: Git, holder: Holder | None = None, *, at_least: int = 0) -> None:
        self.notes: list[str] = []
        self._local = acquire(git)
        self.holder = self._local.__enter__()
        self._remote = hold(
            git, holder or self.holder, timeout=0, at_least=at_least, note=self.notes.append
        )
        try:
            lease = self._remote.__enter__()
        except BaseException:
            self._local.__exit__(None, None, None)
            raise
        assert lease is not None
        self.lease: Lease = lease

    def vanish(self) -> None:
        """As if the machine was gone: nothing is given back nor renewed."""
        self.lease._over.set()
        self._local.__exit__(None, None, None)

    def end(self) -> None:
        self._remote.__exit__(None, None, None)
        self._local.__exit__(None, None, None)


def said(remote: Git) -> Lock:
    found = remote.objects.get(REF)
    assert found is not None
    return load_lock(found.data)


def write(ledger: Ledger, model: str) -> str:
    return ledger.record({state_path(model): ModelState(version=1)}, Entry(command="apply"))


# Who may have it ----------------------------------------------------------------------------------


def test_it_is_taken_over_after_a_whole_lease_without_a_renewal() -> None:
    held = Lock(token=3, holder=HOLDER, lease=60.0, file="boot:1:2")
    seen = still_seen(None, "one", 1000.0, "boot")
    assert not may_take(held, still_seen(seen, "one", 1059.9, "boot"), 1059.9, "boot:1:3")
    assert may_take(held, still_seen(seen, "one", 1060.0, "boot"), 1060.0, "boot:1:3")
    renewed = still_seen(seen, "two", 1059.9, "boot")
    assert not may_take(held, renewed, 1119.8, "boot:1:3")
    assert may_take(held.freed, renewed, 1059.9, "boot:1:3")


def test_a_clock_that_began_anew_has_seen_nothing() -> None:
    seen = Seen("one", 1000.0, "boot")
    assert still_seen(seen, "one", 5000.0, "boot") == seen
    assert still_seen(seen, "one", 5000.0, "other").since == 5000.0
    assert still_seen(seen, "one", 10.0, "boot").since == 10.0


def test_who_has_locked_the_holders_file_need_not_wait() -> None:
    held = Lock(token=3, holder=HOLDER, lease=60.0, file="boot:1:2")
    seen = Seen("one", 1000.0, "boot")
    assert may_take(held, seen, 1000.0, "boot:1:2")
    assert not may_take(replace(held, file=""), seen, 1000.0, "")


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "soon"])
def test_a_lease_that_is_none(clone: Clone, seconds: str) -> None:
    git = clone("one")
    git.run("config", "mlspec.lease", seconds)
    with pytest.raises(MlspecError, match=r"mlspec\.lease is"):
        lease_seconds(git)


def test_the_choice_of_no_lock_at_the_remote(remote: Git, clone: Clone) -> None:
    git = clone("one")
    assert lease_seconds(git) == LEASE
    git.run("config", "mlspec.lock", "local")
    git = Git(git.root)
    with acquire(git) as holder, hold(git, holder, timeout=0, at_least=0, note=print) as lease:
        assert lease is None
    assert remote.refs(REF) == {}
    git.run("config", "mlspec.lock", "none")
    with pytest.raises(MlspecError, match=r"mlspec\.lock is 'none'"):
        lease_seconds(Git(git.root))


def test_without_a_remote_there_is_none(git: Git) -> None:
    with acquire(git) as holder, hold(git, holder, timeout=0, at_least=0, note=print) as lease:
        assert lease is None


# Holding it ---------------------------------------------------------------------------------------


def test_the_holder_is_named(clone: Clone) -> None:
    one, two = clone("one"), clone("two")
    held = Holding(one, HOLDER)
    with pytest.raises(Locked) as raised:
        Holding(two)
    for part in ("'origin'", HOLDER.holder, HOLDER.host, HOLDER.run_url, HOLDER.since):
        assert part in raised.value.message
    assert f"mlspec unlock {HOLDER.id}" in raised.value.hint
    assert raised.value.exit_code is ExitCode.LOCKED
    assert find_holder(two) == HOLDER
    held.end()
    assert find_holder(two) is None
    other = Holding(two)
    assert other.lease.token == held.lease.token + 1
    other.end()
    assert one.refs(REF) == two.refs(REF) == {}


def test_tokens_go_up_whatever_becomes_of_the_ref(remote: Git, clone: Clone) -> None:
    git = clone("one")
    tokens = []
    for serial in (0, 0, 7):
        held = Holding(git, at_least=serial)
        tokens.append(held.lease.token)
        held.end()
    assert tokens == [1, 2, 8]
    remote.run("update-ref", "-d", REF)
    held = Holding(git, at_least=9)
    assert held.lease.token == 10
    held.end()


def test_it_is_renewed_while_it_is_held(remote: Git, clone: Clone) -> None:
    git = clone("one")
    git.run("config", "mlspec.lease", "0.1")
    held = Holding(Git(git.root))
    done = threading.Event()
    for _ in range(600):
        if said(remote).renewals >= 3:
            break
        done.wait(0.1)
    assert said(remote).renewals >= 3
    assert said(remote).token == held.lease.token
    held.end()
    loose = [*(git.common_dir / "objects").glob("??/*")]
    assert len(loose) <= 4  # not one for each renewal


def test_waiting_for_one_that_is_gone(clone: Clone) -> None:
    one, two = clone("one"), clone("two")
    one.run("config", "mlspec.lease", "0.3")
    held = Holding(Git(one.root))
    held.vanish()
    told: list[str] = []
    note = told.append
    with acquire(two) as holder, hold(two, holder, timeout=60, at_least=0, note=note) as lease:
        assert lease is not None
        assert lease.token == held.lease.token + 1
    assert told == ["Waiting for the lock of the remote 'origin', 60 s at most."]
    held.lease._over.clear()
    with pytest.raises(LockLost):
        held.lease.renew()


def test_what_was_seen_before_counts(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = clone("one"), clone("two")
    Holding(one, HOLDER).vanish()
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    with pytest.raises(Locked):
        Holding(two)
    now[0] += LEASE - 1
    with pytest.raises(Locked):
        Holding(two)
    now[0] += 1
    Holding(two).end()


def test_the_same_clone_need_not_wait(clone: Clone) -> None:
    git = clone("one")
    held = Holding(git)
    held.vanish()
    if not _BOOT.exists():
        pytest.skip("this system does not say which start of it this is")
    again = Holding(git)
    assert again.lease.token == held.lease.token + 1
    again.end()


# Losing it ----------------------------------------------------------------------------------------


def lose(clone: Clone, ledger: Ledger) -> tuple[Holding, Holding]:
    """The lock of `ledger`, and that of another clone that took it over."""
    held = Holding(ledger.git, HOLDER)
    ledger.lease = held.lease
    other = clone("other")
    held.lease._ref.swap(Remote(ledger.git, "origin").refs(REF)[REF], Lock(held.lease.token))
    return held, Holding(other)


def test_records_are_refused_without_it(remote: Git, clone: Clone) -> None:
    ledger = Ledger(clone("one"))
    write(ledger, "first")
    ledger.publish()
    before = remote.refs(LEDGER)
    held, other = lose(clone, ledger)
    tip = write(ledger, "second")
    with pytest.raises(LockLost, match="lost the lock of the remote 'origin'") as raised:
        ledger.publish()
    assert raised.value.exit_code is ExitCode.LOCKED
    assert "apply again" in raised.value.hint
    assert remote.refs(LEDGER) == before
    assert ledger.reload() == tip
    with pytest.raises(LockLost):
        held.lease.check()
    with pytest.raises(LockLost):
        held.lease.check_late()
    held.end()
    assert said(remote).token == other.lease.token
    other.end()
    ledger.lease = None
    assert ledger.publish() == tip


def test_a_step_that_others_see_is_not_begun_without_it(clone: Clone) -> None:
    ledger = Ledger(clone("one"))
    world = _Reconciled(SimpleNamespace(ledger=ledger), Entry(command="apply"))  # type: ignore[arg-type]
    deploy = Step("deployment.api@local", Action.DEPLOY, Consequence.REDEPLOY, "because")
    train = replace(deploy, address="stage.m.train", action=Action.RUN)
    world.guard(deploy)  # without a lock at the remote there is none to lose
    held, other = lose(clone, ledger)
    world.guard(train)  # renewed a moment ago: what it runs is seen by nobody yet
    for step in (deploy, train):
        with pytest.raises(LockLost):
            world.guard(step)
    held.end()
    other.end()


def test_a_machine_that_was_asleep_asks_whether_it_has_it_still(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, other = lose(clone, Ledger(clone("one")))
    held.lease.check_late()
    later = module._time_also_asleep() + LEASE
    monkeypatch.setattr(module, "_time_also_asleep", lambda: later)
    with pytest.raises(LockLost):
        held.lease.check_late()
    held.end()
    other.end()


def test_a_renewal_that_hangs_does_not_keep_the_end_waiting(
    clone: Clone, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git = clone("one")
    git.run("config", "mlspec.lease", "0.1")
    git.run("config", "ssh.variant", "ssh")
    pid = tmp_path / "pid"
    git.run("config", "core.sshCommand", f"echo $$ > {pid}; exec sleep 600 #")
    held = Holding(Git(git.root))
    git.run("remote", "set-url", "origin", "ssh://nobody/there")
    while not (pid.exists() and pid.read_text()):
        held.lease._over.wait(0.05)
    (push,) = held.lease._ref.git._online
    monkeypatch.setattr(module, "_LAST_PATIENCE", 0.2)
    held.end()
    assert push.wait(60) != 0
    with suppress(ProcessLookupError):
        os.kill(int(pid.read_text()), signal.SIGKILL)


def test_what_a_renewal_took_is_not_waited_for_again(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = Holding(clone("one"))
    git, patience = held.lease._ref.git, []
    monkeypatch.setattr(held.lease, "_move", lambda _: patience.append(git.patience))
    held.lease._turn.acquire()
    threading.Timer(0.5, held.lease._turn.release).start()
    held.end()
    assert len(patience) == 1
    assert patience[0] < module._LAST_PATIENCE


def test_records_go_with_a_renewal_and_the_last_ones_give_it_back(
    remote: Git, clone: Clone
) -> None:
    ledger = Ledger(clone("one"))
    held = Holding(ledger.git)
    ledger.lease = held.lease
    write(ledger, "first")
    tip = ledger.publish()
    assert remote.refs(LEDGER) == {LEDGER: tip}
    assert said(remote).renewals == 1
    tip = write(ledger, "second")
    assert ledger.publish(last=True) == tip
    assert said(remote).holder is None
    held.end()


def test_a_ledger_that_others_wrote_to_meanwhile(remote: Git, clone: Clone) -> None:
    ledger, other = Ledger(clone("one")), Ledger(clone("two"))
    held = Holding(ledger.git)
    ledger.lease = held.lease
    write(other, "theirs")
    other.publish()
    write(ledger, "ours")
    tip = ledger.publish()
    assert remote.refs(LEDGER) == {LEDGER: tip}
    assert ledger.serial == 2
    held.end()


def test_a_renewal_whose_answer_was_lost(
    remote: Git, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger(clone("one"))
    held = Holding(ledger.git)
    ledger.lease = held.lease
    push = Remote.push_together

    def push_and_break(*arguments: object) -> None:
        push(*arguments)  # type: ignore[arg-type]
        raise RemoteUnreachable("the line is cut")

    with monkeypatch.context() as patch:
        patch.setattr(Remote, "push_together", push_and_break)
        with pytest.raises(RemoteUnreachable):
            held.lease.renew()
    tip = write(ledger, "first")
    assert ledger.publish() == tip
    assert said(remote).holder == held.holder
    held.end()
    assert said(remote).holder is None


def test_a_remote_that_can_only_do_one_thing_at_a_time(remote: Git, clone: Clone) -> None:
    remote.run("config", "receive.advertiseAtomic", "false")
    ledger = Ledger(clone("one"))
    held = Holding(ledger.git)
    ledger.lease = held.lease
    for name in ("first", "second"):
        write(ledger, name)
        tip = ledger.publish()
    assert remote.refs(LEDGER) == {LEDGER: tip}
    assert len(held.notes) == 1
    assert "in one push" in held.notes[0]
    held.end()
    held, other = lose(clone, ledger)
    write(ledger, "third")
    with pytest.raises(LockLost):
        ledger.publish()
    assert remote.refs(LEDGER) == {LEDGER: tip}
    other.end()


def test_a_git_that_was_killed_at_the_remote(
    remote: Git, clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlspec.git.repository._STALE", 0.3)
    ledger = Ledger(clone("one"))
    held = Holding(ledger.git)
    ledger.lease = held.lease
    left = [remote.root / f"{ref}.lock" for ref in (REF, LEDGER)]
    for file in left:
        file.touch()
    tip = write(ledger, "first")
    assert ledger.publish() == tip
    assert remote.refs(LEDGER) == {LEDGER: tip}
    (remote.root / f"{REF}.lock").touch()
    held.vanish()
    Holding(ledger.git).end()
    assert not any(file.exists() for file in left)


def test_a_clone_that_mirrors_the_remote(remote: Git, clone: Clone) -> None:
    mirror = clone("one")
    mirror.run("config", "remote.origin.fetch", "+refs/*:refs/*")
    mirror.run("config", "remote.origin.mirror", "true")
    ledger, other = Ledger(Git(mirror.root)), Ledger(clone("two"))
    write(other, "theirs")
    other.publish()
    ours = write(ledger, "ours")
    assert ledger.refresh(print) == ours, "a fetch puts nothing over what was recorded here"
    held = Holding(ledger.git)
    ledger.lease = held.lease
    ledger.sync()
    tip = ledger.publish()
    assert ledger.serial == 2
    held.end()
    assert remote.refs("refs") == {LEDGER: tip, **remote.refs(REF)}


def test_a_remote_that_refuses_it(remote: Git, clone: Clone) -> None:
    hook = remote.root / "hooks/pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(MlspecError, match=r"refused the lock: .*hook declined") as raised:
        Holding(clone("one"))
    assert "git config mlspec.lock local" in raised.value.hint


def test_a_ref_that_is_no_lock(remote: Git, clone: Clone) -> None:
    git = clone("one")
    tree = remote.run("mktree")
    user = ("-c", "user.name=x", "-c", "user.email=x@y")
    remote.run("update-ref", REF, remote.run(*user, "commit-tree", "-m", "Mine", tree))
    with pytest.raises(MlspecError, match="is not a lock"):
        Holding(git)


@pytest.mark.parametrize("text", ["", "[]", '{"holder": {"a": 1}}', '{"holder": null, "x": 1}'])
def test_what_is_no_lock_is_told(text: str) -> None:
    with pytest.raises(MlspecError, match="is not a lock"):
        load_lock(f"tree x\n\nnot locked\n\n{text}".encode())


def test_a_lock_is_read_as_it_was_written() -> None:
    lock = Lock(token=3, holder=HOLDER, lease=0.5, renewals=2, file="boot:1:2")
    assert load_lock(f"tree x\n\n{render_lock(lock)}".encode()) == lock
    said = render_lock(lock).replace("0.5", '"soon"')
    with pytest.raises(MlspecError, match="is not a lock"):
        load_lock(f"tree x\n\n{said}".encode())


# Unlocking ----------------------------------------------------------------------------------------


def test_unlocking_what_another_machine_holds(
    clone: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = clone("one"), clone("two")
    Holding(one, HOLDER).vanish()
    with pytest.raises(MlspecError, match="the lock is not 'x': it is held by Ada"):
        unlock(two.root, Console(), lock_id="x")
    assert unlock(two.root, Console(), lock_id=HOLDER.id) == 0
    assert "origin was freed; its holder was Ada" in capsys.readouterr().out
    assert unlock(two.root, Console(), lock_id=HOLDER.id) == 0
    assert "Nobody" in capsys.readouterr().out
    held = Holding(two)
    assert held.lease.token == 2
    held.end()


def test_unlocking_refuses_while_the_holder_lives_here(clone: Clone) -> None:
    one, two = clone("one"), clone("two")
    here = replace(HOLDER, host=os.uname().nodename, pid=os.getpid())
    held = Holding(one, here)
    with pytest.raises(Locked, match="it lives"):
        unlock(two.root, Console(), lock_id=here.id)
    held.lease.check()
    held.end()


def test_unlocking_where_the_remote_never_moves_the_ref(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    Holding(clone("one"), HOLDER).vanish()
    monkeypatch.setattr("mlspec.ledger.remote_lock.PAUSE", 0)
    monkeypatch.setattr("mlspec.ledger.remote_lock.MOST_REFUSALS", 3)
    monkeypatch.setattr(Remote, "push_together", lambda *_: {REF: "failed to update ref"})
    with pytest.raises(MlspecError, match="refused the lock: failed to update ref") as raised:
        unlock(clone("two").root, Console(), lock_id=HOLDER.id)
    assert f"remove {REF}.lock in its folder" in raised.value.hint
