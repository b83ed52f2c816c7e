"""A sensitive column that a version does not have keeps its release from being deployed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mlspec.errors import MlspecError
from mlspec.providers.deployments import check_sensitive
from mlspec.spec.models import Deployment, Model

SIGNATURE = {"columns": [{"name": "income", "type": "number"}, {"name": "age", "type": "number"}]}


def asked(*names: str, pin: int | None = None) -> tuple[Any, Any]:
    """A resource and a context, with no more than is looked at."""
    resource = SimpleNamespace(deployment=Deployment(model="m", targets=("t",)), pinned=pin)
    spec = SimpleNamespace(models={"m": Model(sensitive=names)})
    return resource, SimpleNamespace(desired=SimpleNamespace(spec=spec))


def test_columns_that_there_are() -> None:
    resource, context = asked("age", "income")
    check_sensitive(resource, SIGNATURE, context)


def test_a_name_that_is_none() -> None:
    resource, context = asked("age", "incone")
    with pytest.raises(MlspecError, match="names incone, and the model has no such") as caught:
        check_sensitive(resource, SIGNATURE, context)
    assert caught.value.hint == "did you mean `income`?"


def test_a_version_that_was_before_the_column() -> None:
    resource, context = asked("incone", pin=1)
    check_sensitive(resource, SIGNATURE, context)
