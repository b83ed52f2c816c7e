"""Bytes of a file to text: UTF-8, and nothing in it that cannot be seen.

Comes in: the bytes of a file. Goes out: its lines and its text, or what is wrong with them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

from mlspec.errors import Diagnostic, Place
from mlspec.spec.show import FORBIDDEN, escape
from mlspec.spec.tree import File

MAX_BYTES = 4 * 2**20
MAX_CHARACTERS = 20
"""Bad characters of one file that are reported; the rest would only repeat them."""

_JOINERS = "\u200c\u200d"
# A joiner belongs between two letters of a script that joins them, or two emoji.
_FORBIDDEN = re.compile(
    f"[{FORBIDDEN}]|(?<![^\\x00-\\x7f])[{_JOINERS}]|[{_JOINERS}](?![^\\x00-\\x7f])"
)
_LINE_END = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Text:
    """The text of a file; it is not to be read if there are problems."""

    file: File
    text: str
    problems: tuple[Diagnostic, ...] = ()


def decode(data: bytes, path: str) -> Text:
    """The text of a file's bytes, without a mark of byte order at its start."""
    if len(data) > MAX_BYTES:
        file = File(path, ())
        message = f"the file has {len(data):,} bytes; the limit is {MAX_BYTES:,} (4 MiB)"
        hint = "split it into several files and name them in `include`"
        problem = Diagnostic("MLS005", message, place=file.place(1, 1, 1), hint=hint)
        return Text(file, "", (problem,))
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        return Text(File(path, ()), "", (_not_utf8(data, path, error),))
    text = text.removeprefix("\ufeff")
    file = File(path, tuple(_LINE_END.split(text)))
    return Text(file, text, tuple(_bad_characters(text, file)))


def bad_character(text: str) -> str:
    """The first character of `text` that may not stand in a spec; none is the empty string."""
    bad = _FORBIDDEN.search(text)
    return bad[0] if bad else ""


def refuse(character: str, place: Place) -> Diagnostic:
    """What is wrong with a bad character at `place`."""
    title = unicodedata.name(character, "a control character").lower()
    return Diagnostic(
        "MLS004",
        f"the character {escape(character)} ({title}) may not stand in a spec",
        place=place,
        hint="delete it; it is not visible, or changes how the text around it looks",
    )


def _not_utf8(data: bytes, path: str, error: UnicodeDecodeError) -> Diagnostic:
    before = data[: error.start]
    line = before.count(b"\n") + 1
    start = before.rfind(b"\n") + 1
    column = len(before[start:].decode("utf-8", "replace")) + 1
    file = File(path, tuple(part.decode("utf-8", "replace") for part in data.split(b"\n")[:line]))
    wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    what = "the file is not UTF-8: it looks like UTF-16" if wide else "the file is not UTF-8"
    place = file.place(line, column, 1)
    return Diagnostic("MLS003", what, place=place, hint="save the file as UTF-8")


def _bad_characters(text: str, file: File) -> Iterator[Diagnostic]:
    if _FORBIDDEN.search(text) is None:
        return
    found = 0
    for number, line in enumerate(file.lines, start=1):
        for match in _FORBIDDEN.finditer(line):
            yield refuse(match[0], file.place(number, match.start() + 1, 1))
            found += 1
            if found == MAX_CHARACTERS:
                return
