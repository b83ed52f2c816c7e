"""What reads an artifact: a child process that the repository and its secrets stay out of."""

from __future__ import annotations

import pytest

from mlspec.formats import inspect_artifact

PROGRAM = """#!/bin/sh
printf '{"signature": {"arguments": "%s", "folder": "%s", "token": "%s", "other": "%s"}}' \
    "$*" "$(pwd)" "$GIT_TOKEN" "$OTHER"
"""


@pytest.mark.usefixtures("shadows")
def test_modules_of_the_repository_are_not_imported(write_onnx, regressor):
    assert inspect_artifact(write_onnx(regressor, 3), "onnx")["layout"] == "matrix"


def test_it_runs_nowhere_in_particular_without_a_ci_jobs_credentials(tmp_path, monkeypatch):
    program, artifact = tmp_path / "python", tmp_path / "m.onnx"
    program.write_text(PROGRAM)
    program.chmod(0o700)
    artifact.write_bytes(b"model")
    monkeypatch.setenv("GIT_TOKEN", "secret")
    monkeypatch.setenv("OTHER", "kept")
    monkeypatch.chdir(tmp_path)
    assert inspect_artifact(artifact, "onnx", str(program)) == {
        "arguments": f"-P -m mlspec.formats.inspect onnx {artifact}",
        "folder": "/",
        "token": "",
        "other": "kept",
    }
