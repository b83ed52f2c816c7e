"""What pydantic found wrong, in the words of this language.

Comes in: one of pydantic's error details and the tree. Goes out: a
:class:`~mlspec.spec.tree.Problem`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mlspec.spec.models import TEMPLATE_KEYS, Spec
from mlspec.spec.rows import hint_of_text
from mlspec.spec.show import show
from mlspec.spec.suggest import did_you_mean, known_words
from mlspec.spec.tree import Node, Path, Problem, find

_EXPECTED = {
    "string_type": ("text", ""),
    "int_type": ("a whole number", "write a whole number, for example 2"),
    "int_parsing": ("a whole number", "write a whole number, for example 2"),
    "int_from_float": ("a whole number", "write a whole number, for example 2"),
    "float_type": ("a number", "write a number, for example 0.85"),
    "float_parsing": ("a number", "write a number, for example 0.85"),
    "bool_type": ("true or false", "write true or false"),
    "mapping_type": ("a mapping", "write `key: value` lines below it"),
    "dict_type": ("a mapping", "write `key: value` lines below it"),
    "model_type": ("a mapping", "write `key: value` lines below it"),
    "model_attributes_type": ("a mapping", "write `key: value` lines below it"),
    "tuple_type": ("a list", "write it in brackets, for example [a, b]"),
    "list_type": ("a list", "write it in brackets, for example [a, b]"),
}
_IN_CELLS = {
    "a mapping": "a cell holds one value; write the mapping into the model or its `overrides`",
    "a list": "a cell holds one value; write [${matrix.KEY}] into the model",
}
"""Other hints where a value comes from a table."""
_BOUNDS = {
    "greater_than": ("gt", "more than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}


def explain(error: ErrorDetails, top: Node) -> Problem:
    """The problem that one of pydantic's errors stands for."""
    path: Path = tuple(error["loc"])
    kind, context = error["type"], error.get("ctx", {})
    node = find(top, path)
    if kind == "extra_forbidden":
        return _unknown(path)
    if kind == "missing":
        message = f"`{path[-1]}` is missing"
        example = "1" if path == ("mlspec",) else "..."
        if path[-2:] == ("from", "digest"):
            hint = "add `digest: sha256:...`: `mlspec fetch` with the same source tells it"
            return Problem("MLS011", path, message, hint)
        return Problem("MLS011", path, message, f"add `{path[-1]}: {example}`")
    if path == ("mlspec",):
        hint = "this mlspec reads version 1 of the language: write `mlspec: 1`"
        return Problem("MLS021", path, f"version {_got(node)} of the language is not known", hint)
    if kind in _EXPECTED:
        expected, hint = _EXPECTED[kind]
        if node.file.is_table:
            hint = _IN_CELLS.get(expected, hint)
        return Problem(
            "MLS012", path, f"expected {expected}, got {_got(node)}", hint or _quote(node)
        )
    if kind == "literal_error":
        return _choice(path, node, str(context["expected"]))
    if kind in _BOUNDS:
        bound, words = _BOUNDS[kind]
        return Problem("MLS013", path, f"must be {words} {context[bound]:g}, got {_got(node)}")
    if kind == "too_short":
        return Problem("MLS013", path, "must not be empty", "name at least one")
    if kind == "path_too_long":
        return Problem("MLS060", path, error["msg"], "use shorter names")
    if kind == "value_error":
        return Problem("MLS012", path, f"{context['error']}, got {_got(node)}")
    return Problem("MLS012", path, f"{error['msg']}, got {_got(node)}")


def _unknown(path: Path) -> Problem:
    known = fields_at(path[:-1])
    if len(path) == 3 and path[0] == "models":
        known += TEMPLATE_KEYS
    hint = did_you_mean(str(path[-1]), known) or known_words(known)
    return Problem("MLS010", path, "unknown key", hint, on_key=True)


def _choice(path: Path, node: Node, expected: str) -> Problem:
    choices = [word.strip(" '") for word in expected.replace(" or ", ",").split(",")]
    hint = did_you_mean(node.text, choices) if isinstance(node.value, str) else ""
    return Problem(
        "MLS013", path, f"expected {expected.replace(chr(39), '`')}, got {_got(node)}", hint
    )


def _got(node: Node) -> str:
    match node.value:
        case str():
            return show(node.value)
        case bool() | int() | float():
            return f"the number {node.text}" if node.kind == "a number" else node.text
        case _:
            return node.kind


def _quote(node: Node) -> str:
    """For text that is read as something else: write it in quotes, exactly as it stands."""
    if node.file.is_table:
        return hint_of_text(node.text)
    return f'quote it: "{node.text}"' if node.text else "write text"


def fields_at(path: Path) -> tuple[str, ...]:
    """The keys that the mapping at `path` may have."""
    kind: Any = Spec
    for step in path:
        kind = _inner(kind, step)
    if not _is_section(kind):
        return ()
    return tuple(field.alias or name for name, field in kind.model_fields.items())


def _inner(kind: Any, step: str | int) -> Any:
    if _is_section(kind):
        field = next((f for n, f in kind.model_fields.items() if (f.alias or n) == step), None)
        return _bare(field.annotation) if field else None
    if get_origin(kind) in (Mapping, tuple):
        inner = get_args(kind)
        return _bare(inner[1] if get_origin(kind) is Mapping else inner[0])
    return None


def _bare(kind: Any) -> Any:
    """A type without its `Annotated` and its `| None`."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return _bare(next(arm for arm in get_args(kind) if arm is not type(None)))
    return kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
