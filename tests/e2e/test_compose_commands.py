"""A deployment in containers by the command line, with real Git and DVC, and a stand-in for docker.

What is tried is the way from the spec to docker's calls and back into plans, status and drift.
"""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow
STANDIN = Path(__file__).parents[1] / "unit/providers/compose/standin_docker.py"
DEPLOYMENT = "deployment.loans@edge"
SPEC = """
targets:
  edge: {kind: compose, engine: docker, port: 8099, ready: 5s}

deployments:
  loans:
    model: loans
    targets: [edge]
    runtime: asgi
    resources: {cpus: 1, memory: 512MiB, replicas: {min: 2}}
    smoke:
      - input: {income: 70, age: 30}
"""


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """The folder of the stand-in's state; beside it the program."""
    program = tmp_path / "bin" / "docker"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable} -IS\n{STANDIN.read_text()}")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "engine" / "containers").mkdir(parents=True)
    return tmp_path / "engine"


@pytest.fixture
def edge(project: Any, engine: Path) -> Any:
    """The trained project with a deployment in containers, not applied yet."""
    environment = {
        **project.environment,
        "PATH": f"{engine.parent / 'bin'}{os.pathsep}{project.environment['PATH']}",
        "ENGINE_STANDIN": str(engine),
    }
    found = replace(project, environment=environment)
    found.write("mlspec.yaml", found.read() + SPEC)
    found.commit("Serve in containers")
    return found


def test_from_apply_to_destroy(edge: Any, engine: Path) -> None:
    said = edge.mlspec("apply", "--yes").stderr
    assert "version 1 serves at http://127.0.0.1:8099" in said
    edge.commit("Record what was applied")
    edge.mlspec("plan", "--detailed-exitcode")
    [row] = edge.json("status")["deployments"]
    assert (row["runs"], row["state"], row["url"]) == (
        "running",
        "in step",
        "http://127.0.0.1:8099",
    )

    path = engine / "containers" / "loans_edge_loans-blue-1.json"
    live = json.loads(path.read_text())
    live["HostConfig"]["Memory"] = 2**30
    path.write_text(json.dumps(live))
    [change] = edge.json("drift", code=2)["drift"][0]["changes"]
    assert change["field"] == "blue-1.memory"
    assert (change["recorded"], change["observed"]) == (2**29, 2**30)
    assert edge.apply() == []

    (engine / "unreachable").touch()
    assert "docker does not answer" in edge.held()[DEPLOYMENT]
    edge.mlspec("drift", code=5)
    (engine / "unreachable").unlink()

    (engine / "ends").write_text('"dev.mlspec.version": "2"')
    edge.edit("threshold: 45", "threshold: 48")
    said = edge.mlspec("apply", "--yes", code=6).stderr
    assert "version 2 of loans was not taken into service: its container ended by itself" in said
    assert "was refused" in edge.held()[DEPLOYMENT], "it is not tried again"

    edge.write("mlspec.yaml", edge.read().partition("\ntargets:")[0] + "\n")
    edge.mlspec("apply", "--yes", "--allow-delete")
    assert list((engine / "containers").iterdir()) == []
