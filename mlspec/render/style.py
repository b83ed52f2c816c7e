"""Colour on a terminal, and text that cannot take a terminal over."""

from __future__ import annotations

import os
import unicodedata
from typing import TextIO

_CODES = {
    "bold": "1",
    "dim": "2",
    "red": "31",
    "green": "32",
    "yellow": "33",
    "blue": "34",
    "cyan": "36",
}
_UNSHOWN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Kinds of characters that are not seen, or that end a line."""


class Style:
    """Paints words when `color` is on; otherwise gives them back."""

    def __init__(self, *, color: bool) -> None:
        self.color = color

    def paint(self, text: str, *styles: str) -> str:
        if not self.color or not styles:
            return text
        return f"\x1b[{';'.join(_CODES[style] for style in styles)}m{text}\x1b[0m"


def wants_color(stream: TextIO) -> bool:
    """Whether to colour what goes to `stream`: a terminal, and neither NO_COLOR nor TERM=dumb."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


def escape(text: str) -> str:
    """`text` with control, formatting and bidirectional characters shown, not obeyed."""
    return "".join(
        char if char == "\t" or unicodedata.category(char) not in _UNSHOWN else _shown(char)
        for char in text
    )


def _shown(char: str) -> str:
    return char.encode("unicode_escape", "backslashreplace").decode()
