"""The JSON Schema for editors."""

from __future__ import annotations

from typing import Any

import jsonschema
import pytest

from mlspec.spec.models import Spec
from mlspec.spec.schema import json_schema

HEAD: dict[str, Any] = {"mlspec": 1, "project": "demo"}


def test_is_a_schema_of_the_draft_it_names() -> None:
    schema = json_schema()
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_each_section_and_each_key_of_it_is_described_or_plain() -> None:
    schema = json_schema()
    assert set(schema["properties"]) == {*Spec.model_fields, "defaults"}
    for name, definition in schema["$defs"].items():
        assert definition["description"], name
        assert definition["additionalProperties"] is False, name
    stage = schema["$defs"]["Stage"]["properties"]
    assert stage["timeout"]["description"] == (
        "The command is stopped after this time, for example 30m."
    )


@pytest.mark.parametrize(
    "wrong",
    [
        {"mlspec": 2},
        {"unknown": 1},
        {"datasets": {"Loans": {"path": "a.csv"}}},
        {"datasets": {"loans": {"path": 3}}},
        {"models": {"a": {"stages": {"b": {"command": "c", "timeout": "30 minutes"}}}}},
        {"models": {"a": {"stages": {"b": {}}}}},
        {"targets": {"here": {"kind": "local", "port": 80}}},
        {"defaults": {"targets": {}}},
        {"python": None},
    ],
)
def test_refuses(wrong: dict[str, Any]) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    assert list(validator.iter_errors(HEAD)) == []
    assert list(validator.iter_errors(HEAD | wrong)) != []
