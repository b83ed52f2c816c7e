"""What one file of a spec says, as plain data, if it is right.

Comes in: the bytes of a file. Goes out: :class:`Top`, or :class:`UnsureError`. A file that
:mod:`~mlspec.spec.plainyaml` does not read, or that may speak of a matrix, goes to the reader of
all YAML; then its node is there too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlspec.spec.characters import MAX_BYTES, bad_character
from mlspec.spec.holes import HOLE
from mlspec.spec.literals import check_literals
from mlspec.spec.plainyaml import UnusualError, parse_plain
from mlspec.spec.show import holds_secret
from mlspec.spec.tree import Node
from mlspec.spec.yaml import parse

_PRINTABLE = bytes([*range(32, 127), 10])


class UnsureError(Exception):
    """The spec may be wrong: the precise way will say."""


@dataclass(slots=True)
class Top:
    """The sections of a file, and its node if it may have a model with a matrix."""

    sections: dict[str, Any]
    node: Node | None


def read_top(data: bytes, path: str) -> Top:
    """What a file says."""
    if len(data) > MAX_BYTES:
        raise UnsureError
    text = _text(data.replace(b"\r\n", b"\n") if b"\r" in data else data)
    if text is not None and "matrix:" not in text and HOLE not in text:
        try:
            sections = parse_plain(text)
        except UnusualError:
            pass
        else:
            # A secret in a value is one in the text: what stands around a value ends a word.
            if not holds_secret(text):
                return Top(sections, None)
    node = read_node(data, path)
    return Top(plain_mapping(node), node)


def plain_mapping(node: Node) -> dict[str, Any]:
    """The plain data of a mapping."""
    plain = node.plain()
    assert isinstance(plain, dict)
    return plain


def read_node(data: bytes, path: str) -> Node:
    """The tree of a file in which nothing is wrong by itself."""
    parsed = parse(data, path)
    if parsed.problems or parsed.top is None or not isinstance(parsed.top.value, dict):
        raise UnsureError
    if next(check_literals(parsed.top), None) is not None or _holds_minus_zero(parsed.top):
        raise UnsureError
    return parsed.top


def _text(data: bytes) -> str | None:
    """The text of a file of visible characters and ends of lines."""
    if data.isascii():
        return None if data.translate(None, _PRINTABLE) else data.decode("ascii")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    return None if "\t" in text or "\r" in text or bad_character(text) else text


def _holds_minus_zero(node: Node) -> bool:
    """Plain data does not tell it from 0, and no limit may be written so."""
    if node.value == 0 and node.text[:1] == "-":
        return True
    return any(_holds_minus_zero(child) for _, child in node.children())
