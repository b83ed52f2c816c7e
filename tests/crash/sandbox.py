"""Small projects whose stages are `cp`, so that an apply takes a second, and mlspec run in them.

`first` was never applied; in `edit` one of two models changed since, and there is a Git remote; in
`serve` the model changed that is deployed, on a target that only notes it (`standin.py`).
Beside the repository lie its storage, what its commands did (`effects`), and the remote.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

SCENARIOS = ("first", "edit", "serve")
FAULTY = (sys.executable, str(Path(__file__).with_name("faulty.py")))
"""What is mlspec, with something wrong in it if the environment says so."""
PATIENCE = 120
"""Seconds that a command may take on a machine that is busy."""
_MODEL = """\
  {name}:
    stages:
      train:
        command: cp data/rows.csv models/{name}.bin && echo train-{name} >> ../effects
        inputs: [rows]
        params: {{rate: {rate}}}
        outputs: [models/{name}.bin]
      evaluate:
        command: cp src/metrics.json metrics/{name}.json && echo evaluate-{name} >> ../effects
        inputs: [models/{name}.bin, src/metrics.json]
        metrics: metrics/{name}.json
    gates:
      good: {{metric: auc, min: 0.5}}
"""
_HEAD = """\
mlspec: 1
project: crash
storage: {url: ../storage}
datasets:
  rows: {path: data/rows.csv}
models:
"""
_SERVED = """\
    artifact: {path: models/one.bin, format: onnx}
targets:
  here: {kind: local}
deployments:
  one: {model: one, targets: [here]}
"""
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Sandbox:
    """A folder with the repository `repo` and what lies beside it."""

    place: Path

    @property
    def repo(self) -> Path:
        return self.place / "repo"

    def run(self, arguments: Sequence[str], *, shims: Path | None = None, **extra: str) -> Done:
        """Any program in the repository, with an empty home; `shims` come first on its path."""
        return subprocess.run(
            arguments,
            cwd=self.repo,
            env=self._environment(shims, extra),
            capture_output=True,
            text=True,
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
        )

    def mlspec(self, *arguments: str, **extra: str) -> Done:
        """As `run`, and sooner; mlspec has something wrong in it if `extra` says so."""
        from warm import run_warm  # others that are given a sandbox have no such module

        return run_warm(arguments, self.repo, self._environment(None, extra), PATIENCE)

    def _environment(self, shims: Path | None, extra: Mapping[str, str]) -> dict[str, str]:
        home = self.place / "home"
        home.mkdir(exist_ok=True)
        path = [str(Path(sys.executable).parent), os.environ["PATH"]]
        served = self.place / "served"
        return {
            "HOME": str(home),
            "PATH": os.pathsep.join([str(shims), *path] if shims else path),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Ada",
            "GIT_AUTHOR_EMAIL": "ada@example.org",
            "GIT_COMMITTER_NAME": "Ada",
            "GIT_COMMITTER_EMAIL": "ada@example.org",
            "NO_COLOR": "1",
            **({"CRASH_TARGET": str(served)} if served.exists() else {}),
            **extra,
        }

    def check(self, *arguments: str) -> str:
        """What a program prints that must succeed."""
        done = self.run(arguments)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def copy(self, place: Path) -> Sandbox:
        shutil.copytree(self.place, place, symlinks=True)
        return Sandbox(place)

    def effects(self) -> list[str]:
        """What commands of stages did, in order."""
        file = self.place / "effects"
        return file.read_text().split() if file.exists() else []


def make_sandbox(place: Path, scenario: str) -> Sandbox:
    """A project that is ready to be applied."""
    sandbox = Sandbox(place)
    for folder in ("data", "src"):
        (sandbox.repo / folder).mkdir(parents=True)
    (sandbox.repo / "data/rows.csv").write_text("a,b\n1,2\n")
    (sandbox.repo / "src/metrics.json").write_text('{"auc": 0.9}\n')
    sandbox.check("git", "init", "--quiet", "--initial-branch", "main")
    _declare(sandbox, "Start", one=1)
    if scenario == "serve":
        (place / "served").mkdir()
        _declare(sandbox, "Serve", _SERVED, one=1)
        _apply(sandbox)
        _declare(sandbox, "Faster", _SERVED, one=2)
    if scenario == "edit":
        sandbox.check("git", "init", "--quiet", "--bare", "../remote.git")
        sandbox.check("git", "remote", "add", "origin", "../remote.git")
        _declare(sandbox, "Two", one=1, two=1)
        _apply(sandbox)
        _declare(sandbox, "Faster", one=1, two=2)
    return sandbox


def _apply(sandbox: Sandbox) -> None:
    sandbox.check(*FAULTY, "apply", "--yes")
    (sandbox.place / "effects").unlink()


def _declare(sandbox: Sandbox, message: str, rest: str = "", **rates: int) -> None:
    models = (_MODEL.format(name=name, rate=rate) for name, rate in rates.items())
    (sandbox.repo / "mlspec.yaml").write_text(_HEAD + "".join(models) + rest)
    sandbox.check("git", "add", "--all")
    sandbox.check("git", "commit", "--quiet", "--message", message)
