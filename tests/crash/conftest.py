"""The sandboxes of the sweep, for tests beside it."""

from __future__ import annotations

import importlib.util
import sys
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
