"""What a plain YAML scalar means: YAML 1.2 core, and nothing where readers disagree."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

MAX_INT = 2**53

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_OLD_BOOL = frozenset(
    form
    for word in ("yes", "no", "on", "off", "y", "n")
    for form in (word, word.capitalize(), word.upper())
)
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_RADIX = re.compile(r"[-+]?0(?:o[0-7]+|b[01_]+|x[0-9a-fA-F_]*_[0-9a-fA-F_]*)|[-+]0x[0-9a-fA-F_]+")
_UNDERSCORED = re.compile(r"[-+]?[0-9][0-9_]*_[0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?")
_BASE_60 = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9].*)?")


@dataclass(frozen=True, slots=True)
class Refused:
    """A scalar that is not taken, and what to write instead."""

    code: str
    message: str
    hint: str
    text: str | None = None
    """What was written, where it may stand in quotes."""


def resolve_scalar(text: str) -> str | int | float | bool | Refused | None:
    """The value of a scalar without quotes."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if text in _OLD_BOOL:
        return Refused(
            "MLS019",
            f"`{text}` is text to some readers and true or false to others",
            f'write true or false, or quote it: "{text}"',
            text,
        )
    if text[0] not in "+-.0123456789":
        return text
    return _number(text)


def _number(text: str) -> str | int | float | Refused:
    if _INT.fullmatch(text):
        return _integer(text, 10)
    if _HEX.fullmatch(text):
        return _integer(text, 16)
    if _LEADING_ZERO.fullmatch(text):
        return _ambiguous(text, "a decimal number to some readers and octal to others")
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if math.isfinite(number) else _too_big(text)
    if _NOT_FINITE.fullmatch(text):
        return Refused("MLS020", f"`{text}` is not a finite number", "write a finite number")
    if _RADIX.fullmatch(text) or _UNDERSCORED.fullmatch(text):
        return _ambiguous(text, "a number to some readers and text to others")
    if _BASE_60.fullmatch(text):
        return _ambiguous(text, "a number in base 60 to some readers and text to others")
    if _DATE.fullmatch(text):
        return _ambiguous(text, "a date to some readers and text to others")
    return text


def _integer(text: str, base: int) -> int | Refused:
    # Longer than any number up to 2^53 is in either base: never given to `int`, which is quadratic.
    if len(text) > 18:
        return _too_big(text)
    number = int(text, base)
    return number if abs(number) <= MAX_INT else _too_big(text)


def _too_big(text: str) -> Refused:
    return Refused(
        "MLS020",
        f"the number `{_start(text)}` is too big to be read alike everywhere",
        "whole numbers go up to 2^53 (9007199254740992); quote it if it is an identifier",
        _start(text),
    )


def _ambiguous(text: str, readings: str) -> Refused:
    return Refused(
        "MLS019",
        f"`{_start(text)}` is {readings}",
        f'quote it: "{_start(text)}", or write a plain decimal number',
        _start(text),
    )


def _start(text: str) -> str:
    return text if len(text) <= 40 else text[:39] + "…"
