"""What is wrong with a ledger is told, and Git gives back what it still has."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mlspec.commands.fsck import NOTHING_MORE, find_problems, fsck
from mlspec.errors import MlspecError
from mlspec.git import Git
from mlspec.ledger import paths
from mlspec.ledger.entry import Entry
from mlspec.ledger.records import ModelState, Version
from mlspec.ledger.recover import find_good, gather, restore
from mlspec.ledger.store import FETCHED, REF, Ledger
from mlspec.render.console import Console

ENTRY = Entry(command="apply", address="model.risk", action="register", outcome="done")
RECORDS = 12


@pytest.fixture
def written(ledger: Ledger) -> Ledger:
    """A ledger of some records."""
    for number in range(RECORDS):
        ledger.record({paths.state_path(f"m{number % 5}"): ModelState(retired=bool(number))}, ENTRY)
    return ledger


def wrong(ledger: Ledger) -> list[str]:
    """The kinds of what fsck finds."""
    git = Git(ledger.git.root)
    try:
        return [problem.kind for problem in find_problems(git.root, git)]
    finally:
        git.close()


def published(ledger: Ledger, place: Path) -> Ledger:
    """It, in a repository that has a remote now, which has it too."""
    remote = place / "remote.git"
    kind = f"--object-format={ledger.git.object_format}"
    subprocess.run(["git", "init", "-q", "--bare", kind, remote], check=True)
    ledger.git.run("remote", "add", "origin", str(remote))
    ledger.git.close()
    shared = Ledger(Git(ledger.git.root))
    shared.publish()
    return shared


def files_of(ledger: Ledger) -> list[Path]:
    """The files that the ledger is made of."""
    git = ledger.git.common_dir
    objects = [path for path in (git / "objects").rglob("*") if path.is_file()]
    return sorted([*objects, git / REF])


def test_one_that_is_gone_with_what_was_not_published(written: Ledger, tmp_path: Path) -> None:
    ledger = published(written, tmp_path)
    (ledger.git.common_dir / REF).unlink()
    assert Ledger(ledger.git).ensure_local()
    assert Ledger(ledger.git).refresh(print) == ledger.tip
    ledger.record({paths.state_path("m0"): ModelState(durations={"train": (1.0,)})}, ENTRY)
    (ledger.git.common_dir / REF).unlink()
    for take in (Ledger.ensure_local, Ledger.sync, lambda each: each.refresh(print)):
        with pytest.raises(MlspecError, match="records that the remote was not given") as raised:
            take(Ledger(ledger.git))
        assert raised.value.hint == "mlspec ledger recover"
    found = find_good(ledger.git)
    assert found is not None
    assert found.commit == ledger.tip
    ledger.git.close()


def test_records_that_are_not_where_they_belong(written: Ledger) -> None:
    version = Version(
        model="risk",
        number=1,
        fingerprint="0" * 64,
        stages={},
        artifact=None,
        signature=None,
        metrics={},
        verdicts=(),
        commit="",
    )
    written.record({paths.version_path("risk", 2): version}, ENTRY)
    assert wrong(written) == ["record", "reference"]


def test_a_state_that_names_what_is_missing(written: Ledger) -> None:
    written.record({paths.state_path("m1"): ModelState(version=7)}, ENTRY)
    assert wrong(written) == ["reference"]


def test_without_a_remote_the_last_good_serial_is_taken(written: Ledger) -> None:
    good = written.tip
    written.record({paths.state_path("m1"): ModelState(version=7)}, ENTRY)
    git = Git(written.git.root)
    gather(git)
    found = find_good(git)
    assert found is not None
    assert (found.commit, found.serial, found.highest) == (good, RECORDS, RECORDS + 1)
    restore(git, found)
    assert wrong(written) == []


def test_a_ref_that_nobody_can_read(written: Ledger) -> None:
    tip = written.tip
    (written.git.common_dir / REF).write_text("nonsense\n")
    assert "ledger" in wrong(written)
    git = Git(written.git.root)
    gather(git)
    found = find_good(git)
    assert found is not None
    restore(git, found)
    assert git.ref(REF) == tip


def test_packed_refs_in_an_order_in_which_git_finds_nothing(written: Ledger) -> None:
    tip = written.tip
    written.git.run("update-ref", FETCHED, tip)
    written.git.run("pack-refs", "--all")
    written.git.close()
    packed = written.git.common_dir / "packed-refs"
    packed.write_bytes(packed.read_bytes().replace(b"refs/mlspec/ledger", b"refs/mDlspec/ledger"))
    assert wrong(written) == ["ledger"]
    git = Git(written.git.root)
    gather(git)
    found = find_good(git)
    assert found is not None
    restore(git, found)
    assert git.ref(REF) == tip
    assert wrong(written) == []


def test_nothing_good_is_left(ledger: Ledger) -> None:
    ledger.record({}, ENTRY)
    for path in files_of(ledger):
        path.unlink()
    git = Git(ledger.git.root)
    gather(git)
    assert find_good(git) is None
    with pytest.raises(MlspecError):
        ledger.objects.commit("0" * 40)


def test_a_ledger_that_lost_its_ref_is_told_of(
    written: Ledger, capsys: pytest.CaptureFixture[str]
) -> None:
    git = written.git
    git.run("update-ref", "-d", REF)
    assert fsck(git.root, Console(), NOTHING_MORE, as_json=False) == 0
    assert f"Git has one of serial {RECORDS} that {REF} does not name" in capsys.readouterr().out
    found = find_good(git)
    assert found is not None
    restore(git, found)
    assert fsck(git.root, Console(), NOTHING_MORE, as_json=False) == 0
    assert f"The ledger is at serial {RECORDS}" in capsys.readouterr().out


def test_a_ledger_that_is_gone_is_missed(written: Ledger, tmp_path: Path) -> None:
    ledger = published(written, tmp_path)
    (ledger.git.common_dir / REF).unlink()
    ledger.git.close()
    assert wrong(ledger) == ["ledger"]
