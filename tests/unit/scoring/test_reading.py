"""Rows of files: what becomes of each kind of value, and what a file as a whole can lack."""

from __future__ import annotations

import builtins
import math
from pathlib import Path
from typing import Any

import pytest

from mlspec.errors import MlspecError
from mlspec.scoring.reading import Row, read_rows

TYPES = {
    "amount": {"name": "amount", "type": "number"},
    "count": {"name": "count", "type": "integer"},
    "grade": {"name": "grade", "type": "string"},
    "new": {"name": "new", "type": "boolean"},
}


def read(tmp_path: Path, name: str, text: str | bytes, types: Any = TYPES) -> list[Row]:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return list(read_rows(path, types))


def test_texts_of_csv_become_what_their_columns_are(tmp_path: Path) -> None:
    text = (
        "id,new,grade,count,amount\n"
        "a,true,001,12,1.5\n"
        "b,False,,-3,-1e3\n"
        '"c, d",TRUE,"x ""y""",9007199254740993,.5\n'
    )
    rows = read(tmp_path, "rows.csv", text)
    assert [row.values for row in rows] == [
        {"amount": 1.5, "count": 12, "grade": "001", "new": True},
        {"amount": -1000.0, "count": -3, "grade": "", "new": False},
        {"amount": 0.5, "count": 9007199254740993, "grade": 'x "y"', "new": True},
    ]
    assert [(row.number, row.others) for row in rows] == [
        (1, {"id": "a"}),
        (2, {"id": "b"}),
        (3, {"id": "c, d"}),
    ]


@pytest.mark.parametrize("text", ["", "x", "nan", "inf", "1e999", "1_000", "0x1", "1,5"])
def test_a_text_that_is_no_number_is_left_to_the_service(tmp_path: Path, text: str) -> None:
    [row] = read(tmp_path, "rows.tsv", f"amount\tcount\tgrade\tnew\n{text}\t{text}\tA\t{text}\n")
    assert (row.values["amount"], row.values["count"], row.values["new"]) == (text, text, text)
    assert type(row.values["amount"]) is str


def test_an_empty_cell_is_none_where_the_model_knows_what_to_do(tmp_path: Path) -> None:
    types = {"amount": {"name": "amount", "type": "number", "missing": True}}
    rows = read(tmp_path, "rows.csv", "amount,x\n,1\n2,1\n", types)
    assert [row.values["amount"] for row in rows] == [None, 2.0]


def test_a_mark_of_byte_order_and_line_ends_of_windows(tmp_path: Path) -> None:
    data = b"\xef\xbb\xbfamount,count,grade,new\r\n1,2,A,true\r\n\r\n3,4,B,false\r\n"
    assert [row.values["amount"] for row in read(tmp_path, "rows.csv", data)] == [1.0, 3.0]


def test_a_line_of_another_length_is_a_row_with_a_problem(tmp_path: Path) -> None:
    one, two = read(tmp_path, "rows.csv", "amount,count,grade,new\n1,2\n1,2,A,true\n")
    assert (one.problem, one.text) == ("has 2 values, and the header names 4", "1,2")
    assert not two.problem


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("rows.csv", b"amount,count\n1,2\n", "lacks what the model takes: grade, new"),
        ("rows.csv", b"amount,amount,count,grade,new\n", "more than one column named amount"),
        ("rows.csv", b"", "lacks what the model takes"),
        ("rows.csv", b"amount,count,grade,new\n1,2,\xff,true\n", "is not UTF-8: byte 0xff"),
        ("rows.jsonl", b'{"grade":"\xff"}\n', "is not UTF-8: byte 0xff"),
        ("rows.xlsx", b"", "is of no kind that can be read"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole(tmp_path: Path, name: str, data: bytes, said: str) -> None:
    with pytest.raises(MlspecError, match=said):
        read(tmp_path, name, data)


def test_lines_of_json(tmp_path: Path) -> None:
    text = (
        '{"amount": 1, "count": 2, "grade": "A", "new": true, "id": 7}\n\n'
        "[1]\n{\n"
        '{"amount": NaN}\n'
        '{"amount": 1e400}\n' + "[" * 100_000 + "\n"
    )
    rows = read(tmp_path, "rows.jsonl", text)
    assert rows[0].values == {"amount": 1, "count": 2, "grade": "A", "new": True}
    assert rows[0].others == {"id": 7}
    assert [row.problem for row in rows[1:]] == [
        "must be an object",
        "is not JSON",
        "is not JSON",
        "",
        "is not JSON",
    ]
    assert rows[4].values == {"amount": "1e400"}


def test_parquet_without_pyarrow_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("pyarrow"):
            raise ImportError
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MlspecError, match="pyarrow, which is not installed"):
        read(tmp_path, "rows.parquet", b"")


def test_parquet(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = pyarrow.table(
        {
            "amount": [1.5, None, math.nan, math.inf],
            "count": [1, 2, 3, 4],
            "grade": ["A", "B", "C", "D"],
            "id": [7, 8, math.nan, 9],
        }
    )
    path = tmp_path / "rows.parquet"
    types = {name: TYPES[name] for name in ("amount", "count", "grade")}
    parquet.write_table(table, path)
    rows = list(read_rows(path, types))
    assert rows[0].values == {"amount": 1.5, "count": 1, "grade": "A"}
    assert rows[1].values["amount"] is None
    assert rows[1].others == {"id": 8}
    assert [row.values["amount"] for row in rows[2:]] == [None, None]
    assert rows[2].others == {"id": None}
    path.write_bytes(b"PAR1 not")
    with pytest.raises(MlspecError, match="is not Parquet"):
        list(read_rows(path, types))
