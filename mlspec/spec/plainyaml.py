"""The YAML that people mostly write, read fast: to plain data, without places.

Comes in: the text of a file. Goes out: its mapping, or :class:`UnusualError` for anything that this
does not read. What it reads, :mod:`~mlspec.spec.yaml` reads alike and without a problem: mappings
in blocks, lists of scalars, and lists and mappings in brackets, each on one line; scalars without
quotes, of letters that mean nothing else, or in quotes without escapes. Whatever is wrong, wants a
second look (no value, `-0`, the name of a secret) or is only rare is left to the other reader.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from mlspec.spec.scalars import resolve_scalar
from mlspec.spec.show import names_secret

MAX_DEPTH = 16
MAX_KEY = 128
MAX_TEXT = 60_000
MAX_KNOWN = 200
"""Characters of a line that is kept, for it will come again."""
MAX_MARKS = 300_000
"""Lines, commas and brackets: far fewer values than a file may have."""

_WORD = r"[A-Za-z_][A-Za-z0-9_.-]*"
_LINE = re.compile(rf"( *)(?:({_WORD}):(?: +(\S.*))?|- +(\S.*)|#.*)?")
_COMMENT = re.compile(r"\s+#.*|\s*")
_QUOTED = re.compile(r""""([^"\\]*)"|'([^']*)'""")
_PLAIN_START = re.compile(r"[A-Za-z0-9_./$(+]|-[0-9.]")
_FLOW = re.compile(
    rf"""\ *(?:
      ([\[\]{{}},])                                           # a bracket or a comma
    | ({_WORD}):\ (?=\ *[^\s,\]}}])                           # a key
    | "([^"\\]*)" | '([^']*)'                                 # a scalar in quotes
    | ((?:[A-Za-z0-9_./$(+]|-[0-9.])[A-Za-z0-9_./$()+=@~^;<>|\\\ -]*)   # or without
    )""",
    re.VERBOSE,
)
_ALLOWED = bytes([*range(32, 127), 10])


_BELOW = object()
"""Stands for a value that is on the lines below."""


class UnusualError(Exception):
    """A text that needs the reader of all YAML."""


def parse_plain(text: str) -> dict[str, Any]:
    """The mapping that a file holds; parts of it may be shared, so none is ever changed."""
    if text.count("\n") + text.count(",") + text.count("[") + text.count("{") > MAX_MARKS:
        raise UnusualError
    lines = text.split("\n")
    if lines[0] == "---":
        lines[0] = ""
    return _read(lines)


def _read(lines: list[str]) -> dict[str, Any]:
    """The mapping that lines hold; blocks that are open are on a stack of their own."""
    top: dict[str, Any] = {}
    # Of each open block: how far it is indented, and what it holds.
    stack: list[tuple[int, Any]] = [(0, top)]
    indent = 0
    block: Any = top
    waiting: str | None = None
    for line in lines:
        here, key, value = _line(line) if len(line) <= MAX_KNOWN else _read_line(line)
        if here < 0:
            continue
        if waiting is not None:
            # What stands below a key without a value is its value.
            if here < indent or (here == indent and key is not None):
                raise UnusualError
            inner: Any = [] if key is None else {}
            block[waiting] = inner
            stack.append((here, inner))
            if len(stack) > MAX_DEPTH:
                raise UnusualError
            indent, block = here, inner
            waiting = None
        elif here > indent:
            raise UnusualError
        elif here < indent or (key is not None and type(block) is list):
            # A list may stand as far to the left as its key.
            while stack[-1][0] > here or (
                key is not None and stack[-1][0] == here and type(stack[-1][1]) is list
            ):
                stack.pop()
            indent, block = stack[-1]
            if indent != here:
                raise UnusualError
        if key is None:
            if type(block) is not list:
                raise UnusualError
            block.append(value)
        elif type(block) is not dict or key in block:
            raise UnusualError
        elif value is _BELOW:
            waiting = key
        else:
            block[key] = value
    if waiting is not None or not top:
        raise UnusualError
    return top


