"""The code of a stage is found in its command and in what its programs import."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlspec import modules
from mlspec.cache import Cache
from mlspec.imports import trace_code
from mlspec.worktree import Worktree


def make(root: Path, files: Mapping[str, str]) -> Worktree:
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return Worktree(root)


PROJECT = {
    "src/train.py": "import helper, os, numpy\nfrom pkg.deep import one\nimport json as j",
    "src/helper.py": "def f():\n    import late",
    "src/late.py": "",
    "src/unrelated.py": "",
    "src/pkg/__init__.py": "",
    "src/pkg/deep/__init__.py": "from . import two\nfrom .. import sibling",
    "src/pkg/deep/one.py": "from ..other import *",
    "src/pkg/deep/two.py": "from pkg.deep.one import x",
    "src/pkg/deep/three.py": "",
    "src/pkg/sibling.py": "",
    "src/pkg/other.py": "import broken",
    "src/broken.py": "def (",
    "run.sh": "set -e\nfor x in 1 2; do\n  python src/helper.py $x\ndone\n",
    "conf/a.yaml": "",
    "analysis.R": "",
    "Makefile": "",
}
TRAIN = {
    "src/train.py",
    "src/helper.py",
    "src/late.py",
    "src/pkg/__init__.py",
    "src/pkg/deep/__init__.py",
    "src/pkg/deep/one.py",
    "src/pkg/deep/two.py",
    "src/pkg/sibling.py",
    "src/pkg/other.py",
    "src/broken.py",
}
HELPER = {"src/helper.py", "src/late.py"}
ONE = {
    "src/pkg/__init__.py",
    "src/pkg/deep/__init__.py",
    "src/pkg/deep/one.py",
    "src/pkg/deep/two.py",
    "src/pkg/sibling.py",
    "src/pkg/other.py",
    "src/broken.py",
}


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("python src/train.py --lr 0.1", TRAIN),
        ("python3.11 -u -W ignore -X dev src/train.py", TRAIN),
        (".venv/bin/python ./src/train.py", TRAIN),
        ("A=1 B='x y' python 'src/train.py'", TRAIN),
        ("uv run python src/train.py", TRAIN),
        ("cd src && python train.py", TRAIN),
        ("cd $DVC_ROOT/src; python train.py", TRAIN),
        ('python "$PWD/src/train.py"', TRAIN),
        ("torchrun --nproc_per_node=2 src/train.py", TRAIN),
        ("python -m coverage run src/train.py", TRAIN),
        ("python - < src/train.py", TRAIN),
        ("echo $(python src/train.py)", TRAIN),
        ("true \\\n && python \\\n src/train.py", TRAIN),
        ("python src/helper.py && python src/train.py", TRAIN),
        ("bash -c 'python src/helper.py'", HELPER),
        ("bash run.sh", {*HELPER, "run.sh"}),
        ("./run.sh --fast", {*HELPER, "run.sh"}),
        ("python src/helper.py # don't", HELPER),
        ("PYTHONPATH=src python -m pkg.deep.one", ONE),
        ("export PYTHONPATH=src:$PYTHONPATH && python -m pkg.deep.one", ONE),
        ("env PYTHONPATH=$PWD/src python -um pkg.deep.one", ONE),
        ("accelerate launch -m pkg.deep.one", ONE),
        ("python -m src.helper", HELPER),
        ("cd src && python -c 'import helper'", HELPER),
        ("python src/helper.py conf/a.yaml", {*HELPER, "conf/a.yaml"}),
        (
            "python src/helper.py --config=conf/a.yaml src/unrelated.py",
            {*HELPER, "conf/a.yaml", "src/unrelated.py"},
        ),
        ("Rscript analysis.R", {"analysis.R"}),
        ("make train", {"Makefile"}),
        ("python src/missing.py", set()),
        ("python -m pytest", set()),
        ("python -c 'import sys; sys.exit()'", set()),
        ("python", set()),
        ("echo 'python src/train.py'", set()),
        ("", set()),
    ],
)
def test_commands(tmp_path: Path, command: str, expected: set[str]) -> None:
    assert set(trace_code(command, make(tmp_path, PROJECT))) == expected


def test_the_path_of_a_script_may_be_absolute(tmp_path: Path) -> None:
    tree = make(tmp_path, PROJECT)
    assert set(trace_code(f"python {tree.root}/src/helper.py", tree)) == HELPER


@pytest.mark.parametrize(
    ("script", "files", "imported"),
    [
        ("import a.b as c", ["a/__init__.py", "a/b.py"], ["a/__init__.py", "a/b.py"]),
        ("from a import b", ["a/__init__.py", "a/b.py", "a/c.py"], ["a/__init__.py", "a/b.py"]),
        ("from a.b import c", ["a/__init__.py", "a/b.py"], ["a/__init__.py", "a/b.py"]),
        ("import space.b", ["space/b.py"], ["space/b.py"]),
        ("import space.deep.b", ["space/deep/b.py"], ["space/deep/b.py"]),
        ("try:\n import x\nexcept ImportError:\n import y", ["x.py", "y.py"], ["x.py", "y.py"]),
        ("if 1:\n pass\nelse:\n import x", ["x.py"], ["x.py"]),
        ("match 1:\n case 1:\n  import x", ["x.py"], ["x.py"]),
        ("async def f():\n async with a:\n  import x", ["x.py"], ["x.py"]),
        ("class A:\n import x", ["x.py"], ["x.py"]),
        (
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n import x\nelse:\n import y",
            ["x.py", "y.py"],
            ["y.py"],
        ),
        ("import typing\nif typing.TYPE_CHECKING:\n import x", ["x.py"], []),
        ("import importlib\nimportlib.import_module('x')", ["x.py"], ["x.py"]),
        ("from importlib import import_module\nm = [import_module('x.y')]", ["x/y.py"], ["x/y.py"]),
        ("__import__('x')", ["x.py"], ["x.py"]),
        ("import importlib\nimportlib.import_module('x' + '')", ["x.py"], []),
        ("# coding: latin-1\nimport x # \xe9", ["x.py"], ["x.py"]),
        ("import random", ["random.py"], ["random.py"]),
        ("import sys", ["sys.py"], []),
        ("import json", ["../json.py"], []),
        ("import lib", ["../lib.py"], ["../lib.py"]),
        ("import lib", ["../src/lib/__init__.py"], ["../src/lib/__init__.py"]),
        ("import data", ["../data/x.py"], []),
        ("import x", ["x/__init__.py", "x.py"], ["x/__init__.py"]),
        ("import x.", ["x.py"], []),
        ("", ["x.py"], []),
    ],
)
def test_imports(tmp_path: Path, script: str, files: list[str], imported: list[str]) -> None:
    tree = make(tmp_path, {f"app/{file}": "" for file in files})
    (tmp_path / "app/main.py").write_bytes(script.encode("latin-1"))
    expected = {os.path.normpath(f"app/{file}") for file in imported}
    assert set(trace_code("python app/main.py", tree)) == {"app/main.py", *expected}


def test_a_star_takes_what_the_package_exports(tmp_path: Path) -> None:
    tree = make(
        tmp_path,
        {"m.py": "from p import *", "p/__init__.py": "__all__ = ['a']", "p/a.py": "", "p/b.py": ""},
    )
    assert trace_code("python m.py", tree) == ("m.py", "p/__init__.py", "p/a.py")


def test_a_package_runs_its_main(tmp_path: Path) -> None:
    files = {"p/__init__.py": "", "p/__main__.py": "from .a import b", "p/a.py": "", "p/c.py": ""}
    tree = make(tmp_path, files)
    expected = ("p/__init__.py", "p/__main__.py", "p/a.py")
    assert trace_code("python -m p", tree) == expected
    assert set(trace_code("python p", tree)) == set(expected)


def test_imports_in_a_circle_end(tmp_path: Path) -> None:
    tree = make(tmp_path, {"a.py": "import b", "b.py": "import a"})
    assert trace_code("python a.py", tree) == ("a.py", "b.py")


def test_what_stages_read_and_write_is_no_code(tmp_path: Path) -> None:
    tree = make(tmp_path, {"a.py": "", "in/x.json": "", "out.json": "", "conf.json": ""})
    command = "python a.py --in in/x.json --out out.json --conf conf.json > conf.json"
    assert trace_code(command, tree, data={"in", "out.json"}) == ("a.py", "conf.json")


def test_a_file_that_only_git_knows_to_be_written_by_hand(tmp_path: Path) -> None:
    make(tmp_path, {"a.py": "", "words.txt": "", "report.txt": ""})
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "words.txt"], cwd=tmp_path, check=True)
    command = "python a.py words.txt report.txt > log.txt"
    assert trace_code(command, Worktree(tmp_path)) == ("a.py", "words.txt")


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        (["lib"], {"lib/a.py", "lib/b.sql", "lib/deep/c.py"}),
        (["./lib/a.py"], {"lib/a.py"}),
        (["lib/*.py"], {"lib/a.py"}),
        (["lib/**/*.py"], {"lib/a.py", "lib/deep/c.py"}),
        (["**/?.sql"], {"lib/b.sql"}),
        (["nothing", "nothing/*.py"], set()),
    ],
)
def test_code_that_the_spec_names(tmp_path: Path, extra: list[str], expected: set[str]) -> None:
    tree = make(
        tmp_path,
        {
            "lib/a.py": "",
            "lib/b.sql": "",
            "lib/deep/c.py": "",
            "lib/__pycache__/a.pyc": "",
            "m.py": "",
        },
    )
    assert set(trace_code("true", tree, extra)) == expected


def test_an_unchanged_file_is_parsed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, PROJECT)
    cache = Cache(tmp_path / "cache.db", "test")
    first = trace_code("python src/train.py", Worktree(tmp_path, cache))
    monkeypatch.delattr(modules, "read_source")
    assert trace_code("python src/train.py", Worktree(tmp_path, cache)) == first


@pytest.mark.parametrize("kept", [b"", b"3", b"[1]", b'[[[0, "x"]], []]', b'{"a": 1}', b"\xff"])
def test_a_cache_that_makes_no_sense_is_ignored(tmp_path: Path, kept: bytes) -> None:
    make(tmp_path, {"a.py": "import b", "b.py": ""})
    cache = Cache(tmp_path / "cache.db", "test")
    trace_code("python a.py", Worktree(tmp_path, cache))
    for key, _ in list(cache.items("imports")):
        cache.put("imports", key, kept)
    assert trace_code("python a.py", Worktree(tmp_path, cache)) == ("a.py", "b.py")


def test_python_imports_nothing_that_was_not_found(tmp_path: Path) -> None:
    files = {path: text for path, text in PROJECT.items() if path != "src/broken.py"}
    files["src/broken.py"] = ""
    files["src/pkg/other.py"] = "x = 1"
    files["src/train.py"] = (
        "import sys, helper\nfrom pkg.deep import one\nhelper.f()\n"
        "print(*[m.__file__ for m in list(sys.modules.values()) if getattr(m, '__file__', None)])\n"
    )
    tree = make(tmp_path, files)
    done = subprocess.run(
        [sys.executable, "src/train.py"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded = {
        Path(file).resolve().relative_to(tree.root).as_posix()
        for file in done.stdout.split()
        if Path(file).resolve().is_relative_to(tree.root)
    }
    assert {"src/late.py", "src/pkg/sibling.py"} <= loaded
    assert loaded <= set(trace_code("python src/train.py", tree))
