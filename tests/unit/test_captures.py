"""A captured line is read as its rows, whatever wrote it; of a damaged one nothing is read."""

from __future__ import annotations

import json

import pytest

from mlspec.captures import read_rows

LINE = {
    "ts": "2026-11-21T20:00:00.000+00:00",
    "request": {"rows": [{"a": 1}, {"a": 2}]},
    "answer": {
        "id": "x",
        "model": "m",
        "version": 3,
        "predictions": ["yes", "no"],
        "probabilities": [[0.1, 0.9], [0.8, 0.2]],
    },
}


def test_a_request_is_read_as_its_rows() -> None:
    assert list(read_rows(json.dumps(LINE).encode())) == [
        {
            "id": "x",
            "row": number,
            "ts": LINE["ts"],
            "model": "m",
            "model_version": 3,
            "inputs": {"a": number + 1},
            "output": {"prediction": label, "probabilities": probabilities},
        }
        for number, label, probabilities in ((0, "yes", [0.1, 0.9]), (1, "no", [0.8, 0.2]))
    ]


def test_of_a_key_that_is_there_twice_the_last_counts() -> None:
    text = json.dumps(LINE).replace('{"a": 1}', '{"a": 1, "a": 7}')
    assert [row["inputs"] for row in read_rows(text.encode())] == [{"a": 7}, {"a": 2}]


def test_a_line_of_an_older_service_is_a_row() -> None:
    row = {"id": "x", "row": 1, "model_version": 2, "inputs": {}, "output": {"prediction": 1}}
    assert list(read_rows(json.dumps(row).encode())) == [row]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"7",
        b"\xff",
        json.dumps(LINE).encode()[:-9],
        b'{"answer": 1, "request": {"rows": []}}',
        b'{"answer": {"predictions": [1]}, "request": {"rows": [{}]}}',
        b'{"ts": 1, "answer": {"id": 1, "model": 1, "version": 1}, "request": []}',
    ],
)
def test_a_damaged_line_has_no_rows(line: bytes) -> None:
    assert list(read_rows(line)) == []
