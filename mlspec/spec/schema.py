"""The JSON Schema of the language, for editors: made from the types.

Only what no type has is written by hand: the keys of a model that stands for many. The schema
refuses less than :func:`mlspec.spec.load.load_spec` and nothing that is valid: what `defaults` may
give is not required of a member, and `${matrix.KEY}` may stand for any plain value of a model.
"""

from __future__ import annotations

import ast
import inspect
from importlib import import_module
from itertools import chain
from pkgutil import iter_modules
from typing import Any

from mlspec.spec import models
from mlspec.spec.checks.names import PATTERN
from mlspec.spec.models import DEFAULTABLE, Artifact, Card, Gate, Model, Resources, Spec, Stage
from mlspec.spec.rows import NAME
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
    for kind in (Artifact, Card, Gate, Model, Resources, Stage):
        fields = definitions[kind.__name__]["properties"]
        fields.update({key: _or_member_value(field) for key, field in fields.items()})
    definitions["Model"]["properties"].update(_members(definitions["Model"]["properties"]))
    schema["properties"]["defaults"] = _defaults()
    del definitions["Spec"]
    return {
        "$schema": DIALECT,
        "title": "mlspec.yaml",
        **schema,
        "$defs": dict(sorted(definitions.items())),
    }


def _or_member_value(field: dict[str, Any]) -> dict[str, Any]:
    """The schema of a value of a model, which may be `${matrix.KEY}`."""
    if "items" in field:
        return field | {"items": _or_member_value(field["items"])}
    any_text = field.get("type") == "string" and field.keys().isdisjoint(("enum", "pattern"))
    if any_text or not field.keys() & {"type", "enum", "const"} or field["type"] == "object":
        return field
    said = {key: field[key] for key in ("description", "default") if key in field}
    rest = {key: value for key, value in field.items() if key not in said}
    given: dict[str, Any] = {"anyOf": [rest, {"type": "string", "pattern": r"\$\{matrix\."}]}
    return given | said


def _members(fields: dict[str, Any]) -> dict[str, Any]:
    """The keys of a model that are about the models that it stands for."""
    value = {"type": ["string", "number", "boolean"]}
    lists = {
        "type": "object",
        "propertyNames": {"pattern": f"^{NAME.pattern}$", "not": {"const": "from"}},
        "additionalProperties": {"type": "array", "items": value, "minItems": 1},
        "minProperties": 1,
    }
    table = {
        "type": "object",
        "properties": {"from": {"type": "string"}},
        "required": ["from"],
        "additionalProperties": False,
    }
    return {
        "matrix": {
            "anyOf": [table, lists],
            "description": "Write one model for many: one for each combination of the values, "
            "listed by key, or for each row of a CSV file, {from: regions.csv}, whose columns "
            "are the keys. Texts of the model hold a value as ${matrix.KEY}.",
        },
        "name": {
            "type": "string",
            "description": "What each member of the matrix is called, such as "
            "demand-${matrix.region}; without it the model's name and all values.",
        },
        "overrides": {
            "type": "object",
            "additionalProperties": {"type": "object", "propertyNames": {"enum": [*fields]}},
            "description": "What is different about single members, by their names.",
        },
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
        if text := described.get(key) or described.get(key.replace("-", "_")):
            field["description"] = text
        if key in _NAMED and field.get("type") == "object":
            field["propertyNames"] = {"pattern": f"^{PATTERN.pattern}$"}


def _attribute_docstrings() -> dict[str, dict[str, str]]:
    """By class, the text below each field; read from the source only when a schema is made."""
    found: dict[str, dict[str, str]] = {}
    modules = iter_modules(models.__path__, f"{models.__name__}.")
    sources = (inspect.getsource(import_module(module.name)) for module in modules)
    for item in chain.from_iterable(ast.parse(source).body for source in sources):
        if not isinstance(item, ast.ClassDef):
            continue
        texts = found[item.name] = {}
        for field, below in zip(item.body, item.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name.removesuffix("_")] = inspect.cleandoc(text)
    return found
