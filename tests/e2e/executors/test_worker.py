"""A request on the machine that does it: clone, check, run, check, record in storage."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlspec.dvc.hashing import md5_of_bytes, object_path
from mlspec.executors import Cause
from mlspec.executors.messages import Answer, Input, Place, Request
from mlspec.executors.worker import Worker


@pytest.fixture
def work(tmp_path: Path) -> Path:
    return tmp_path / "work"


@pytest.fixture
def worker(work: Path) -> Iterator[Worker]:
    with contextlib.closing(Worker(work)) as worker:
        yield worker


def ask(worker: Worker, request: Request, printed: list[str] | None = None) -> Answer:
    lines: list[str] = printed if printed is not None else []
    asked = {"request": json.loads(request.model_dump_json())}
    said = worker.handle(asked, lines.append)
    assert isinstance(said, Answer)
    return Answer.model_validate_json(said.model_dump_json())


def clone_of(work: Path) -> Path:
    [clone] = work.glob("*/clones/0")
    return clone


def test_a_run_is_in_storage_with_its_digests(repository: Any, worker: Worker) -> None:
    printed: list[str] = []
    answer = ask(worker, repository.request(), printed)

    assert answer.trouble is None
    assert answer.outcome is not None and answer.outcome.cause is Cause.OK
    assert printed == ["training"]
    assert answer.log == "training\n"
    assert answer.metrics == b'{"accuracy": 0.5}'
    assert answer.entry is not None
    outs = {out["path"]: out["md5"] for out in answer.entry["outs"]}
    assert outs["out/model"] == md5_of_bytes(b"1\n2\ntrained")
    for md5 in outs.values():
        assert (repository.storage / object_path(md5)).exists()
    assert answer.entry["params"] == {"pipelines/m/params.json": {"seed": 1}}


def litter(clone: Path) -> None:
    (clone / "train.py").write_text("raise SystemExit(1)")
    (clone / "sitecustomize.py").write_text("raise SystemExit(1)")
    (clone / "folder").mkdir()
    (clone / "folder/file").touch()


def half_written_lock(clone: Path) -> None:
    (clone / "pipelines/m/dvc.lock").write_text("stages: {{{")
    (clone / ".git/index.lock").touch()


def broken_head(clone: Path) -> None:
    (clone / ".git/HEAD").write_text("nonsense")


def no_repository(clone: Path) -> None:
    (clone / ".git").rename(clone / "git")


def folder_for_a_file(clone: Path) -> None:
    (clone / "pipelines/m/params.json").unlink()
    (clone / "pipelines/m/params.json").mkdir()


def test_a_clone_that_was_left_dirty_is_mended(repository: Any, worker: Worker, work: Path) -> None:
    first = ask(worker, repository.request())
    for spoil in (litter, half_written_lock, broken_head, no_repository, folder_for_a_file):
        spoil(clone_of(work))
        assert ask(worker, repository.request()).entry == first.entry, spoil.__name__


def test_the_next_commit_is_fetched(repository: Any, worker: Worker) -> None:
    ask(worker, repository.request())
    (repository.root / "rows.csv").write_text("3\n")
    repository.commit()
    answer = ask(worker, repository.request())
    assert answer.entry is not None
    assert answer.entry["deps"][0]["md5"] == md5_of_bytes(b"3\n")


def test_what_another_stage_wrote_comes_from_storage(
    repository: Any, worker: Worker, work: Path
) -> None:
    made = md5_of_bytes(b"9\n")
    place = repository.storage / object_path(made)
    place.parent.mkdir(parents=True)
    place.write_bytes(b"9\n")
    repository.git("rm", "--quiet", "rows.csv")
    repository.commit()
    (repository.root / "rows.csv").write_bytes(b"9\n")
    request = repository.request()
    inputs = (Input(path="rows.csv", md5=made, origin="storage"), request.inputs[1])
    request = request.model_copy(update={"inputs": inputs})

    assert ask(worker, request).metrics == b'{"accuracy": 0.5}'
    (clone_of(work) / "rows.csv").write_text("changed by the last job")
    answer = ask(worker, request)
    assert answer.entry is not None
    assert answer.entry["deps"][0]["md5"] == made


def test_code_that_is_not_what_was_planned_is_not_run(repository: Any, worker: Worker) -> None:
    request = repository.request()
    inputs = (request.inputs[0], request.inputs[1].model_copy(update={"md5": "0" * 32}))
    answer = ask(worker, request.model_copy(update={"inputs": inputs}))

    assert answer.outcome is None
    assert answer.trouble is not None and answer.trouble.elsewhere
    assert "train.py (md5 " in answer.trouble.message
    assert f"not {'0' * 32})" in answer.trouble.message


def test_a_commit_that_nobody_pushed(repository: Any, worker: Worker) -> None:
    answer = ask(worker, repository.request(commit="1" * 40))
    assert answer.trouble is not None and answer.trouble.elsewhere
    assert "commit 111111111 cannot be fetched" in answer.trouble.message
    assert answer.trouble.exit_code == 5


def test_storage_that_cannot_be_written(repository: Any, worker: Worker) -> None:
    repository.storage.write_text("a file in the place of a folder")
    answer = ask(worker, repository.request())
    assert answer.trouble is not None and not answer.trouble.elsewhere
    assert "storage" in answer.trouble.message


def test_another_python_is_refused(repository: Any, worker: Worker) -> None:
    answer = ask(worker, repository.request(python="3.2"))
    assert answer.trouble is not None and answer.trouble.elsewhere
    assert "python.version is 3.2" in answer.trouble.message


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("true", "did not write out/model"),
        ("python train.py && echo 1 >> rows.csv", "changed what it reads: rows.csv"),
        ("python train.py && rm metrics.json && mkdir metrics.json", "made metrics.json a folder"),
    ],
)
def test_a_run_that_is_not_what_it_claims(
    command: str, message: str, repository: Any, worker: Worker
) -> None:
    answer = ask(worker, repository.request(command))
    assert answer.entry is None
    assert answer.trouble is not None and not answer.trouble.elsewhere
    assert message in answer.trouble.message


def test_a_command_that_fails_is_tried_again(repository: Any, worker: Worker) -> None:
    answer = ask(worker, repository.request("echo no && exit 3", retries=1))
    assert answer.outcome is not None
    assert (answer.outcome.cause, answer.outcome.exit_code) == (Cause.EXIT, 3)
    assert answer.log == "no\nno\n"


def test_two_workers_at_once_have_a_clone_each(repository: Any, work: Path) -> None:
    with contextlib.closing(Worker(work)) as one, contextlib.closing(Worker(work)) as other:
        assert ask(one, repository.request()).entry == ask(other, repository.request()).entry
    assert len([path for path in work.glob("*/clones/*") if path.is_dir()]) == 2


def test_credentials_of_ci_are_withheld(
    repository: Any, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TOKEN", "hush")
    printed: list[str] = []
    ask(worker, repository.request("echo token=$GIT_TOKEN"), printed)
    assert printed == ["token="]


def test_another_version_of_the_messages_is_refused(worker: Worker) -> None:
    said = worker.handle({"request": {"format": 99, "mlspec": "9.9"}}, print)
    assert isinstance(said, Answer) and said.trouble is not None
    assert "does not understand mlspec 9.9" in said.trouble.message
    said = worker.handle({"request": {"format": 1, "command": 3}}, print)
    assert isinstance(said, Answer) and said.trouble is not None
    assert "cannot be read" in said.trouble.message


def test_nothing_is_written_outside_of_the_clone(
    repository: Any, worker: Worker, tmp_path: Path
) -> None:
    (repository.root / "pipelines").symlink_to(tmp_path)
    repository.commit()
    answer = ask(worker, repository.request())
    assert answer.trouble is not None
    assert "leads out of the repository" in answer.trouble.message
    assert not (tmp_path / "m").exists()


def test_whoever_asks_may_be_killed(repository: Any, work: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mlspec.executors.worker"],
        env={**os.environ, "MLSPEC_WORK": str(work)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    request: dict[str, Any] = repository.request("echo begun $$ && exec sleep 600").model_dump()
    process.stdin.write(json.dumps({"request": request}) + "\n")
    process.stdin.flush()
    begun = json.loads(process.stdout.readline())["line"]
    process.stdin.close()
    assert process.wait(60) == 0
    assert not Path("/proc", begun.split()[1]).exists()
    process.stdout.close()


def test_a_question_is_answered_with_what_is_lacking(
    repository: Any, worker: Worker, tmp_path: Path
) -> None:
    place = repository.request().place
    question = {"format": 1, "mlspec": "0.0", "place": place.model_dump(), "python": "3.2"}
    found = worker.handle({"question": question}, print)
    lacking = {check.name for check in found.checks if not check.ok}
    assert lacking == {"python", "mlspec"}
    assert list(repository.storage.iterdir()) == []

    nowhere = Place(repository=str(tmp_path / "nowhere"), files=place.files)
    repository.storage.rmdir()
    repository.storage.write_text("")
    question = {"format": 1, "mlspec": "0.0", "place": nowhere.model_dump()}
    found = worker.handle({"question": question}, print)
    checks = {check.name: check for check in found.checks}
    assert not checks["repository"].ok and "git ls-remote" in checks["repository"].hint
    assert not checks["storage"].ok
