"""Rows that a service refuses are found, whatever it says of them, and the others are scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from mlspec.errors import MlspecError
from mlspec.scoring.asking import Problem, Scored, score
from mlspec.scoring.reading import Row


def make_rows(*values: Any) -> list[Row]:
    return [Row(number, {"x": value}, {}) for number, value in enumerate(values, 1)]


class Service:
    """Doubles numbers; `tells` whether it names rows that are wrong, at most so many at once."""

    def __init__(self, tells: int = 20, largest: int = 10**9) -> None:
        self.tells = tells
        self.largest = largest
        self.sizes: list[int] = []

    def __call__(self, body: bytes) -> tuple[int, Mapping[str, Any]]:
        values = [row["x"] for row in json.loads(body)["rows"]]
        self.sizes.append(len(values))
        if len(body) > self.largest:
            return 413, {"error": "request: is too large"}
        wrong = [number for number, value in enumerate(values) if not isinstance(value, int)]
        if wrong and self.tells:
            found = [{"row": n, "column": "x", "problem": "must be"} for n in wrong[: self.tells]]
            return 422, {"error": "wrong", "problems": found}
        if wrong:
            return 400, {"error": "request: is not valid JSON", "problems": [{"problem": "no"}]}
        return 200, {"version": 3, "predictions": [2 * value for value in values]}


def outcomes(service: Service, rows: list[Row], batch_size: int = 1000) -> list[Any]:
    found: list[Any] = []
    for batch in score(iter(rows), service, batch_size):
        for each in batch:
            predicted = each.prediction if isinstance(each, Scored) else each.problem
            found.append((each.row.number, predicted))
    return found


def test_all_that_is_well_is_scored_in_batches() -> None:
    service = Service()
    rows = make_rows(*range(25))
    assert outcomes(service, rows, 10) == [(n + 1, 2 * n) for n in range(25)]
    assert service.sizes == [10, 10, 5]


@pytest.mark.parametrize("tells", [20, 1, 0])
def test_rows_that_are_wrong_are_told_and_the_others_scored(tells: int) -> None:
    rows = make_rows(1, "a", 3, 4, None, 6)
    found = outcomes(Service(tells), rows)
    said = "must be" if tells else "is not valid JSON"
    assert found == [(1, 2), (2, said), (3, 6), (4, 8), (5, said), (6, 12)]


def test_a_row_that_could_not_be_read_is_not_asked_for() -> None:
    service = Service()
    rows = [*make_rows(1, 2), Row(3, {}, {}, "is not JSON", "{")]
    assert outcomes(service, rows) == [(1, 2), (2, 4), (3, "is not JSON")]
    assert service.sizes == [2]


def test_a_batch_that_is_too_large_is_halved() -> None:
    service = Service(largest=60)
    assert outcomes(service, make_rows(*range(10, 20))) == [(n - 9, 2 * n) for n in range(10, 20)]
    assert service.sizes[0] == 10
    assert len(service.sizes) > 2


def test_only_rows_that_are_wrong_is_no_request_in_the_end() -> None:
    service = Service()
    assert outcomes(service, make_rows("a", "b")) == [(1, "must be"), (2, "must be")]
    assert service.sizes == [2]


def test_an_answer_of_another_length_is_never_taken() -> None:
    def ask(_body: bytes) -> tuple[int, Mapping[str, Any]]:
        return 200, {"version": 1, "predictions": [1]}

    with pytest.raises(MlspecError, match="gave 1 predictions for 2 rows"):
        list(score(iter(make_rows(1, 2)), ask, 10))


def test_a_problem_has_its_row_and_column() -> None:
    [[problem]] = score(iter(make_rows("a")), Service(), 10)
    assert problem == Problem(make_rows("a")[0], "x", "must be")
