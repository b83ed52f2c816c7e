"""Compiled pipelines are run by real DVC, and what DVC writes is recomputed byte for byte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlspec.compilers.dvc import (
    compile_pipeline,
    compile_storage,
    lock_path,
    params_path,
    pipeline_path,
    stage_command,
    stage_params,
    stage_paths,
)
from mlspec.dvc.lock import dump_lock, entry_as_dict, parse_lock, with_entry
from mlspec.fingerprint import entry_fingerprint, stage_fingerprint
from mlspec.spec.models import Dataset, Model, Python, Stage, Storage
from mlspec.worktree import Worktree

COMMANDS = {
    "plain": "python make.py plain",
    "braces": "X=1; python make.py braces \"${X}\" $X \\${X} '${HOME}'",
    "quotes": """python make.py quotes 'it''s' "a: b # c" {x} [y] & wait""",
    "lines": "python make.py \\\n  lines\n\necho done\n",
    "long": "python make.py long "
    + " ".join(f"--an-option-that-is-long-{n} 0{n}" for n in range(20)),
    "unicode": "python make.py unicode 'grüße 🙂 \x7f' ",
    "folder": "python make.py folder/one && python make.py folder/deep/twö",
}
PARAMS = {
    "plain": {
        "answer": "yes",
        "octal": "0123",
        "exponent": "1e5",
        "hex": "0x1F",
        "date": "2020-01-01",
    },
    "braces": {"template": "${X}", "tiny": 1e-05, "whole": 1.0, "huge": 1e300, "negative": -0.5},
    "long": {"text": "words " * 40, "nested": {"list": [1, [2.5, None]], "empty": {}, "none": []}},
    "unicode": {"näme": "🙂", "lines": "a\nb\n", "tab": "\t", "sep": "\u2028", "big": 2**53},
}
MAKE = """\
import pathlib, sys
path = pathlib.Path("out", sys.argv[1])
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text("\\n".join(sys.argv))
pathlib.Path("out.json").write_text('{"score": 0.5}')
"""


def run(root: Path, *command: str) -> str:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(root / ".dvc/tmp/site"),
    }
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dvc(root: Path, *arguments: str) -> str:
    return run(root, sys.executable, "-m", "dvc", *arguments)


@pytest.fixture(scope="module")
def model() -> Model:
    stages = {
        name: Stage(
            command=command,
            inputs=("raw", "data/extra.csv"),
            outputs=(f"out/{name}",),
            params=PARAMS.get(name, {}),
        )
        for name, command in COMMANDS.items()
    }
    stages["metrics"] = Stage(
        command="python make.py unused && cp out.json metrics.json",
        inputs=("out/plain",),
        outputs=("out/unused",),
        metrics="metrics.json",
    )
    return Model(stages=stages)


@pytest.fixture(scope="module")
def datasets() -> dict[str, Dataset]:
    return {"raw": Dataset(path="data/raw")}


@pytest.fixture(scope="module")
def root(
    tmp_path_factory: pytest.TempPathFactory, model: Model, datasets: dict[str, Dataset]
) -> Path:
    root = tmp_path_factory.mktemp("repository")
    run(root, "git", "init", "-q")
    (root / "data/raw/deep").mkdir(parents=True)
    (root / "data/raw/b").write_text("b")
    (root / "data/raw/deep/ä 🙂").write_text("a")
    (root / "data/raw/deep/run.sh").write_text("x")
    (root / "data/extra.csv").write_text("x,y\r\n1,2\r\n")
    (root / "data/extra.csv").chmod(0o755)
    (root / "make.py").write_text(MAKE)
    code = dict.fromkeys(model.stages, ("make.py",))
    files = compile_pipeline("m", model, python=Python(), datasets=datasets, code=code)
    for file in (*files, *compile_storage(Storage())):
        (root / file.path).parent.mkdir(parents=True, exist_ok=True)
        (root / file.path).write_text(file.text)
    dvc(root, "repro", "-q", pipeline_path("m"))
    return root


def test_dvc_accepts_and_agrees(root: Path) -> None:
    assert json.loads(dvc(root, "status", "--json")) == {}
    assert "didn't change, skipping" in dvc(root, "repro", "--dry", pipeline_path("m"))
    assert f"{pipeline_path('m')}:plain" in dvc(root, "dag", "--dot")
    assert json.loads(dvc(root, "metrics", "show", "--json"))[""]["data"]["metrics.json"][
        "data"
    ] == {"score": 0.5}
    dvc(root, "push", "-q")
    assert (root / ".mlspec/storage/files/md5").is_dir()


@pytest.mark.parametrize("stage", COMMANDS)
def test_the_command_that_ran_is_the_one_that_was_written(
    root: Path, model: Model, stage: str
) -> None:
    entry = parse_lock((root / lock_path("m")).read_text())[stage]
    assert entry.cmd == stage_command(model.stages[stage])


def test_braces_reached_the_shell(root: Path) -> None:
    assert (root / "out/braces").read_text().splitlines()[2:] == ["1", "1", "${X}", "${HOME}"]


def test_the_lock_is_written_byte_for_byte(root: Path) -> None:
    text = (root / lock_path("m")).read_text()
    entries = parse_lock(text)
    assert dump_lock(entries) == text
    for stage, entry in entries.items():
        assert with_entry(text, stage, entry) == text


def test_digests_and_fingerprints_are_dvcs(
    root: Path, model: Model, datasets: dict[str, Dataset]
) -> None:
    entries = parse_lock((root / lock_path("m")).read_text())
    tree = Worktree(root)
    for stage, entry in entries.items():
        for item in (*entry.deps, *entry.outs):
            assert tree.digest(item.path) == item.digest, item.path
        paths = stage_paths(model.stages[stage], datasets=datasets, code=("make.py",))
        digests = {path: tree.digest(path) for path in paths.deps}
        assert entry_fingerprint(entry_as_dict(entry)) == stage_fingerprint(
            stage_command(model.stages[stage]),
            {path: digest.md5 for path, digest in digests.items() if digest},
            {params_path("m"): stage_params(Python(), stage, model.stages[stage])},
            paths.writes,
        )


def test_stages_can_read_their_params(root: Path) -> None:
    params = json.loads((root / params_path("m")).read_text())
    assert {name: params[name] for name in PARAMS} == PARAMS


def test_absent_data_have_the_digest_of_their_data_file(root: Path) -> None:
    (root / "own").mkdir()
    (root / "own/x").write_text("x")
    dvc(root, "add", "-q", "own")
    tree = Worktree(root)
    assert tree.recorded_digest("own") == tree.digest("own")
