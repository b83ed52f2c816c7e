"""Stand-ins for kubectl and for podman, and releases to deploy with them."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from mlspec.providers.target import Release

HERE = Path(__file__).parent
BUILDER = HERE.parent / "images" / "standin_builder.py"
PLACE = {
    "context": "test",
    "namespace": "ml",
    "image": {"repository": "registry.example.org/ml"},
    "project": "demo",
    "base": "python:3.11-slim",
    "ready": 5.0,
}


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """The folder of the stand-in's state."""
    programs, state = tmp_path / "bin", tmp_path / "cluster"
    programs.mkdir()
    state.mkdir()
    (tmp_path / "builder").mkdir()
    for name, source in (("kubectl", HERE / "standin_kubectl.py"), ("podman", BUILDER)):
        program = programs / name
        program.write_text(f"#!{sys.executable}\n{source.read_text()}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("KUBECTL_STANDIN", str(state))
    monkeypatch.setenv("BUILDER_STANDIN", str(tmp_path / "builder"))
    monkeypatch.delenv("MLSPEC_IMAGE_BUILDER", raising=False)
    return state


@pytest.fixture
def root(tmp_path):
    found = tmp_path / "repository"
    found.mkdir()
    return found


@pytest.fixture
def make_release(root):
    def make(version=1, place=None, token=0, kind="kubernetes", **settings):
        bento = root / "bentos" / str(version)
        (bento / "src/model").mkdir(parents=True, exist_ok=True)
        (bento / "src/service.py").write_text(f"# {version}\n")
        (bento / "src/model/model.json").write_text('{"commit": "abc"}')
        all_settings = {"cpus": 1.0, "memory": None, "port": 3000, "capture": None, **settings}
        return Release(
            digest=f"{version}" * 64,
            path=bento,
            bento=bento,
            tag=f"churn:{version}",
            model="m",
            version=version,
            workers=1,
            memory=None,
            capture=None,
            settings={**all_settings, kind: PLACE if place is None else place},
            token=token,
        )

    return make