def _read_line(line: str) -> tuple[int, str | None, Any]:
    """How far a line is indented, its key and its value; -1 of a line that says nothing.

    An item of a list has no key. The value of a key may be what stands below it.
    """
    match = _LINE.fullmatch(line)
    if match is None:
        raise UnusualError
    blanks, key, value, item = match.groups()
    if item is not None:
        return len(blanks), None, _scalar(item)
    if key is None:
        return -1, None, None
    if not _is_known_key(key):
        raise UnusualError
    if value is None or value[0] == "#":
        return len(blanks), key, _BELOW
    return len(blanks), key, _scalar(value)


_line = lru_cache(maxsize=16384)(_read_line)
"""Lines come again, in one file and in the next."""


@lru_cache(maxsize=8192)
def _is_known_key(key: str) -> bool:
    """Whether a key is text to every reader of YAML, and of nothing secret."""
    plain = key in ("y", "n", "Y", "N") or isinstance(resolve_scalar(key), str)
    return plain and len(key) <= MAX_KEY and not names_secret(key)


def _scalar(text: str) -> Any:
    """The value that stands after a key or a dash, with a comment perhaps."""
    first = text[0]
    if first in "[{":
        return _flow(text)
    if first in "\"'":
        match = _QUOTED.match(text)
        if match is None or not _COMMENT.fullmatch(text, match.end()):
            raise UnusualError
        return _checked(match[1] if match[1] is not None else match[2])
    plain = text.partition(" #")[0].rstrip(" ")
    if not _PLAIN_START.match(plain) or ": " in plain or plain[-1] == ":":
        raise UnusualError
    return _resolved(plain)


def _resolved(plain: str) -> str | int | float | bool:
    value = resolve_scalar(plain)
    if type(value) is str:
        return _checked(value)
    if type(value) is bool or (type(value) in (int, float) and (value or plain[0] != "-")):
        return value  # type: ignore[return-value]
    raise UnusualError


def _checked(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise UnusualError
    return text


def _flow(text: str) -> Any:
    """A list or a mapping in brackets on one line."""
    found: Any = None
    stack: list[tuple[Any, str | None]] = []
    key: str | None = None
    # After a value comes a comma or the end; after a comma or a start, a value or a key.
    done = False
    at = 0
    match_token: Callable[[str, int], re.Match[str] | None] = _FLOW.match
    while True:
        match = match_token(text, at)
        if match is None:
            raise UnusualError
        at = match.end()
        mark, word, double, single, plain = match.groups()
        value: Any
        if mark == ",":
            if not done or not stack:
                raise UnusualError
            done = False
            continue
        if word is not None:
            if done or key is not None or not stack or type(stack[-1][0]) is not dict:
                raise UnusualError
            if word in stack[-1][0] or not _is_known_key(word):
                raise UnusualError
            key = word
            continue
        if mark in ("]", "}"):
            if not stack or key is not None:
                raise UnusualError
            value, key = stack.pop()
            # A comma before the end is allowed in YAML, and rare.
            if type(value) is not (list if mark == "]" else dict) or (value and not done):
                raise UnusualError
        elif mark is not None:
            if done or len(stack) > MAX_DEPTH or (stack and _misses_key(stack[-1][0], key)):
                raise UnusualError
            stack.append(([] if mark == "[" else {}, key))
            key, done = None, False
            continue
        elif done or not stack:
            raise UnusualError
        elif plain is not None:
            value = _resolved(plain.rstrip(" "))
        else:
            value = _checked(double if double is not None else single)
        if not stack:
            found = value
            break
        into = stack[-1][0]
        if type(into) is list:
            into.append(value)
        elif key is None:
            raise UnusualError
        else:
            into[key] = value
        key, done = None, True
    if not _COMMENT.fullmatch(text, at):
        raise UnusualError
    return found


def _misses_key(block: Any, key: str | None) -> bool:
    return type(block) is dict and key is None
