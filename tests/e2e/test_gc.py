"""`mlspec gc` removes files for good: never what a branch, a tag, a pin or a target needs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
EVERYTHING = ("--keep-days", "0", "--keep-versions", "1")
NOTES = """
from pathlib import Path as _Path

_notes = _Path("build/notes")
_notes.mkdir(parents=True, exist_ok=True)
(_notes / "same.txt").write_text("the same for all\\n")
(_notes / "threshold.txt").write_text(_Path("pipelines/loans/params.json").read_text())
"""
SERVED = """
from pathlib import Path
from mlspec.git import Git
from mlspec.ledger.entry import make_entry
from mlspec.ledger.paths import deployment_path
from mlspec.ledger.records import Deployed
from mlspec.ledger.store import Ledger

git = Git(Path.cwd())
served = {"deployment": "loans", "model": "loans", "release": "c" * 64, "status": "serving"}
records = {
    deployment_path("loans", target): Deployed(target=target, version=5, place="far", **served)
    for target in ("staging", "production")
}
Ledger(git).record(records, make_entry(git, "apply"))
"""
KILLED = """
import os, signal, sys
from mlspec.dvc import shelf
from mlspec.cli import run

unlink, left = os.unlink, [int(sys.argv.pop(1))]

def dying(*arguments, **options):
    if "dir_fd" in options:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    unlink(*arguments, **options)

shelf.os.unlink = dying
run()
"""


def objects_in(folder: Path) -> set[str]:
    return {path.parent.name + path.name for path in folder.glob("files/md5/??/*")}


@pytest.fixture(scope="module")
def grown(start_project: Callable[[], Any]) -> Any:
    """Five versions, told apart by who still needs them; storage and the bare remote are beside it.

    Version 1 is tagged, the spec of a branch pins 2, nobody needs 3, 4 is on a branch of the remote
    and comes before 5, which serves on two other machines; the branch main has 5.
    """
    project = start_project()
    home = project.root.parent
    project.git("init", "--quiet", "--bare", "--initial-branch", "main", str(home / "origin.git"))
    project.git("remote", "add", "origin", str(home / "origin.git"))
    project.write("mlspec.yaml", project.read() + f"\nstorage: {{url: {home / 'storage'}}}\n")
    project.edit("outputs: [models/loans.onnx]", "outputs: [models/loans.onnx, build/notes]")
    project.write("src/train.py", project.read("src/train.py") + NOTES)
    project.commit("Start")
    for version in range(1, 6):
        if version > 1:
            project.edit(f"threshold: {43 + version}", f"threshold: {44 + version}")
        assert "train" in project.apply()
        match version:
            case 1:
                project.commit("One")
                project.git("tag", "-a", "-m", "The first", "v1")
            case 2:
                project.git("stash", "--quiet")
                project.git("checkout", "--quiet", "-b", "hold")
                project.write("pinned.yaml", "x: {model: loans, pin: {production: 2}}\n")
                project.commit("Hold on to the second")
                project.git("checkout", "--quiet", "main")
                project.git("stash", "pop", "--quiet")
            case 4:
                project.git("checkout", "--quiet", "-b", "try")
                project.commit("Four")
                project.git("push", "--quiet", "origin", "try")
                project.git("checkout", "--quiet", "main")
                project.git("branch", "--quiet", "-D", "try")
                project.git("checkout", "--quiet", "origin/try", "--", ".")
    project.commit("Five")
    project.run(sys.executable, "-c", SERVED)
    project.git("push", "--quiet", "--tags", "origin", "main", "refs/mlspec/ledger")
    return project


@pytest.fixture
def project(grown: Any, tmp_path: Path) -> Any:
    """The grown project with a remote and a storage of the test's own."""
    home = grown.root.parent
    for name in ("origin.git", "storage", grown.root.name):
        shutil.copytree(home / name, tmp_path / name, symlinks=True)
    project = replace(grown, root=tmp_path / grown.root.name, journal=tmp_path / "journal")
    project.git("remote", "set-url", "origin", str(tmp_path / "origin.git"))
    local = f"['remote \"storage\"']\n    url = {tmp_path / 'storage'}\n"
    project.write(".dvc/config.local", local)
    return project


def storage(project: Any) -> Path:
    return Path(project.root.parent / "storage")


def artifact(project: Any, version: int) -> str:
    shown = project.json("show", f"model.loans@{version}")
    return str(shown["artifact"]["md5"])


def check_clones(project: Any, tmp_path: Path) -> None:
    """In fresh clones DVC alone brings what every branch and tag names."""
    for name in ("main", "try", "v1"):
        root = tmp_path / name
        origin = str(tmp_path / "origin.git")
        project.run("git", "clone", "--quiet", "--branch", name, origin, str(root))
        shutil.copy(project.root / ".dvc/config.local", root / ".dvc/config.local")
        replace(project, root=root).run("dvc", "pull", "--quiet")
        assert (root / "models/loans.onnx").exists()
        assert (root / "build/notes/threshold.txt").exists()


