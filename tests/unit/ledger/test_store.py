"""Compare-and-swap in one repository: nothing is lost, and nothing is overwritten unseen."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mlspec.git.repository
import mlspec.ledger.store
from mlspec.errors import ExitCode, MlspecError
from mlspec.git import Git
from mlspec.ledger import paths
from mlspec.ledger.entry import Entry
from mlspec.ledger.history import log
from mlspec.ledger.objects import Draft
from mlspec.ledger.records import ModelState, Record, Run
from mlspec.ledger.state import Recorded, load_recorded
from mlspec.ledger.store import REF, Ledger, LedgerMoved

ENTRY = Entry(command="apply", plan="sha256:1")

WRITE = """
import sys
from pathlib import Path
from mlspec.git import Git
from mlspec.ledger.entry import Entry
from mlspec.ledger.paths import state_path
from mlspec.ledger.records import ModelState
from mlspec.ledger.store import Ledger
ledger = Ledger(Git(Path(sys.argv[1])))
for number in range(10):
    ledger.record({state_path(sys.argv[2]): ModelState(version=number)}, Entry(command="apply"))
"""


def state(version: int) -> ModelState:
    return ModelState(version=version)


def risk(version: int) -> dict[str, Record | None]:
    return {paths.state_path("risk"): state(version)}


def put_head(ledger: Ledger, text: str) -> None:
    """A commit of the ledger whose `ledger.json` is `text`."""
    draft = Draft(ledger.objects)
    tree = draft.add_tree(ledger.snapshot.tree, {paths.HEAD: draft.add_blob(text.encode())})
    draft.write()
    user = {"GIT_AUTHOR_NAME": "x", "GIT_AUTHOR_EMAIL": "x@y"}
    user |= {"GIT_COMMITTER_NAME": "x", "GIT_COMMITTER_EMAIL": "x@y"}
    ledger.git.run("update-ref", REF, ledger.git.run("commit-tree", tree, env=user))
    ledger.reload()


def test_an_empty_ledger(ledger: Ledger) -> None:
    assert ledger.tip == ""
    assert ledger.serial == 0
    assert ledger.read(paths.state_path("risk")) is None
    assert ledger.list() == ()
    assert ledger.list("models") == ()
    assert ledger.sync() == ledger.publish() == ledger.ensure_local() == ""


def test_a_record_is_a_commit_on_the_one_before(ledger: Ledger) -> None:
    first = ledger.record(risk(1), ENTRY)
    second = ledger.record({paths.dataset_path("loans"): None, **risk(2)}, ENTRY)
    git = ledger.git
    assert git.refs(REF) == {REF: second}
    assert git.run("rev-list", "--parents", second).splitlines() == [f"{second} {first}", first]
    head = json.loads(git.run("show", f"{REF}:ledger.json"))
    assert (head["schema"], head["serial"]) == (1, 2)
    assert ledger.list("models") == (paths.state_path("risk"),)
    assert (
        ledger.read(paths.state_path("risk"))
        == git.call("show", f"{REF}:{paths.state_path('risk')}").stdout
    )
    assert git.call("fsck", "--strict").returncode == 0


def test_the_worktree_and_the_branch_are_left_alone(ledger: Ledger) -> None:
    ledger.record(risk(1), ENTRY)
    assert ledger.git.head() == ""
    assert not ledger.git.dirty()
    assert [file.name for file in ledger.git.root.iterdir()] == [".git"]


def test_deleting(ledger: Ledger) -> None:
    ledger.record({**risk(1), paths.state_path("other"): state(1)}, ENTRY)
    ledger.record({paths.state_path("risk"): None}, ENTRY)
    assert ledger.list("models") == (paths.state_path("other"),)


def test_who_and_when_are_the_commits(ledger: Ledger) -> None:
    ledger.git.run("config", "user.name", "Ada <>\tLovelace")
    ledger.git.run("config", "user.email", "ada@example.org")
    tip = Ledger(Git(ledger.git.root)).record(risk(1), ENTRY)
    [entry] = log(ledger)
    assert entry.who == "Ada Lovelace <ada@example.org>"
    time = ledger.git.run("log", "-1", "--date=format-local:%FT%TZ", "--format=%ad", tip)
    assert entry.when == time
    assert (entry.serial, entry.plan) == (1, "sha256:1")


@pytest.mark.parametrize(
    "name", ["Ada Lovelace", "  .Ada, <>;", "Zoë 🙂", "<>", "a\tb", os.fsdecode(b"Zo\xeb"), "a.b"]
)
def test_a_commit_is_the_one_that_git_would_make(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GIT_AUTHOR_NAME", name)
    monkeypatch.setenv("GIT_AUTHOR_EMAIL", f" {name.strip()}@<example>.org ")
    ledger.record(risk(1), ENTRY)
    tip = ledger.record(risk(2), ENTRY.about("stage.ä.train", "run", "done", "tab\t\n"))
    git = ledger.git
    made = git.call("cat-file", "commit", tip).stdout
    seconds = int(git.run("show", "--no-patch", "--format=%at", tip))
    user = {"NAME": git.user.name, "EMAIL": git.user.email, "DATE": f"@{seconds} +0000"}
    assert tip == git.run(
        "commit-tree",
        *("--no-gpg-sign", "-p", f"{tip}^", f"{tip}^{{tree}}"),
        stdin=made.partition(b"\n\n")[2],
        env={f"GIT_{who}_{part}": user[part] for who in ("AUTHOR", "COMMITTER") for part in user},
    )
    assert git.call("fsck", "--strict").returncode == 0


def test_a_snapshot_stays(ledger: Ledger) -> None:
    ledger.record(risk(1), ENTRY)
    before = ledger.snapshot
    ledger.record({**risk(2), paths.state_path("other"): state(1)}, ENTRY)
    assert before.list("models") == (paths.state_path("risk"),)
    assert json.loads(before.read(paths.state_path("risk")) or "")["version"] == 1
    assert before.serial == 1


def test_others_are_not_seen_before_reload(ledger: Ledger) -> None:
    assert ledger.tip == ""
    tip = Ledger(ledger.git).record(risk(1), ENTRY)
    assert ledger.tip == ""
    assert ledger.reload() == tip


def test_other_files_may_have_moved(ledger: Ledger) -> None:
    ledger.record(risk(1), ENTRY)
    Ledger(ledger.git).record({paths.state_path("other"): state(7)}, ENTRY)
    ledger.record(risk(2), ENTRY)
    recorded = load_recorded(ledger)
    assert recorded.model_state("risk") == state(2)
    assert recorded.model_state("other") == state(7)
    assert ledger.serial == 3


@pytest.mark.parametrize("start", [0, 1])
def test_the_same_file_may_not(ledger: Ledger, start: int) -> None:
    for _ in range(start):
        ledger.record(risk(1), ENTRY)
    assert ledger.serial == start
    other = Ledger(ledger.git)
    tip = other.record(risk(2), ENTRY)
    with pytest.raises(LedgerMoved, match=r"state\.json changed elsewhere") as raised:
        ledger.record(risk(3), ENTRY)
    assert raised.value.exit_code is ExitCode.ERROR
    assert other.reload() == tip


def test_the_same_fact_twice_is_no_clash(ledger: Ledger) -> None:
    ledger.record({}, ENTRY)
    Ledger(ledger.git).record(risk(2), ENTRY)
    ledger.record(risk(2), ENTRY)
    assert ledger.serial == 3


@pytest.mark.parametrize("deleted", [True, False])
def test_a_ledger_that_was_set_back(ledger: Ledger, deleted: bool) -> None:
    first = ledger.record(risk(1), ENTRY)
    ledger.record({paths.state_path("other"): state(1)}, ENTRY)
    ledger.git.run("update-ref", *(["-d", REF] if deleted else [REF, first]))
    with pytest.raises(LedgerMoved):
        ledger.record({paths.dataset_path("loans"): None}, ENTRY)


def test_writers_at_the_same_time(ledger: Ledger) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITE, str(ledger.git.root), f"m{number}"])
        for number in range(4)
    ]
    assert [writer.wait() for writer in writers] == [0, 0, 0, 0]
    assert ledger.serial == 40
    assert [entry.serial for entry in log(ledger)] == list(range(40, 0, -1))
    recorded = load_recorded(ledger)
    assert {model: recorded.model_state(model) for model in recorded.models()} == {
        f"m{number}": state(9) for number in range(4)
    }


def test_threads_share_a_ledger(ledger: Ledger) -> None:
    def write(model: str) -> None:
        for number in range(5):
            ledger.record({paths.state_path(model): state(number)}, ENTRY)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, ["a", "b", "c", "d"]))
    assert ledger.serial == 20
    assert all(load_recorded(ledger).model_state(model) == state(4) for model in "abcd")


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"schema":1}', '{"schema":"x","serial":1}'])
def test_a_damaged_head(ledger: Ledger, text: str) -> None:
    put_head(ledger, text)
    for use in (lambda: ledger.record(risk(1), ENTRY), lambda: ledger.list()):
        with pytest.raises(MlspecError, match=r"ledger\.json at commit .* is damaged"):
            use()


def test_a_newer_schema_is_neither_read_nor_written(ledger: Ledger) -> None:
    ledger.record(risk(1), ENTRY)
    put_head(ledger, '{"schema": 2, "serial": 9, "mlspec": "4.2.0", "new": true}')
    tip = ledger.tip
    for use in (
        lambda: ledger.record(risk(2), ENTRY),
        lambda: ledger.read(paths.state_path("risk")),
        lambda: load_recorded(ledger).models(),
    ):
        with pytest.raises(MlspecError, match="schema 2") as raised:
            use()
        assert "4.2.0" in raised.value.hint
    assert ledger.reload() == tip


def test_what_cannot_be_recorded_changes_nothing(ledger: Ledger) -> None:
    for value in (float("nan"), float("inf"), "\udcff", b"", object()):
        run = Run(stage="train", fingerprint="", entry={"x": value}, seconds=1, commit="")
        with pytest.raises(MlspecError, match="cannot record"):
            ledger.record({paths.state_path("risk"): run}, ENTRY)
    for path in ("../x", paths.HEAD, "a//b"):
        with pytest.raises(MlspecError, match="cannot be the path"):
            ledger.record({path: state(1)}, ENTRY)
    assert ledger.reload() == ""


def test_a_lock_that_a_killed_git_left(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlspec.git.repository, "_STALE", 0.1)
    ledger.record(risk(1), ENTRY)
    lock = ledger.git.common_dir / f"{REF}.lock"
    lock.touch()
    ledger.record(risk(2), ENTRY)
    assert ledger.serial == 2
    assert not lock.exists()


def test_a_lock_that_cannot_be_taken_away(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlspec.git.repository, "_STALE", 0.01)
    monkeypatch.setattr(mlspec.ledger.store, "_LOCAL_ATTEMPTS", 2)
    ledger.record(risk(1), ENTRY)
    lock = ledger.git.common_dir / f"{REF}.lock"
    lock.mkdir()
    with pytest.raises(MlspecError) as raised:
        ledger.record(risk(2), ENTRY)
    assert str(lock) in raised.value.hint
    lock.rmdir()
    ledger.record(risk(2), ENTRY)
    assert ledger.serial == 2


def test_a_full_disk(ledger: Ledger) -> None:
    tip = ledger.record(risk(1), ENTRY)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(MlspecError):
            ledger.record(risk(2), ENTRY)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ledger.reload() == tip
    ledger.record(risk(3), ENTRY)


def test_many_records_end_up_in_one_file(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = ledger.git.common_dir / "objects"
    other = ledger.git.run("hash-object", "-w", "--stdin", stdin=b"of the user")
    monkeypatch.setattr(mlspec.git.repository, "_MANY_OF_256", 256)
    ledger.git.run("config", "core.sharedRepository", "group")
    loose = Ledger(Git(ledger.git.root))  # writes each object to a file of its own
    records = 0
    while not (objects / "17").is_dir() or len(list((objects / "17").iterdir())) < 2:
        loose.tidy()
        assert list((objects / "pack").iterdir()) == []
        loose.record(risk(records), ENTRY)
        records += 1
    ledger.reload()
    before = ledger.snapshot
    ledger.tidy()
    assert len(list((objects / "pack").glob("*.pack"))) == 1
    left = [path for path in objects.glob("??/*") if path.is_file()]
    assert [path.parent.name + path.name for path in left] == [other]
    ledger.record({paths.state_path("other"): state(1)}, ENTRY)
    for reader in (ledger, Ledger(Git(ledger.git.root))):
        assert load_recorded(reader).model_state("risk") == state(records - 1)
        assert reader.serial == records + 1
    assert len(log(ledger)) == records + 1
    assert before.read(paths.state_path("risk")) is not None
    assert ledger.git.call("fsck", "--strict").returncode == 0


def test_a_user_who_signs(ledger: Ledger, tmp_path: Path) -> None:
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    allowed = tmp_path / "allowed"
    allowed.write_text(f"ada@example.org {key.with_suffix('.pub').read_text()}")
    for name, value in {
        "user.email": "ada@example.org",
        "commit.gpgSign": "true",
        "gpg.format": "ssh",
        "user.signingKey": str(key),
        "gpg.ssh.allowedSignersFile": str(allowed),
    }.items():
        ledger.git.run("config", name, value)
    tip = ledger.record(risk(1), ENTRY)
    ledger.git.run("verify-commit", tip)
    [entry] = log(ledger)
    assert entry.plan == "sha256:1"


def test_what_is_staged_is_read_at_once_and_written_together(ledger: Ledger) -> None:
    start = ledger.record(risk(1), ENTRY)
    ledger.stage(risk(2), ENTRY)
    between = ledger.snapshot
    ledger.stage({paths.state_path("other"): state(1)}, ENTRY)
    assert load_recorded(ledger).model_state("risk") == state(2)
    assert Ledger(ledger.git).tip == start
    assert Recorded(between).model_state("risk") == state(2)
    assert Recorded(between).model_state("other") is None
    tip = ledger.flush()
    assert [entry.serial for entry in log(Ledger(ledger.git))] == [3, 2, 1]
    assert ledger.flush() == ledger.tip == Ledger(ledger.git).tip == tip
    assert Recorded(between).model_state("risk") == state(2)


def test_what_is_staged_goes_on_top_of_what_others_record(ledger: Ledger) -> None:
    ledger.record(risk(1), ENTRY)
    ledger.stage(risk(2), ENTRY)
    ledger.stage(risk(3), ENTRY)
    Ledger(ledger.git).record({paths.state_path("other"): state(1)}, ENTRY)
    ledger.flush()
    assert ledger.serial == len(log(ledger)) == 4
    assert load_recorded(ledger).model_state("risk") == state(3)
    assert load_recorded(ledger).model_state("other") == state(1)


def test_what_cannot_be_written_yet_is_not_lost(ledger: Ledger) -> None:
    ledger.record(risk(1), ENTRY)
    ledger.stage(risk(2), ENTRY)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, limits[1]))
    try:
        with pytest.raises(MlspecError):
            ledger.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ledger.reload() == Ledger(ledger.git).tip
    assert load_recorded(Ledger(ledger.git)).model_state("risk") == state(2)
