"""The child process records, moves and brings back what real DVC then agrees with."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from mlspec.compilers.dvc import compile_pipeline, compile_storage, lock_path, pipeline_path
from mlspec.dvc.client import LOG, Dvc
from mlspec.dvc.hashing import object_path
from mlspec.dvc.lock import parse_lock, with_entry
from mlspec.errors import MlspecError, RemoteUnreachable
from mlspec.spec.models import Dataset, Model, Python, Stage, Storage
from mlspec.worktree import Worktree

PIPELINE, LOCK = pipeline_path("m"), lock_path("m")


def run(root: Path, *command: str) -> str:
    env = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(root: Path, *arguments: str) -> str:
    return run(root, sys.executable, "-m", "dvc", *arguments)


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(text)


def train(root: Path, text: str) -> None:
    """What the command of the stage would write."""
    write(root, models__m=text, models__folder__a=text, models__folder__b="b")
    write(root, metrics__m=json.dumps({"score": len(text)}))


def make_repository(root: Path, storage: Storage) -> None:
    run(root, "git", "init", "-q")
    stage = Stage(
        command="true",
        inputs=("raw",),
        outputs=("models/m", "models/folder"),
        metrics="metrics/m",
        params={"seed": 7},
    )
    after = Stage(command="true", inputs=("models/m",), outputs=("report",))
    files = (
        *compile_pipeline(
            "m",
            Model(stages={"train": stage, "report": after}),
            python=Python(),
            datasets={"raw": Dataset(path="data/raw.csv")},
            code={},
        ),
        *compile_storage(storage),
    )
    for file in files:
        write(root, **{file.path: file.text})
    write(root, data__raw="", **{"data/raw.csv": "x\n"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    root.mkdir()
    make_repository(root, Storage())
    return root


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_nothing_is_started_before_it_is_needed(root: Path) -> None:
    with Dvc(root):
        pass
    assert not (root / LOG).exists()


def test_a_run_is_recorded_as_dvc_would_and_restored(root: Path) -> None:
    tree = Worktree(root)
    with Dvc(root) as client:
        train(root, "first")
        client.commit(PIPELINE, "train")
        client.push(PIPELINE, "train")
        write(root, report="r")
        client.commit(PIPELINE, "report")
        assert client.status([PIPELINE]) == {}
        first = parse_lock((root / LOCK).read_text())["train"]
        assert {out.path for out in first.outs} == {"models/m", "models/folder", "metrics/m"}
        for out in first.outs:
            assert tree.digest(out.path) == out.digest
            assert (root / ".mlspec/storage" / object_path(out.md5)).is_file()
        assert "/m\n" in (root / "models/.gitignore").read_text()

        assert json.loads(dvc(root, "status", "--json")) == {}
        told = dvc(root, "repro", "--dry", PIPELINE)
        assert told.count("didn't change, skipping") == 2
        assert "Running" not in told

        train(root, "second")
        client.commit(PIPELINE, "train")
        second = parse_lock((root / LOCK).read_text())["train"]
        assert second != first

    # neither the cache nor the worktree has the first run any more
    shutil.rmtree(root / ".dvc/cache")
    shutil.rmtree(root / "models/folder")
    (root / LOCK).write_text(with_entry((root / LOCK).read_text(), "train", first))
    with Dvc(root) as client:
        client.checkout(PIPELINE, "train")
        tree.forget()
        for out in first.outs:
            assert tree.digest(out.path) == out.digest
        assert client.status([f"{PIPELINE}:train"]) == {}


def test_the_bytes_of_an_earlier_run_without_touching_the_worktree(root: Path) -> None:
    with Dvc(root) as client:
        train(root, "first")
        client.commit(PIPELINE, "train")
        client.push(PIPELINE, "train")
        outs = {out.path: out.md5 for out in parse_lock((root / LOCK).read_text())["train"].outs}
    train(root, "second")
    shutil.rmtree(root / ".dvc/cache")
    with Dvc(root) as client:
        places = client.fetch(outs)
        assert places["models/m"].read_text() == "first"
        listed = json.loads(places["models/folder"].read_text())
        assert {item["relpath"] for item in listed} == {"a", "b"}
        assert all((root / ".dvc/cache" / object_path(item["md5"])).exists() for item in listed)
        with pytest.raises(MlspecError, match="storage does not have gone"):
            client.fetch({"gone": "0" * 32})
    assert (root / "models/m").read_text() == "second"


def test_a_stage_is_restored_from_the_run_cache_by_plain_dvc(root: Path) -> None:
    with Dvc(root) as client:
        train(root, "first")
        client.commit(PIPELINE, "train")
    (root / LOCK).unlink()
    (root / "models/m").unlink()
    assert "is cached - skipping run" in dvc(root, "repro", "-s", f"{PIPELINE}:train")
    assert (root / "models/m").read_text() == "first"


def test_an_output_that_is_missing_is_named(root: Path) -> None:
    train(root, "first")
    (root / "models/m").unlink()
    with Dvc(root) as client:
        with pytest.raises(MlspecError, match=r"record the run: .*models/m"):
            client.commit(PIPELINE, "train")
        with pytest.raises(MlspecError, match="nothing"):
            client.commit(PIPELINE, "nothing")
    assert not (root / LOCK).exists()


def test_own_data_are_kept_and_brought_back(root: Path) -> None:
    write(root, **{"data/own/a": "a", "data/own/b": "b"})
    with Dvc(root) as client:
        client.add("data/own")
        client.push("data/own.dvc")
        tree = Worktree(root)
        first = tree.recorded_digest("data/own")
        assert first == tree.digest("data/own") is not None
        write(root, **{"data/own/a": "changed"})
        client.add("data/own")
        assert Worktree(root).recorded_digest("data/own") != first
        client.push("data/own.dvc")
    shutil.rmtree(root / "data/own")
    shutil.rmtree(root / ".dvc/cache")
    with Dvc(root) as client:
        client.checkout("data/own.dvc")
    assert (root / "data/own/a").read_text() == "changed"
    assert "/own\n" in (root / "data/.gitignore").read_text()
    assert json.loads(dvc(root, "status", "--json", "data/own.dvc")) == {}


def test_data_that_git_has_are_refused(root: Path) -> None:
    run(root, "git", "add", "data/raw.csv")
    with Dvc(root) as client, pytest.raises(MlspecError, match="tracked by SCM"):
        client.add("data/raw.csv")


def test_data_from_an_address(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", **{"x.csv": "1"})
    with Dvc(root) as client:
        with served(tmp_path / "elsewhere") as url:
            client.import_url(f"{url}/x.csv", "data/new/x.csv")
            assert (root / "data/new/x.csv").read_text() == "1"
            write(tmp_path / "elsewhere", **{"x.csv": "22"})
            client.import_url(f"{url}/x.csv", "data/new/x.csv")
            assert (root / "data/new/x.csv").read_text() == "22"
        client.push("data/new/x.csv.dvc")
        with pytest.raises(MlspecError, match=r"import the data: .*y\.csv"):
            client.import_url(f"{url}/y.csv", "data/y.csv")
        (root / "data/new/x.csv").unlink()
        client.checkout("data/new/x.csv.dvc")
        assert (root / "data/new/x.csv").read_text() == "22"
    assert Worktree(root).recorded_digest("data/new/x.csv") is not None


def test_data_from_another_repository(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    write(other, **{"data/x.csv": "one"})
    run(other, "git", "init", "-q", "-b", "main")
    run(other, "git", "add", ".")
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    run(other, "git", *identity, "commit", "-qm", "one")
    run(other, "git", "tag", "v1")
    write(other, **{"data/x.csv": "two"})
    run(other, "git", *identity, "commit", "-qam", "two")
    with Dvc(root) as client:
        client.import_git(str(other), "data/x.csv", rev="v1", out="data/theirs/x.csv")
        assert (root / "data/theirs/x.csv").read_text() == "one"
        client.push("data/theirs/x.csv.dvc")
    shutil.rmtree(root / ".dvc/cache")
    (root / "data/theirs/x.csv").unlink()
    with Dvc(root) as client:
        client.checkout("data/theirs/x.csv.dvc")
        assert (root / "data/theirs/x.csv").read_text() == "one"
        with pytest.raises(RemoteUnreachable):
            client.import_git(str(tmp_path / "nowhere"), "x", rev=None, out="data/z")


def test_storage_that_does_not_answer_or_have_it(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/storage"
    root = tmp_path / "repository"
    root.mkdir()
    make_repository(root, Storage(url=url))
    train(root, "first")
    with Dvc(root) as client:
        client.commit(PIPELINE, "train")
        with pytest.raises(RemoteUnreachable, match="cannot push to storage"):
            client.push(PIPELINE, "train")
    write(root, **{".dvc/config": compile_storage(Storage())[0].text})
    shutil.rmtree(root / ".dvc/cache")
    (root / "models/m").unlink()
    with (
        Dvc(root) as client,
        pytest.raises(MlspecError, match=r"storage does not have .*models/m"),
    ):
        client.checkout(PIPELINE, "train")


def test_storage_that_cannot_be_written(root: Path) -> None:
    write(root, **{".mlspec/storage": "a file"})
    train(root, "first")
    with Dvc(root) as client:
        client.commit(PIPELINE, "train")
        with pytest.raises(RemoteUnreachable, match="cannot push to storage"):
            client.push(PIPELINE, "train")


@pytest.mark.parametrize("left", ["", '{"write": '])
def test_what_a_killed_dvc_left_is_mended(root: Path, left: str) -> None:
    train(root, "first")
    write(root, **{".dvc/tmp/rwlock": left})
    with Dvc(root) as client:
        client.commit(PIPELINE, "train")


def test_a_lock_that_somebody_holds_is_waited_for(root: Path) -> None:
    holder = (
        "import pathlib, sys, zc.lockfile\n"
        "pathlib.Path('.dvc/tmp').mkdir(exist_ok=True)\n"
        "lock = zc.lockfile.LockFile('.dvc/tmp/lock')\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    train(root, "first")
    with (
        subprocess.Popen(
            [sys.executable, "-c", holder],
            cwd=root,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as process,
        Dvc(root) as client,
    ):
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "held\n"
        # DVC alone gives up after three seconds
        threading.Timer(4, process.stdin.close).start()
        client.commit(PIPELINE, "train")
    assert "train" in parse_lock((root / LOCK).read_text())


def test_a_process_that_was_killed_is_started_again(root: Path) -> None:
    train(root, "first")
    with Dvc(root) as client:
        client.warm_up(brings_back=True)
        assert client._process is not None
        client._process.kill()
        with pytest.raises(MlspecError, match="DVC ended before it could compare"):
            client.status([PIPELINE])
        assert client.status([PIPELINE]) != {}


def test_a_folder_that_dvc_does_not_know(tmp_path: Path) -> None:
    with Dvc(tmp_path) as client, pytest.raises(MlspecError, match=r"no folder \.dvc"):
        client.status()


def test_modules_of_the_repository_do_not_replace_dvcs(root: Path) -> None:
    write(root, **{"json.py": "raise SystemExit(9)", "dvc/__init__.py": "raise SystemExit(9)"})
    with Dvc(root) as client:
        assert client.status(["pipelines/m/dvc.yaml:report"]) != {}


def test_mlspec_itself_does_not_import_dvc() -> None:
    script = (
        "import sys, mlspec.dvc.client, mlspec.dvc.lock, mlspec.worktree, mlspec.imports\n"
        "heavy = {'dvc', 'ruamel.yaml', 'pathspec', 'rich', 'numpy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
