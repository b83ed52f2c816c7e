"""Problems of a spec as text: what, where, the line with carets under it, and how to mend it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from mlspec.errors import Diagnostic, Place
from mlspec.render.style import Style, escape

WIDTH = 100
"""Of a longer line, this many characters around the problem are shown."""


def render_diagnostics(diagnostics: Sequence[Diagnostic], color: bool) -> str:
    """All problems, a blank line between them; ends without a newline."""
    style = Style(color=color)
    return "\n\n".join("\n".join(_lines(diagnostic, style)) for diagnostic in diagnostics)


def _lines(diagnostic: Diagnostic, style: Style) -> Iterator[str]:
    where = "".join(f"{escape(part)}: " for part in (diagnostic.address, diagnostic.field) if part)
    label = style.paint(f"error[{diagnostic.code}]", "bold", "red")
    yield f"{label} {where}{style.paint(escape(diagnostic.message), 'bold')}"
    place = diagnostic.place
    margin = " " * len(str(place.line)) if place else ""
    bar = style.paint(f"{margin} |", "blue")
    if place:
        yield f"{margin}{style.paint('-->', 'blue')} {escape(str(place))}"
        if place.source:
            source, carets = _excerpt(place)
            yield bar
            yield f"{style.paint(f'{place.line} |', 'blue')} {source}"
            yield f"{bar} {style.paint(carets, 'bold', 'red')}"
    if diagnostic.hint:
        yield f"{margin} {style.paint('= help:', 'blue')} {escape(diagnostic.hint)}"
    if diagnostic.more:
        yield f"{margin} {style.paint('= and', 'blue')} {diagnostic.more:,} more like it"


def _excerpt(place: Place) -> tuple[str, str]:
    """The line, or the part of it around the problem, and the carets to go below."""
    first = place.column - 1
    start = max(0, first - WIDTH // 2) if len(place.source) > WIDTH else 0
    end = start + WIDTH
    before, after = place.source[start:first], place.source[first:end]
    marked, rest = after[: place.length], after[place.length :]
    lead = "…" if start else ""
    tail = "…" if len(place.source) > end else ""
    before, marked, rest = (escape(part.replace("\t", " ")) for part in (before, marked, rest))
    carets = "^" * max(1, _columns(marked))
    return f"{lead}{before}{marked}{rest}{tail}".rstrip(), " " * _columns(lead + before) + carets


def _columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    return sum(
        0 if unicodedata.combining(character)
        else 2 if unicodedata.east_asian_width(character) in "WF"
        else 1
        for character in text
    )  # fmt: skip
