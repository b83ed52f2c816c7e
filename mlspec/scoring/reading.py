"""Reads rows from a file: CSV, TSV, lines of JSON, or Parquet if pyarrow is installed.

A text of CSV becomes what its column is in the model, if it can; one that cannot stays a text,
which the service then refuses by row and column, as it would for anybody.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlspec.errors import MlspecError, unusable

LONGEST_FIELD = 10 * 2**20
INTEGER = re.compile(r"[+-]?[0-9]{1,30}")
NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
Types = Mapping[str, Mapping[str, Any]]
"""By name, the columns of the model as its signature has them."""


@dataclass(frozen=True, slots=True)
class Row:
    """`number` counts from 1, `values` are of the model's columns; `others` are the other columns.

    One that could not be read has a `problem` instead of values, and the `text` that it is.
    """

    number: int
    values: Mapping[str, Any]
    others: Mapping[str, Any]
    problem: str = ""
    text: str = ""


def read_rows(path: Path, types: Types) -> Iterator[Row]:
    """The rows of a file, in order. Raises :class:`MlspecError` if it cannot be read as a whole."""
    read = READERS.get(path.suffix.lower())
    if read is None:
        raise MlspecError(
            f"{path.name} is of no kind that can be read",
            hint=f"the kinds are {', '.join(READERS)}, told by the end of the name",
        )
    try:
        yield from read(path, types)
    except UnicodeDecodeError as error:
        raise MlspecError(
            f"{path.name} is not UTF-8: byte {error.object[error.start]:#x}",
            hint="write it as UTF-8: iconv -f latin1 -t utf-8",
        ) from None
    except OSError as error:
        raise unusable(error) from None


def _split(number: int, row: Mapping[str, Any], types: Types) -> Row:
    values = {name: value for name, value in row.items() if name in types}
    return Row(number, values, {name: row[name] for name in row if name not in types})


def _read_csv(path: Path, types: Types, delimiter: str = ",") -> Iterator[Row]:
    csv.field_size_limit(LONGEST_FIELD)
    convert = {name: _converter(column) for name, column in types.items()}
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file, delimiter=delimiter)
        try:
            header = next(lines, [])
            _check_header(path, header, types)
            number = 0
            for cells in lines:
                if not cells:
                    continue  # an empty line
                number += 1
                if len(cells) != len(header):
                    problem = f"has {len(cells)} values, and the header names {len(header)}"
                    yield Row(number, {}, {}, problem, delimiter.join(cells))
                    continue
                row = {
                    name: convert[name](cell) if name in convert else cell
                    for name, cell in zip(header, cells, strict=True)
                }
                yield _split(number, row, types)
        except csv.Error as error:
            raise MlspecError(f"{path.name}, line {lines.line_num}: {error}") from None


def _check_header(path: Path, header: Sequence[str], types: Types) -> None:
    if repeated := next((name for name in header if header.count(name) > 1), None):
        raise MlspecError(f"{path.name} has more than one column named {repeated}")
    _check_columns(path, header, types)


def _check_columns(path: Path, header: Sequence[str], types: Types) -> None:
    missing = [name for name in types if name not in header]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        here = ", ".join(header[:8]) or "nothing"
        raise MlspecError(
            f"{path.name} lacks what the model takes: {', '.join(missing[:5])}{more}",
            hint=f"its first line names the columns; here these: {here}",
        )


def _converter(column: Mapping[str, Any]) -> Callable[[str], Any]:
    """What makes a value of a cell; an empty one is none, where the model knows what to do then."""
    convert = CONVERT[column["type"]]
    if column.get("missing"):
        return lambda text: convert(text) if text else None
    return convert


def _integer(text: str) -> Any:
    return int(text) if INTEGER.fullmatch(text) else text


def _number(text: str) -> Any:
    if not NUMBER.fullmatch(text):
        return text
    value = float(text)
    return value if math.isfinite(value) else text


def _boolean(text: str) -> Any:
    return {"true": True, "false": False}.get(text.lower(), text)


def _string(text: str) -> Any:
    return text


CONVERT: Mapping[str, Callable[[str], Any]] = {
    "integer": _integer,
    "number": _number,
    "boolean": _boolean,
    "string": _string,
}


def _read_tsv(path: Path, types: Types) -> Iterator[Row]:
    return _read_csv(path, types, "\t")


def _read_json_lines(path: Path, types: Types) -> Iterator[Row]:
    with path.open(encoding="utf-8-sig") as file:
        number = 0
        for line in file:
            if not line.strip():
                continue
            number += 1
            try:
                row = json.loads(line, parse_float=_number, parse_constant=_refuse)
            except (ValueError, RecursionError):
                yield Row(number, {}, {}, "is not JSON", line.rstrip("\n"))
                continue
            if isinstance(row, dict):
                yield _split(number, row, types)
            else:
                yield Row(number, {}, {}, "must be an object", line.rstrip("\n"))


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _read_parquet(path: Path, types: Types) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise MlspecError(
            f"{path.name}: Parquet is read by pyarrow, which is not installed",
            hint="pip install pyarrow, or write the rows as CSV",
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            _check_columns(path, file.schema_arrow.names, types)
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield _split(number, _finite(row), types)
    except ArrowException as error:
        raise MlspecError(f"{path.name} is not Parquet: {str(error).splitlines()[0]}") from None


def _finite(value: Any) -> Any:
    """JSON has no number for what is none: the service says so of nothing at all as well."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


READERS: Mapping[str, Callable[[Path, Types], Iterator[Row]]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".parquet": _read_parquet,
}
