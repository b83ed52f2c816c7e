"""What a word of a file that DVC wrote stands for."""

from __future__ import annotations

import re
from typing import Any

from mlspec.errors import MlspecError

MAYBE_FLOAT = re.compile(r"[0-9]+(?:e[0-9]+)?")
"""A digest that a reader of YAML might take for a number."""
WORDS = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_MAYBE_NUMBER = frozenset("+-.0123456789")
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_REAL = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+)")
_NEVER_NUMBER = re.compile(r"[^0-9a-fA-FxXoOiInNtTzZ_+.: \t-]")
_MD5 = re.compile(r"(?!0b)[0-9a-f]{32}")


class BeyondDvcError(Exception):
    """The text has something that DVC never writes."""


def scalar(text: str) -> Any:
    """A plain scalar; one whose meaning is not beyond doubt is left to DVC's own reader."""
    if text in WORDS:
        return WORDS[text]
    if text[0] not in _MAYBE_NUMBER:
        if text in ("=", "<<"):
            raise BeyondDvcError
        return text
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _REAL.fullmatch(text):
        return float(text)
    if _NEVER_NUMBER.search(text) or _MD5.fullmatch(text):
        return text
    raise BeyondDvcError


def damaged(name: str, why: str) -> MlspecError:
    """The error of a file that DVC should have written."""
    return MlspecError(
        f"cannot read {name}: {why}",
        hint=f"take it back from Git (git checkout -- {name}), or delete it and apply again",
    )
