"""What is recorded and stored without DVC is, byte for byte, what DVC itself would have left."""

from __future__ import annotations

import json
import random
import shutil
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from mlspec.compilers.dvc import compile_pipeline, compile_storage, lock_path, pipeline_path
from mlspec.dvc import locking
from mlspec.dvc.client import LOG, Dvc
from mlspec.dvc.hashing import object_path
from mlspec.dvc.lock import parse_lock
from mlspec.dvc.worker import Worker
from mlspec.errors import Locked, MlspecError, RemoteUnreachable
from mlspec.spec.models import Dataset, Model, Python, Stage, Storage

PIPELINE, LOCK = pipeline_path("m"), lock_path("m")
NAMES = ["m.bin", "a b", "größe", "🙂.json", ".hidden", "-x", "a.b.c", "0123", "yes", "n~1", "A&B"]
FOLDERS = ["", "models/", "out/deep/", "ä ö/"]
IGNORES = [
    {},
    {".gitignore": "*.pyc\n\n# note\n/venv"},
    {".gitignore": "models/\n*.json\n"},
    {".gitignore": "*\n!*/\n!.gitignore\n!dvc.*\n"},
    {"models/.gitignore": "/m.bin\n/other", "out/.gitignore": "deep/*\n"},
    {".gitignore": "**/m.bin\n", "models/.gitignore": "!m.bin\n"},
    {".git/info/exclude": "a*\n"},
]


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DVC_SITE_CACHE_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_GLOBAL_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def write(path: Path, data: bytes, *, executable: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(0o755 if executable else 0o644)


def content(draw: random.Random) -> bytes:
    size = draw.choice([0, 1, 20, 20, 300, 2**16, 2**16 + 1, 200_000])
    return draw.choice([b"", draw.randbytes(size), b"text\n" * (size // 5)])


def write_any(path: Path, draw: random.Random) -> None:
    """A file or a folder."""
    if draw.random() < 0.6:
        write(path, content(draw), executable=draw.random() < 0.3)
        return
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    (path / "empty").mkdir(parents=True)
    for name in draw.sample(NAMES, draw.randint(0, 5)):
        folder = path / draw.choice(["", "x", "x/y", "ü"])
        if not (folder / name).exists():
            write(folder / name, content(draw), executable=draw.random() < 0.3)


def make_model(draw: random.Random) -> Model:
    paths = [folder + name for folder in FOLDERS for name in NAMES]
    draw.shuffle(paths)
    stages: dict[str, Stage] = {}
    for name in draw.sample(["train", "a-b", "x1", "_z", "report"], draw.randint(1, 3)):
        before = [out for stage in stages.values() for out in stage.outputs]
        stages[name] = Stage(
            command=draw.choice(
                ["true", "python x.py --a 'b: c' # d", "echo ${A} " + "word " * 40]
            ),
            inputs=tuple(draw.sample(["raw", *before], draw.randint(0, 1 + len(before) // 2))),
            outputs=tuple(paths.pop() for _ in range(draw.randint(1, 3))),
            metrics=f"metrics/{name}.json" if draw.random() < 0.6 else None,
            params=draw.choice(
                [{}, {"lr": 0.1, "size": 3}, {"deep": {"a": [1, 1e-5, None, "yes"]}, "s": "ä\nb "}]
            ),
        )
    return Model(stages=stages)


def make_repository(root: Path, model: Model, ignores: dict[str, str]) -> None:
    root.mkdir()
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    files = compile_pipeline(
        "m",
        model,
        python=Python(),
        datasets={"raw": Dataset(path="data/raw")},
        code=dict.fromkeys(model.stages, ("make.py",)),
    )
    for file in (*files, *compile_storage(Storage())):
        write(root / file.path, file.text.encode())
    for path, text in ignores.items():
        write(root / path, text.encode())
    write(root / "make.py", b"make\n", executable=True)


def run_all(root: Path, model: Model, draw: random.Random) -> None:
    """What the commands would write."""
    for stage in model.stages.values():
        for path in stage.outputs:
            write_any(root / path, draw)
        if stage.metrics:
            write(root / stage.metrics, json.dumps({"score": draw.random()}).encode())


def tree(root: Path, *parts: str) -> dict[str, tuple[int, bytes]]:
    """Mode and bytes of every file of those that DVC writes."""
    files = [path for part in parts for path in (root / part).rglob("*") if path.is_file()]
    return {
        str(path.relative_to(root)): (stat.S_IMODE(path.stat().st_mode), path.read_bytes())
        for path in files
    }


def written(root: Path) -> dict[str, tuple[int, bytes]]:
    ignores = {str(p.relative_to(root)): (0, p.read_bytes()) for p in root.rglob(".gitignore")}
    return {**tree(root, ".dvc/cache", "pipelines"), **ignores}


def worktree(root: Path, model: Model) -> dict[str, bytes]:
    found = {}
    for stage in model.stages.values():
        for top in [root / path for path in (*stage.outputs, stage.metrics) if path]:
            for path in [top, *top.rglob("*")]:
                if path.is_file():
                    found[str(path.relative_to(root))] = path.read_bytes()
    return found


@pytest.mark.parametrize("seed", range(32))
def test_any_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    draw = random.Random(seed)
    model, ignores = make_model(draw), draw.choice(IGNORES)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for root in (ours, theirs):
        make_repository(root, model, ignores)
    worker = Worker(theirs)
    for turn in range(2):
        for root in (ours, theirs):
            again = random.Random(f"{seed} {turn}")
            write_any(root / "data/raw", again)
            run_all(root, model, again)
        before = worktree(ours, model)
        with Dvc(ours) as client:
            for name in model.stages:
                client.commit(PIPELINE, name)
                monkeypatch.chdir(theirs)
                worker.commit(PIPELINE, name)
            assert written(ours) == written(theirs)
            for name in model.stages:
                client.push(PIPELINE, name)
                worker.push(PIPELINE, name)
        storage = ".mlspec/storage"
        assert tree(ours, storage) == tree(theirs, storage)
        assert worktree(ours, model) == before
    assert not (ours / LOG).exists()

    monkeypatch.chdir(ours)
    judge = Worker(ours)
    assert judge.status([PIPELINE]) == {}
    left = written(ours)
    for name in model.stages:
        judge.commit(PIPELINE, name)
    assert written(ours) == left
    for path in worktree(ours, model):
        (ours / path).unlink()
    for name in model.stages:
        judge.checkout(PIPELINE, name)
    assert worktree(ours, model) == before


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with two stages, `a` and `b`, that have run."""
    root = tmp_path / "repository"
    stages = {
        name: Stage(
            command="true", inputs=("raw",), outputs=(f"out/{name}",), metrics=f"metrics/{name}"
        )
        for name in "ab"
    }
    make_repository(root, Model(stages=stages), {})
    write(root / "data/raw", b"x\n")
    for name in "ab":
        write(root / "out" / name, name.encode())
        write(root / "metrics" / name, b"1")
    return root


UNUSUAL = {
    "another cache": {".dvc/config.local": "[cache]\n    dir = ../elsewhere\n"},
    "links": {".dvc/config.local": "[cache]\n    type = hardlink,copy\n"},
    "staging": {".dvc/config.local": "[core]\n    autostage = true\n"},
    "ignored by DVC": {".dvcignore": "*.tmp\n"},
    "ignored by DVC, below": {"out/.dvcignore": "*.tmp\n"},
    "a comment in dvc.yaml that it has no words for": {
        PIPELINE: "stages:\n  a:\n    cmd: 'true'\n    wdir: ../..\n    deps:\n    - data/raw\n"
        "    outs:\n    - out/a:\n        desc: mine\n"
    },
}


@pytest.mark.parametrize("files", UNUSUAL.values(), ids=UNUSUAL)
def test_what_is_unusual_is_left_to_dvc(root: Path, files: dict[str, str]) -> None:
    for path, text in files.items():
        write(root / path, text.encode())
    with Dvc(root) as client:
        client.commit(PIPELINE, "a")
        assert client.status([f"{PIPELINE}:a"]) == {}
    assert (root / LOG).exists()
    assert ((root / ".dvc/cache").exists()) is ("dir = " not in next(iter(files.values())))


def test_settings_of_the_user_count(root: Path, tmp_path: Path) -> None:
    write(tmp_path / "DVC_GLOBAL_CONFIG_DIR/config", b"[cache]\n    type = copy\n")
    with Dvc(root) as client:
        client.commit(PIPELINE, "a")
    assert (root / LOG).exists()


REFUSED = {
    "tracked by SCM": lambda root: subprocess.run(["git", "add", "out/a"], cwd=root, check=True),
    "binary file": lambda root: write(root / "metrics/a", b"\0\1\2"),
    "out/a": lambda root: (root / "out/a").unlink(),
    "is git-ignored": lambda root: write(root / ".gitignore", b"dvc.lock\n"),
    "data/raw": lambda root: (root / "data/raw").unlink(),
    "params.json": lambda root: (root / "pipelines/m/params.json").unlink(),
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_dvc_refuses_is_refused_in_its_words(root: Path, reason: str) -> None:
    REFUSED[reason](root)
    with Dvc(root) as client, pytest.raises(MlspecError, match=f"record the run: .*{reason}"):
        client.commit(PIPELINE, "a")
    assert not (root / LOCK).exists()


def test_what_git_tracks_is_known_before(root: Path) -> None:
    with Dvc(root) as client:
        assert client.find_tracked(["out/a", "out/b"]) == []
        REFUSED["tracked by SCM"](root)
        assert client.find_tracked(["out/a", "out/b"]) == ["out/a"]


OTHER = f"""
from pathlib import Path
from mlspec.dvc.worker import Worker, _answer
worker = Worker(Path.cwd())
print("ready", flush=True)
for number in range(15):
    Path("out/b").unlink()
    Path("out/b").write_text(f"b {{number}}")
    for do in ("commit", "push"):
        request = {{"do": do, "with": {{"dvcfile": "{PIPELINE}", "stage": "b"}}}}
        assert "value" in _answer(worker, Path.cwd(), request)
"""


def test_at_the_same_time_as_dvc(root: Path) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", OTHER], cwd=root, text=True, stdout=subprocess.PIPE
        ) as other,
        Dvc(root) as client,
    ):
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
        number = 0
        while other.poll() is None or number < 15:
            number += 1
            write(root / "out/a", b"a %d" % number)
            client.commit(PIPELINE, "a")
            client.push(PIPELINE, "a")
            time.sleep(0.02)
        assert other.returncode == 0
        entries = parse_lock((root / LOCK).read_text())
        assert {out.path: out.size for name in "ab" for out in entries[name].outs} == {
            "metrics/a": 1,
            "metrics/b": 1,
            "out/a": len(f"a {number}"),
            "out/b": len("b 14"),
        }
        assert client.status([PIPELINE]) == {}
        for entry in entries.values():
            for out in entry.outs:
                assert (root / ".mlspec/storage" / object_path(out.md5)).is_file()


def test_a_stage_that_dvc_runs_is_waited_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        subprocess.Popen(
            [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
        ) as runner,
        Dvc(root) as client,
    ):
        assert runner.stdin is not None
        info = {"pid": runner.pid, "cmd": "dvc repro"}
        used = {"write": {str(root / "out/a"): info}, "read": {str(root / "data"): [info]}}
        write(root / ".dvc/tmp/rwlock", json.dumps(used).encode())
        client.commit(PIPELINE, "b")
        with monkeypatch.context() as patch, pytest.raises(Locked, match="dvc repro"):
            patch.setattr(locking, "PATIENCE", 0.1)
            client.commit(PIPELINE, "a")
        threading.Timer(0.5, runner.communicate).start()
        client.commit(PIPELINE, "a")
        assert runner.poll() is not None
    assert parse_lock((root / LOCK).read_text()).keys() == {"a", "b"}


def test_objects_that_are_damaged_are_replaced(root: Path) -> None:
    write(root / "out/a", b"a" * 100_000)
    with Dvc(root) as client:
        client.commit(PIPELINE, "a")
        client.push(PIPELINE, "a")
        outs = {out.path: out.md5 for out in parse_lock((root / LOCK).read_text())["a"].outs}
        good = tree(root, ".dvc/cache", ".mlspec/storage")
        for folder in (".dvc/cache", ".mlspec/storage"):
            for md5 in outs.values():
                write(root / folder / object_path(md5), b"half")
        client.commit(PIPELINE, "a")
        client.push(PIPELINE, "a")
        assert tree(root, ".dvc/cache", ".mlspec/storage") == good
        shutil.rmtree(root / ".dvc/cache")
        places = client.fetch(outs)
        assert places["out/a"].read_bytes() == b"a" * 100_000
        assert places["out/a"].is_relative_to(root / ".dvc/cache")
    assert not (root / LOG).exists()


def test_a_full_disk(root: Path) -> None:
    write(root / "out/a", b"a" * 100_000)
    script = f"""
import resource, sys
from pathlib import Path
from mlspec.dvc.client import Dvc
from mlspec.errors import MlspecError
with Dvc(Path.cwd()) as client:
    for do in (client.commit, client.push):
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        try:
            do("{PIPELINE}", "a")
        except MlspecError as error:
            print(type(error).__name__, error.message)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        do("{PIPELINE}", "a")
    print(client.status(["{PIPELINE}:a"]))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True
    )
    said = done.stdout.splitlines()
    assert said[0].startswith("MlspecError cannot record the run: ")
    assert said[1].startswith("RemoteUnreachable cannot push to storage: ")
    assert said[2:] == ["{}"]
    assert list((root / ".dvc/cache").rglob("*.tmp")) == []


def test_storage_that_is_not_a_folder(root: Path) -> None:
    write(root / ".mlspec/storage", b"a file")
    with Dvc(root) as client:
        client.commit(PIPELINE, "a")
        with pytest.raises(RemoteUnreachable, match="cannot push to storage"):
            client.push(PIPELINE, "a")
    assert not (root / LOG).exists()


def test_a_folder_is_in_storage_only_when_its_files_are(root: Path) -> None:
    (root / "out/a").unlink()
    write(root / "out/a/x", b"x")
    write(root / "out/a/deep/y", b"y")
    with Dvc(root) as client:
        client.commit(PIPELINE, "a")
        out = parse_lock((root / LOCK).read_text())["a"].outs[1]
        listed = json.loads((root / ".dvc/cache" / object_path(out.md5)).read_text())
        (root / ".dvc/cache" / object_path(listed[0]["md5"])).unlink()
        client.push(PIPELINE, "a")
    assert not (root / ".mlspec/storage" / object_path(out.md5)).exists()
