"""Text of users as Markdown that shows exactly that text: no markup, HTML, mention or reference."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_MARKUP = re.compile(r"([\\`*_\[\]{}|~$])")
_BLOCK_START = re.compile(r"^([#+=-]|[0-9]{1,9}(?=[.)]))")
_REFERENCE = re.compile(r"(?<![A-Za-z0-9])(@|GH-|#)(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(#)(?=[0-9])")
_HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_WORD_JOINER = "\u2060"


def escape(text: str) -> str:
    """`text` on one line. A mention or a reference to an issue is broken by an invisible sign."""
    line = _visible(" ".join(text.split()))
    line = _MARKUP.sub(r"\\\1", re.sub("[&<>]", lambda match: _HTML[match[0]], line))
    line = _REFERENCE.sub(lambda match: match[0] + _WORD_JOINER, line)
    return _BLOCK_START.sub(_escape_start, line)


def paragraphs(text: str) -> str:
    """`text` with its paragraphs, each escaped."""
    parts = re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n"))
    return "\n\n".join(escape(part) for part in parts if part.strip())


def code(text: str) -> str:
    """`text` on one line as code, in the cell of a table too."""
    line = _visible(" ".join(text.split())).replace("|", "\\|")
    longest = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest + 1)
    space = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{space}{line}{space}{fence}" if line else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = (head, ["---"] * len(head), *rows)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _visible(text: str) -> str:
    return _HIDDEN.sub(lambda match: f"U+{ord(match[0]):04X}", text)


def _escape_start(match: re.Match[str]) -> str:
    return f"{match[0]}\\" if match[0].isdigit() else f"\\{match[0]}"
