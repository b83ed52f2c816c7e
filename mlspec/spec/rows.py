"""A CSV file as rows of nodes: UTF-8, commas, a header, each row on one line.

Comes in: the bytes of the file. Goes out: :class:`Rows`, or what is wrong with them. A cell means
what the same text means in YAML: in quotes it is text, without quotes a number is a number, and a
word that readers disagree about is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import compress

from mlspec.errors import Diagnostic, Place
from mlspec.spec.characters import decode
from mlspec.spec.literals import BY_REFERENCE, LOOKS_SECRET, is_secret
from mlspec.spec.scalars import Refused, resolve_scalar
from mlspec.spec.show import holds_secret, names_secret, show
from mlspec.spec.tree import File, Node

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
"""What a column, like any key of a matrix, may be called."""
_CELL = re.compile(r'\s*(?:"((?:[^"]|"")*)"\s*|([^",]*))(,|\Z)')
_NOT_TEXT = {"MLS003", "MLS005"}


@dataclass(frozen=True, slots=True)
class Rows:
    """The names of the columns, and a node for each cell of each row."""

    header: tuple[Node, ...]
    rows: tuple[tuple[Node, ...], ...]
    problems: tuple[Diagnostic, ...] = ()


def parse_rows(data: bytes, path: str, most: int) -> Rows:
    """The rows of a file; of one with more than `most` rows, the first of them and one more."""
    decoded = decode(data, path)
    if decoded.problems:
        hint = "keep a shorter table"
        problems = (
            replace(each, code="MLS086", hint=hint if each.code == "MLS005" else each.hint)
            if each.code in _NOT_TEXT
            else each
            for each in decoded.problems
        )
        return Rows((), (), tuple(problems))
    return _Reader(replace(decoded.file, is_table=True)).read(most)


class _Reader:
    """Turns the lines of one file into rows."""

    def __init__(self, file: File) -> None:
        self.file = file
        self.problems: list[Diagnostic] = []

    def read(self, most: int) -> Rows:
        lines = [(number, line) for number, line in enumerate(self.file.lines, 1) if line.strip()]
        if not lines:
            self._report(self.file.place(1, 1, 1), "the file is empty", "start with the names")
            return Rows((), (), tuple(self.problems))
        header = tuple(self._header(*lines[0]))
        if self.problems:
            return Rows((), (), tuple(self.problems))
        rows = []
        secretive = holds_secret("\n".join(self.file.lines))
        suspects = [secretive or names_secret(column.text) for column in header]
        for number, line in lines[1 : most + 2]:
            row = tuple(self._cells(number, line))
            if len(row) == len(header):
                rows.append(row)
                self._check_secrets(compress(header, suspects), compress(row, suspects))
            elif row:
                message = f"the row has {_count(len(row))}, the header has {len(header)}"
                hint = 'write one for each column; one that holds a comma in double quotes: "a, b"'
                self._report(row[0].place, message, hint)
        return Rows(header, tuple(rows), tuple(self.problems))

    def _header(self, number: int, line: str) -> list[Node]:
        seen: dict[str, Node] = {}
        for cell in self._split(number, line):
            if not cell.text:
                self._report(cell.place, "a column has no name", "write a name above each column")
            elif not NAME.fullmatch(cell.text):
                hint = "use letters, digits, `_` and `-`, and separate columns with commas"
                self._report(cell.place, f"{show(cell.text)} is not the name of a column", hint)
            elif cell.text in seen:
                message = f"the column {show(cell.text)} stands twice"
                self._report(cell.place, message, "rename or remove one of them")
            seen.setdefault(cell.text, cell)
        return list(seen.values())

    def _cells(self, number: int, line: str) -> list[Node]:
        cells = self._split(number, line)
        for cell in cells:
            if cell.value is not None:
                continue
            value = resolve_scalar(cell.text)
            if isinstance(value, Refused):
                hint = value.hint if value.text is None else hint_of_text(value.text)
                self.problems.append(
                    Diagnostic(value.code, value.message, place=cell.place, hint=hint)
                )
            elif value is None:
                self._report(cell.place, "a cell has no value", 'write one, or "" for no text')
            cell.value = "" if isinstance(value, Refused) else value
        return cells

    def _check_secrets(self, columns: Iterable[Node], cells: Iterable[Node]) -> None:
        for column, cell in zip(columns, cells, strict=True):
            if is_secret((column.text,), cell.text):
                # What a row shows does not tell which of its cells is the secret.
                place = replace(cell.place, source="")
                self.problems.append(
                    Diagnostic("MLS027", LOOKS_SECRET, place=place, hint=BY_REFERENCE)
                )

    def _split(self, number: int, line: str) -> list[Node]:
        """The cells of a line; one without quotes has no value yet."""
        if '"' not in line:
            cells, column = [], 1
            for part in line.split(","):
                text = part.strip()
                start = column + len(part) - len(part.lstrip())
                cells.append(Node(self.file, number, start, max(1, len(text)), None, text))
                column += len(part) + 1
            return cells
        cells, at = [], 0
        while (match := _CELL.match(line, at)) is not None:
            quoted = match[1] is not None
            text = match[1].replace('""', '"') if quoted else match[2].strip()
            start = match.start(1) - 1 if quoted else match.start(2)
            length = max(1, len(match[1]) + 2 if quoted else len(text))
            value = text if quoted else None
            cells.append(Node(self.file, number, start + 1, length, value, text))
            if not match[3]:
                return cells
            at = match.end()
        message = "a quote is not closed on its line, or stands inside a cell"
        hint = 'put the whole cell in quotes, with "" for a quote in it'
        self._report(self.file.place(number, at + 1, len(line) - at), message, hint)
        return []

    def _report(self, place: Place, message: str, hint: str) -> None:
        self.problems.append(Diagnostic("MLS086", message, place=place, hint=hint))


def hint_of_text(text: str) -> str:
    """How to write a cell that is text and looks like something else."""
    return f'to have it as text, put the cell into double quotes: "{text}"'


def _count(cells: int) -> str:
    return "one value" if cells == 1 else f"{cells} values"
