"""Staging checks what it is given before anything is built."""

from __future__ import annotations

import hashlib
import os

import pytest

from mlspec.errors import MlspecError
from mlspec.providers.local import release
from mlspec.providers.local.release import load_release, prune_releases, stage_release
from mlspec.providers.local.rundir import write_state


@pytest.fixture
def service(tmp_path):
    folder = tmp_path / "services" / "risk"
    folder.mkdir(parents=True)
    for name in ("service.py", "requirements.txt", "bentofile.yaml"):
        (folder / name).write_text(f"# {name}\n")
    return folder


def stage(root, service, artifact, md5):
    description = {"model": "m", "version": 1, "digest": md5, "commit": "c" * 40, "signature": {}}
    return stage_release(root, service, artifact, description, {"cpus": 1, "memory": None}, 0)


def left_behind(root):
    return [path.name for path in (root / ".mlspec" / "releases").iterdir()]


def test_another_artifact_than_the_registered_one_is_refused(tmp_path, service):
    artifact = tmp_path / "m.onnx"
    artifact.write_bytes(b"other bytes")
    with pytest.raises(MlspecError, match="but the version was registered with"):
        stage(tmp_path, service, artifact, "0" * 32)
    assert left_behind(tmp_path) == []


def test_a_service_that_is_not_built_says_why_and_leaves_nothing(tmp_path, service):
    artifact = tmp_path / "m.onnx"
    artifact.write_bytes(b"model")
    (service / "bentofile.yaml").write_text('service: "service:Missing"\n')
    with pytest.raises(MlspecError, match=r"the service of m was not built: .*Missing"):
        stage(tmp_path, service, artifact, hashlib.md5(b"model").hexdigest())
    assert left_behind(tmp_path) == []


def test_what_a_killed_apply_left_is_cleared_and_a_running_ones_is_not(tmp_path, service):
    abandoned, fresh = (tmp_path / ".mlspec/releases" / f".staging-{n}" for n in "ab")
    for folder in (abandoned, fresh):
        folder.mkdir(parents=True)
    os.utime(abandoned, (0, 0))
    artifact = tmp_path / "m.onnx"
    artifact.write_bytes(b"other bytes")
    with pytest.raises(MlspecError):
        stage(tmp_path, service, artifact, "0" * 32)
    assert left_behind(tmp_path) == [fresh.name]


def test_a_build_imports_nothing_of_the_repository_and_has_no_credentials(
    tmp_path, service, monkeypatch
):
    (tmp_path / "resource.py").write_text("raise SystemExit('the wrong module')\n")
    (service / "service.py").write_text(
        "import os, sys\n"
        "raise SystemExit(f'{os.environ.get(\"GIT_TOKEN\")} {sys.flags.safe_path}')\n"
    )
    (service / "bentofile.yaml").write_text('service: "service:Missing"\n')
    artifact = tmp_path / "m.onnx"
    artifact.write_bytes(b"model")
    monkeypatch.setenv("GIT_TOKEN", "secret")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MlspecError, match="was not built: None True"):
        stage(tmp_path, service, artifact, hashlib.md5(b"model").hexdigest())


def test_a_build_that_takes_too_long_or_makes_nothing(tmp_path, service):
    program, artifact = tmp_path / "python", tmp_path / "m.onnx"
    artifact.write_bytes(b"model")
    program.write_text("#!/bin/sh\nprintf '\\377'\nprintf 'made \\377 nothing' >&2\n")
    program.chmod(0o700)
    description = {"model": "m", "version": 1, "digest": hashlib.md5(b"model").hexdigest()}

    def build():
        return stage_release(tmp_path, service, artifact, description, {}, 0, str(program))

    with pytest.raises(MlspecError, match="the service of m was not built: made \ufffd nothing"):
        build()
    program.write_text("#!/bin/sh\nexec sleep 60\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(release, "BUILD_TIMEOUT", 0.2)
        with pytest.raises(MlspecError, match="the service of m was not built: it took more than"):
            build()
    assert left_behind(tmp_path) == []


@pytest.fixture
def keep(tmp_path):
    """A folder that looks like a release, used `age` seconds ago."""

    def make(deployment, number, age):
        folder = tmp_path / ".mlspec/releases" / f"{deployment}{number}"
        (folder / "home/bentos" / deployment).mkdir(parents=True)
        os.utime(folder, (10**9 - age, 10**9 - age))
        return folder

    return make


def test_old_releases_are_removed_unless_a_supervisor_names_them(tmp_path, keep):
    first, *others = [keep("risk", number, age=100 - number) for number in range(6)]
    lonely = keep("loans", 0, age=1000)
    fresh = tmp_path / ".mlspec/releases/.staging-x/home/bentos/risk"
    fresh.mkdir(parents=True)
    run_dir = tmp_path / ".mlspec/run/risk@staging"
    run_dir.mkdir(parents=True)
    write_state(run_dir, {"status": "stopped", "folder": str(first)})
    prune_releases(tmp_path)
    kept = {first, lonely, *others[-3:]}
    assert set(left_behind(tmp_path)) == {folder.name for folder in kept} | {".staging-x"}


@pytest.mark.parametrize("content", [None, "", "{}", "[]", '{"bento": "x"}'])
def test_a_folder_that_is_not_a_release(tmp_path, content):
    if content is not None:
        (tmp_path / "release.json").write_text(content)
    with pytest.raises(MlspecError, match="not a release"):
        load_release(tmp_path)
