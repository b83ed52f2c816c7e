from __future__ import annotations

from pathlib import Path

from diabetes.rows import format_rows, load_rows, split_rows

ROWS = [{"id": str(number), "value": f"{number}.50"} for number in range(1000)]


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(format_rows(ROWS))
    assert load_rows(path) == ROWS


def test_every_row_is_in_one_part() -> None:
    train, test = split_rows(ROWS, test_share=0.25, seed=7)
    assert sorted([*train, *test], key=lambda row: int(row["id"])) == ROWS
    assert 200 < len(test) < 300


def test_new_rows_move_no_others() -> None:
    _, before = split_rows(ROWS[:500], test_share=0.25, seed=7)
    _, after = split_rows(ROWS, test_share=0.25, seed=7)
    assert after[: len(before)] == before


def test_another_seed_is_another_split() -> None:
    assert split_rows(ROWS, 0.25, seed=7) != split_rows(ROWS, 0.25, seed=8)
