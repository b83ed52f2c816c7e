"""Asks a service for the predictions of rows, and finds those that it refuses.

A service refuses a request as a whole and names rows and columns. What it names is set aside, and
the others are asked for again; where it names none, the rows are halved until it is plain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import islice
from typing import Any

from mlspec.errors import MlspecError
from mlspec.scoring.reading import Row

Ask = Callable[[bytes], tuple[int, Mapping[str, Any]]]
"""Sends the body of a request; the status and the JSON of the answer."""


@dataclass(frozen=True, slots=True)
class Scored:
    """What was predicted for a row."""

    row: Row
    prediction: Any
    probabilities: Sequence[float] | None
    version: int


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a row has no prediction; `column` is empty if the row as a whole is wrong."""

    row: Row
    column: str
    problem: str


def score(rows: Iterator[Row], ask: Ask, batch_size: int) -> Iterator[list[Scored | Problem]]:
    """What came of the rows, batch by batch; a row that is wrong may have several problems."""
    while batch := list(islice(rows, batch_size)):
        unread = [Problem(row, "", row.problem) for row in batch if row.problem]
        answered = _score_batch([row for row in batch if not row.problem], ask)
        yield sorted([*unread, *answered], key=lambda outcome: outcome.row.number)


def _score_batch(rows: Sequence[Row], ask: Ask) -> Iterator[Scored | Problem]:
    while rows:
        status, answer = ask(_body(rows))
        if status == HTTPStatus.OK:
            yield from _scored(rows, answer)
            return
        found = [problem for problem in answer.get("problems", ()) if "row" in problem]
        if not found:
            yield from _halve(rows, ask, answer)
            return
        for each in found:
            yield Problem(rows[each["row"]], each.get("column", ""), each["problem"])
        wrong = {each["row"] for each in found}
        rows = [row for number, row in enumerate(rows) if number not in wrong]


def _halve(rows: Sequence[Row], ask: Ask, answer: Mapping[str, Any]) -> Iterator[Scored | Problem]:
    if len(rows) == 1:
        [row] = rows
        problem = str(answer.get("error", "the service did not say why"))
        yield Problem(row, "", problem.removeprefix("request: "))
        return
    middle = len(rows) // 2
    yield from _score_batch(rows[:middle], ask)
    yield from _score_batch(rows[middle:], ask)


def _body(rows: Sequence[Row]) -> bytes:
    return json.dumps(
        {"rows": [dict(row.values) for row in rows]}, default=str, allow_nan=False
    ).encode()


def _scored(rows: Sequence[Row], answer: Mapping[str, Any]) -> Iterator[Scored]:
    predictions = answer["predictions"]
    probabilities = answer.get("probabilities") or [None] * len(rows)
    if not len(rows) == len(predictions) == len(probabilities):
        raise MlspecError(f"the service gave {len(predictions)} predictions for {len(rows)} rows")
    for row, prediction, probable in zip(rows, predictions, probabilities, strict=True):
        yield Scored(row, prediction, probable, answer["version"])
