"""Writes predictions to a file of CSV, lines of JSON or Parquet: all of them, or nothing.

Each has the row's number, counted from 1; the value of a column that identifies it (`id`), if one
was named; the prediction; probabilities, if the model gives them; and the version that predicted.
"""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from mlspec.atomic import sync_folder
from mlspec.errors import MlspecError, unusable
from mlspec.scoring.asking import Problem, Scored

GROUP = 10_000
"""Rows of Parquet that are written at once."""
Write = Callable[[Mapping[str, Any]], None]


def as_dict(scored: Scored, identity: str | None, name: str = "") -> dict[str, Any]:
    """What is written of a row, by name; with a `name`, each prediction has one of its own."""
    row = scored.row
    named = {} if identity is None else {"id": {**row.others, **row.values}.get(identity)}
    probable = {} if scored.probabilities is None else {"probabilities": scored.probabilities}
    return {
        "row": row.number,
        **named,
        "prediction": scored.prediction,
        **probable,
        "model_version": scored.version,
        **({"prediction_id": f"{name}-{row.number}"} if name else {}),
    }


def problem_as_dict(problem: Problem) -> dict[str, Any]:
    """What is told of a row that has no prediction, with what it held."""
    column = {"column": problem.column} if problem.column else {}
    return {
        "row": problem.row.number,
        **column,
        "problem": problem.problem,
        "input": problem.row.text or {**problem.row.values, **problem.row.others},
    }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path` that takes its place when the block ends well, and else is gone.

    Raises :class:`MlspecError` when the file system refuses.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".mlspec-", suffix=".tmp")
    except OSError as error:
        raise MlspecError(f"cannot write {path}: {error.strerror}") from None
    draft = Path(name)
    try:
        yield draft
        os.fsync(handle)
        umask = os.umask(0)
        os.umask(umask)
        draft.chmod(0o666 & ~umask)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        raise unusable(error) from None
    finally:
        os.close(handle)
        with suppress(OSError):
            draft.unlink()


@contextmanager
def write_json_lines(path: Path) -> Iterator[Write]:
    """Give each row to what this gives; a value that JSON does not have is written as text."""
    with path.open("w", encoding="utf-8") as file:
        yield lambda row: _write_line(file, row)


def _write_line(file: IO[str], row: Mapping[str, Any]) -> None:
    file.write(json.dumps(row, default=str) + "\n")


@contextmanager
def _write_csv(path: Path) -> Iterator[Write]:
    """A column for each probability; the columns are those of the first row."""
    # an `id` may hold half of a character, which no file can
    with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        header: list[str] = []

        def write(row: Mapping[str, Any]) -> None:
            flat = dict(_flat(row))
            if not header:
                header.extend(flat)
                lines.writerow(header)
            lines.writerow([_cell(flat.get(name)) for name in header])

        yield write


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if name == "probabilities":
            yield from ((f"probability_{number}", each) for number, each in enumerate(value))
        else:
            yield name, value


def _cell(value: Any) -> Any:
    return json.dumps(value, default=str) if isinstance(value, list | dict | bool) else value


@contextmanager
def _write_parquet(path: Path) -> Iterator[Write]:
    try:
        from pyarrow import ArrowException, Table, parquet
    except ImportError:
        raise MlspecError(
            "Parquet is written by pyarrow, which is not installed",
            hint="pip install pyarrow, or write CSV: --out predictions.csv",
        ) from None
    writer: Any = None
    rows: list[Mapping[str, Any]] = []

    def flush() -> None:
        nonlocal writer
        try:
            table = Table.from_pylist(rows, schema=writer and writer.schema)
            writer = writer or parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
        except (ArrowException, UnicodeEncodeError) as error:
            raise MlspecError(
                f"these predictions do not go into Parquet: {str(error).splitlines()[0]}",
                hint="each column of it has one type; write CSV or lines of JSON",
            ) from None
        rows.clear()

    def write(row: Mapping[str, Any]) -> None:
        rows.append(row)
        if len(rows) == GROUP:
            flush()

    try:
        yield write
        if rows or writer is None:
            flush()
    finally:
        if writer is not None:
            writer.close()


WRITERS = {
    ".csv": _write_csv,
    ".jsonl": write_json_lines,
    ".ndjson": write_json_lines,
    ".parquet": _write_parquet,
}
"""By the end of a file's name: a context that gives a function which writes a row."""
