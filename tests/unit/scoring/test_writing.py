"""Predictions in files: each kind, and never half of one."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from mlspec.errors import MlspecError
from mlspec.scoring.asking import Problem, Scored
from mlspec.scoring.reading import Row
from mlspec.scoring.writing import WRITERS, as_dict, problem_as_dict, replacing

ROW = Row(1, {"income": 2.0}, {"id": "a"})
SCORED = [
    Scored(ROW, 1, [0.25, 0.75], 3),
    Scored(Row(2, {"income": 2.5}, {"id": 'b,"'}), 0, [1.0, 0.0], 3),
]


def write(path: Path) -> None:
    with WRITERS[path.suffix](path) as put:
        for scored in SCORED:
            put(as_dict(scored, "id"))


def test_csv_has_a_column_for_each_probability(tmp_path: Path) -> None:
    write(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == (
        "row,id,prediction,probability_0,probability_1,model_version\n"
        "1,a,1,0.25,0.75,3\n"
        '2,"b,""",0,1.0,0.0,3\n'
    )


def test_lines_of_json(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl")
    first, _ = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert first == {
        "row": 1,
        "id": "a",
        "prediction": 1,
        "probabilities": [0.25, 0.75],
        "model_version": 3,
    }


def test_parquet(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from pyarrow import parquet

    write(tmp_path / "out.parquet")
    rows = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert [row["prediction"] for row in rows] == [1, 0]


def test_without_probabilities_and_without_an_id(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    with WRITERS[".csv"](path) as put:
        put(as_dict(Scored(ROW, [1, 2], None, 3), None))
        put(as_dict(Scored(ROW, True, None, 3), None))
    assert path.read_text() == 'row,prediction,model_version\n1,"[1, 2]",3\n1,true,3\n'


def test_a_row_that_was_wrong_is_kept_as_it_was() -> None:
    assert problem_as_dict(Problem(ROW, "income", "must be a number")) == {
        "row": 1,
        "column": "income",
        "problem": "must be a number",
        "input": {"income": 2.0, "id": "a"},
    }
    unread = Row(2, {}, {}, "is not JSON", "{")
    assert problem_as_dict(Problem(unread, "", "is not JSON"))["input"] == "{"


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as draft:
        draft.write_text("half")
        raise RuntimeError
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]
    assert path.read_text() == "old"
    with replacing(path) as draft:
        draft.write_text("new")
    assert [each.name for each in tmp_path.iterdir()] == ["out.csv"]
    assert path.read_text() == "new"
    (tmp_path / "plain").touch()
    assert path.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MlspecError, match="cannot write"), replacing(tmp_path / "no/out.csv"):
        pass


def test_an_id_that_no_file_can_hold_or_that_has_no_one_type(tmp_path: Path) -> None:
    with WRITERS[".csv"](tmp_path / "out.csv") as put:
        put(as_dict(Scored(Row(1, {}, {"id": "\ud800"}), 1, None, 3), "id"))
        put(as_dict(Scored(Row(2, {}, {"id": [date(2026, 1, 2)]}), 1, None, 3), "id"))
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[1:] == ["1,?,1,3", '2,"[""2026-01-02""]",1,3']
    pytest.importorskip("pyarrow")
    with (
        pytest.raises(MlspecError, match="do not go into Parquet"),
        WRITERS[".parquet"](tmp_path / "out.parquet") as put,
    ):
        put(as_dict(Scored(Row(1, {}, {"id": "a"}), 1, None, 3), "id"))
        put(as_dict(Scored(Row(2, {}, {"id": 2}), 1, None, 3), "id"))
