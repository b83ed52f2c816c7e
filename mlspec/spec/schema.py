"""The JSON Schema of the language, for editors: made from the types, never written by hand.

It refuses less than :func:`mlspec.spec.load.load_spec` and nothing that is valid: what `defaults`
may give is not required of a member.
"""

from __future__ import annotations

import ast
import inspect
from typing import Any

from mlspec.spec import models
from mlspec.spec.checks.names import PATTERN
from mlspec.spec.models import DEFAULTABLE, Spec
from mlspec.spec.tree import SECTIONS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NAMED = (*SECTIONS, "stages", "gates")


def json_schema() -> dict[str, Any]:
    """The schema of `mlspec.yaml`, draft 2020-12."""
    schema = Spec.model_json_schema()
    definitions: dict[str, Any] = {"Spec": schema, **schema.pop("$defs")}
    described = _attribute_docstrings()
    for name, definition in definitions.items():
        _polish(definition, described[name])
    for kind in DEFAULTABLE.values():
        definitions[kind.__name__].pop("required", None)
    schema["properties"]["defaults"] = _defaults()
    del definitions["Spec"]
    return {
        "$schema": DIALECT,
        "title": "mlspec.yaml",
        **schema,
        "$defs": dict(sorted(definitions.items())),
    }


def _defaults() -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "description": "What every model, dataset and deployment has unless it says otherwise.",
        "properties": {
            section: {"$ref": f"#/$defs/{kind.__name__}"} for section, kind in DEFAULTABLE.items()
        },
    }


def _polish(definition: dict[str, Any], described: dict[str, str]) -> None:
    """Drops titles that only repeat keys, and `null`, which the language does not have."""
    definition.pop("title", None)
    for key, field in definition.get("properties", {}).items():
        field.pop("title", None)
        if {"type": "null"} in field.get("anyOf", ()):
            (only,) = (arm for arm in field.pop("anyOf") if arm != {"type": "null"})
            field.pop("default", None)
            field.update(only)
        if key in described:
            field["description"] = described[key]
        if key in _NAMED and field.get("type") == "object":
            field["propertyNames"] = {"pattern": f"^{PATTERN.pattern}$"}


def _attribute_docstrings() -> dict[str, dict[str, str]]:
    """By class, the text below each field; read from the source only when a schema is made."""
    found: dict[str, dict[str, str]] = {}
    for item in ast.parse(inspect.getsource(models)).body:
        if not isinstance(item, ast.ClassDef):
            continue
        texts = found[item.name] = {}
        for field, below in zip(item.body, item.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = inspect.cleandoc(text)
    return found
