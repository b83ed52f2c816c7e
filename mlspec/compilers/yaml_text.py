"""Data as YAML text that every parser reads alike: data comes in, text goes out.

Each string is written in double quotes, JSON style, so that neither YAML 1.1 nor YAML 1.2 can take
`no`, `on`, `1e3` or `22:22` for something else. Keys are written bare where no parser can mistake
them. Same data, same bytes: mappings keep the order that they are given in.

A comment is put beside a value with :class:`Noted`, or at the head of the text.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_INDENT = "  "
_BARE_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True, slots=True)
class Noted:
    """A value and the comment that stands on its line."""

    value: Any
    note: str


def render_yaml(data: Any, *, head: Sequence[str] = ()) -> str:
    """`data` (mappings, sequences, strings, numbers, booleans, None) as YAML in block style.

    Each line of `head` becomes a comment above it. NaN, infinities and any other type are refused.
    """
    lines = [*map(_comment, head), *_lines(data, "")]
    return "\n".join(lines) + "\n"


def _lines(value: Any, indent: str) -> Iterator[str]:
    """The lines of a value that stands on its own."""
    match _bare(value):
        case Mapping() as mapping if mapping:
            for key, item in mapping.items():
                yield from _entry(f"{indent}{_key(key)}:", item, indent)
        case list() | tuple() as items if items:
            for item in items:
                yield from _item(item, indent)
        case scalar:
            yield f"{indent}{_scalar(scalar)}"


def _entry(start: str, value: Any, indent: str) -> Iterator[str]:
    """A key with its value: on its line, or below it when the value has parts."""
    if _has_parts(value):
        yield start + _trailing(value)
        yield from _lines(value, indent + _INDENT)
    else:
        yield f"{start} {_scalar(_bare(value))}{_trailing(value)}"


def _item(value: Any, indent: str) -> Iterator[str]:
    """An item of a sequence; the first line of a part stands beside its dash."""
    if not _has_parts(value):
        yield f"{indent}- {_scalar(_bare(value))}{_trailing(value)}"
        return
    if isinstance(value, Noted):
        yield f"{indent}{_comment(value.note)}"
    first, *rest = _lines(value, indent + _INDENT)
    yield f"{indent}- {first.removeprefix(indent + _INDENT)}"
    yield from rest


def _bare(value: Any) -> Any:
    return value.value if isinstance(value, Noted) else value


def _has_parts(value: Any) -> bool:
    return isinstance(_bare(value), Mapping | list | tuple) and bool(_bare(value))


def _trailing(value: Any) -> str:
    return f" {_comment(value.note)}" if isinstance(value, Noted) else ""


def _comment(text: str) -> str:
    """One comment line, whatever `text` holds: what could end the line is written as an escape."""
    return ("# " + _CONTROL.sub(_escape, text)).rstrip()


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise TypeError(f"a key must be a string, not {key!r}")
    return key if _BARE_KEY.fullmatch(key) and key.lower() not in _WORDS else _string(key)


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case str():
            return _string(value)
        case int():
            return str(int(value))
        case float():
            return _float(value)
        case Mapping():
            return "{}"
        case list() | tuple():
            return "[]"
        case _:
            raise TypeError(f"{type(value).__name__} has no form in YAML")


def _string(text: str) -> str:
    return _UNPRINTABLE.sub(_escape, json.dumps(str(text), ensure_ascii=False))


def _escape(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def _float(value: float) -> str:
    """Python's shortest form, in the one notation that YAML 1.1 takes for a float too."""
    if not math.isfinite(value):
        raise ValueError(f"{value} has no form in JSON")
    mantissa, exponent, power = repr(float(value)).partition("e")
    if not exponent:
        return mantissa
    sign = power if power[0] in "+-" else f"+{power}"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}"
