"""The sandboxes of the sweep, for tests beside it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="session")
def sandboxes() -> ModuleType:
    """The module `sandbox.py`."""
    return _load("sandbox")


@pytest.fixture(scope="session")
def durable() -> ModuleType:
    """The module `durable.py`."""
    return _load("durable")


@pytest.fixture(scope="session")
def harness() -> dict[str, ModuleType]:
    """The modules of the sweep that import each other, by name."""
    sys.path.insert(0, str(Path(__file__).parent))
    names = ("failpoints", "points", "sandbox", "seeded", "sweep", "trials")
    return {name: importlib.import_module(name) for name in names}


@pytest.fixture
def sweep() -> Callable[..., None]:
    """Runs `sweep.py`, which must find nothing wrong."""

    def sweep(*options: str) -> None:
        done = subprocess.run(
            [sys.executable, Path(__file__).with_name("sweep.py"), *options],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert " 0 wrong" in done.stdout, done.stdout

    return sweep


def _load(name: str) -> ModuleType:
    """A module that lies here, in no package."""
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"crash_{name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # for its dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def edited(sandboxes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two models, of which one changed since they were applied; and a Git remote. To be copied."""
    return sandboxes.make_sandbox(tmp_path_factory.mktemp("edited") / "box", "edit")


@pytest.fixture
def sandbox(edited: Any, tmp_path: Path) -> Any:
    """One of the test's own."""
    return edited.copy(tmp_path / "box")
