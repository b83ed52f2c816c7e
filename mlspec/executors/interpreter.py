"""Which Python a stage's command starts, and whether it is the one that the spec names.

Comes in: a command and its environment. Goes out: nothing, or an error. The version is part of each
run's fingerprint, so a run with another one would be remembered as what it was not.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlspec.errors import MlspecError
from mlspec.imports import simple_commands

_PYTHON = re.compile(r"python[0-9.]*")
_CHANGES_PATH = frozenset({".", "source", "eval", "conda", "module"})
_STARTERS = frozenset({"env", "exec", "nice", "nohup", "time"})
"""Words that start the program named after them, found as any other."""
_QUESTION = "import sys; print('{}.{}.{}'.format(*sys.version_info))"
_PATIENCE = 60.0
"""Seconds for an interpreter to say its version."""


class Interpreters:
    """The versions of the interpreters that were asked, each once."""

    def __init__(self) -> None:
        self._versions: dict[str, str | None] = {}
        self._turn = threading.Lock()

    def check(
        self, address: str, command: str, wanted: str, root: Path, env: Mapping[str, str]
    ) -> None:
        """Raise if the command starts a Python of another version than `wanted`."""
        for name in started(command):
            found = self._version(name, root, env)
            if found is not None and not f"{found}.".startswith(f"{wanted}."):
                like = ".".join(found.split(".")[: wanted.count(".") + 1])
                raise MlspecError(
                    f"{address} was not run: `{name}` is Python {found} here, "
                    f"and python.version is {wanted}",
                    hint=f"activate an environment with Python {wanted}, "
                    f'or set python.version to "{like}"',
                )

    def _version(self, name: str, root: Path, env: Mapping[str, str]) -> str | None:
        path = _find(name, root, env)
        if path is None:
            return None
        with self._turn:
            if path not in self._versions:
                self._versions[path] = _ask(path, root, env)
            return self._versions[path]


def version_of(name: str, root: Path, env: Mapping[str, str]) -> str | None:
    """The version of the Python that a command finds as `name`; none without one."""
    path = _find(name, root, env)
    return _ask(path, root, env) if path else None


def started(command: str) -> Iterator[str]:
    """The Pythons that the command itself starts: `python`, `python3.12`, `.venv/bin/python`.

    What it finds after it has changed where programs are found is not known.
    """
    for words in simple_commands(command):
        if words[0] in _CHANGES_PATH or any(word.startswith("PATH=") for word in words):
            return
        programs = (word for word in words if "=" not in word and word not in _STARTERS)
        program = next(programs, "")
        if _PYTHON.fullmatch(program.rpartition("/")[2]):
            yield program


def _find(name: str, root: Path, env: Mapping[str, str]) -> str | None:
    return str(root / name) if "/" in name else shutil.which(name, path=env.get("PATH"))


def _ask(path: str, root: Path, env: Mapping[str, str]) -> str | None:
    """The version; none if it does not answer, which the command will then tell more about."""
    try:
        said = subprocess.run(
            [path, "-I", "-S", "-c", _QUESTION],
            cwd=root,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.fullmatch(r"\d+\.\d+\.\d+", said.stdout.strip())
    return match[0] if match else None