def test_only_what_nobody_needs_goes(project: Any, tmp_path: Path) -> None:
    before = project.json("plan")["steps"]
    default = project.json("gc", "--dry-run")
    assert (default["versions"], default["runs"]) == ([], []), "all of it is recent"
    refused = project.mlspec("gc", *EVERYTHING, code=1)
    assert "- model.loans  version 3, what 2 runs wrote" in refused.stdout
    assert "nobody is here to confirm" in refused.stderr
    lost = artifact(project, 3)
    assert lost in objects_in(storage(project)), "nothing was asked for yet"

    stranger = storage(project) / "files/md5/ab" / ("c" * 30)
    stranger.parent.mkdir(exist_ok=True)
    stranger.write_text("of another project\n")
    alone = project.json("gc", "--dry-run", *EVERYTHING)
    assert [place["objects"] == [] for place in alone["places"]] == [False, True]
    assert alone["versions"] == [], "storage keeps the only version of it"

    done = project.json("gc", "--yes", "--shared", *EVERYTHING)
    assert done["versions"] == ["model.loans@3"]
    why = {kept["address"]: kept["why"] for kept in done["kept"]}
    told = (why["model.loans@2"], why["model.loans@4"], why["model.loans@5"])
    assert told == ("pinned", "before the one that serves", "served")
    for folder in (storage(project), project.root / ".dvc/cache"):
        assert lost not in objects_in(folder)
    assert stranger.exists()
    assert {artifact(project, version) for version in (1, 2, 4, 5)} <= objects_in(storage(project))
    check_clones(project, tmp_path)
    assert project.json("plan")["steps"] == before
    assert project.json("gc", "--dry-run", "--shared", *EVERYTHING)["bytes"] == 0

    assert project.json("show", "model.loans@3")["files"] == "removed by `mlspec gc`"
    entry = project.json("log", "model.loans", "-n", "1")[0]
    assert (entry["command"], entry["action"]) == ("gc", "free")
    assert entry["detail"] == "the files of version 3 and 2 runs are removed"
    assert project.mlspec("fsck").returncode == 0

    project.edit("threshold: 49", "threshold: 47")
    step = project.plan()["stage.loans.train"]
    assert step["action"] == "run"
    assert "`mlspec gc` removed its outputs" in step["reason"]
    assert "train" in project.apply("--select", "model.loans")
    assert "files" not in project.json("show", "model.loans@3"), "the same bytes were made again"
    assert lost in objects_in(storage(project))


def test_killed_at_any_moment_it_leaves_a_good_state(project: Any) -> None:
    planned = project.json("gc", "--dry-run", *EVERYTHING)
    places = {place["name"]: set(place["objects"]) for place in planned["places"]}
    assert any(md5.endswith(".dir") for md5 in places["storage"])
    folders = {"storage": storage(project), "cache": project.root / ".dvc/cache"}
    kept = {name: objects_in(folder) - places[name] for name, folder in folders.items()}
    before = project.json("plan")["steps"]
    for deaths in (1, 2):
        gc = (str(deaths), "gc", "--yes", *EVERYTHING)
        project.run(sys.executable, "-c", KILLED, *gc, code=-9)
        assert project.json("plan")["steps"] == before
        for name, folder in folders.items():
            assert kept[name] <= objects_in(folder)
    assert project.json("gc", "--yes", *EVERYTHING)["removed"]["objects"] > 0
    for name, folder in folders.items():
        assert objects_in(folder) == kept[name], "nothing is left behind"
    entries = project.json("log", "-n", "20")
    assert sum(entry["action"] == "interrupt" for entry in entries) == 2
    assert not (project.root / ".git/mlspec-gc.json").exists()
    assert project.mlspec("fsck").returncode == 0


def test_storage_that_only_dvc_reaches(project: Any) -> None:
    config = project.read(".dvc/config.local")
    project.write(".dvc/config.local", f"{config}    verify = true\n")
    project.git("fetch", "--quiet", "origin")
    lost = artifact(project, 3)
    done = project.json("gc", "--yes", *EVERYTHING)
    assert [place["name"] for place in done["places"]] == ["cache", "storage"]
    assert done["versions"] == ["model.loans@3"]
    assert lost not in objects_in(storage(project))
    assert {artifact(project, version) for version in (1, 2, 4, 5)} <= objects_in(storage(project))


def test_what_is_not_known_here_stops_it(project: Any, tmp_path: Path) -> None:
    other = replace(project, root=tmp_path / "other")
    project.run("git", "clone", "--quiet", str(tmp_path / "origin.git"), str(other.root))
    other.write("unknown.txt", "to the first one\n")
    other.commit("New work")
    other.git("push", "--quiet", "origin", "HEAD:refs/heads/new")
    before = objects_in(storage(project))
    refused = project.mlspec("gc", "--yes", *EVERYTHING, code=1).stderr
    assert "has commits that are not known here: heads/new" in refused

    project.git("fetch", "--quiet", "origin", "refs/heads/new:refs/remotes/origin/new")
    for damaged in ("dvc.lock", "data/broken.dvc"):
        project.write(damaged, "version https://git-lfs.github.com/spec/v1\n")
        refused = project.mlspec("gc", "--yes", *EVERYTHING, code=1).stderr
        assert f"{damaged} " in refused and "is not a file that DVC writes" in refused
        (project.root / damaged).unlink()
    assert objects_in(storage(project)) == before
    assert json.loads(project.mlspec("gc", "--dry-run", "--json").stdout)["bytes"] == 0
