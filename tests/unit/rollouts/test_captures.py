"""Captured numbers are counted in ranges of the champion's, by version, each line once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlspec.rollouts import captures
from mlspec.rollouts.captures import Captures
from mlspec.rollouts.counts import Counts
from mlspec.rollouts.judge import Answer, Limits, judge


def write(folder: Path, version: int, *values: object, name: str = "1.jsonl") -> None:
    with (folder / name).open("a") as file:
        for value in values:
            line = {"model_version": version, "output": {"prediction": value}}
            file.write(json.dumps(line) + "\n")


def test_numbers_are_counted_by_version(tmp_path: Path) -> None:
    write(tmp_path, 1, *[5.0] * 50)
    found = Captures(tmp_path, champion=1)
    write(tmp_path, 1, *[number / 1000 for number in range(150)])
    write(tmp_path, 2, 0.9)
    found.look()
    assert found.counts(1) == {}, "too few to cut ranges by"
    write(tmp_path, 1, *[number / 1000 for number in range(150, 300)], name="2.jsonl")
    write(tmp_path, 2, *[0.15] * 40)
    found.look()
    first, second = found.counts(1), found.counts(2)
    assert sum(first.values()) == 300, "what was there before does not count"
    assert max(first.values()) <= 31
    assert first.keys() == second.keys()
    assert sorted(second.values())[-2:] == [1, 40]
    found.look()
    assert found.counts(2) == second, "each line counts once"


def test_what_differs_within_a_bucket_of_the_metrics_is_seen(tmp_path: Path) -> None:
    found = Captures(tmp_path, champion=1)
    write(tmp_path, 1, *[number / 400 for number in range(400)])
    write(tmp_path, 2, *[(number / 400) ** 8 for number in range(400)])
    found.look()
    verdict = judge(
        Limits(prediction_drift=0.25),
        Counts(values=found.counts(1)),
        Counts(values=found.counts(2)),
    )
    assert verdict.result is Answer.FAIL


def test_lines_that_say_nothing_are_passed_over(tmp_path: Path) -> None:
    found = Captures(tmp_path, champion=1)
    write(tmp_path, 1, "yes", True, None, float("nan"), [1.0])
    (tmp_path / "2.jsonl").write_text('[]\n{"output": 1}\n{"model_version": 1, "output"')
    write(tmp_path, 1, *range(300), name="3.jsonl")
    found.look()
    assert sum(found.counts(1).values()) == 300


def test_a_line_that_is_being_written_is_read_later(tmp_path: Path) -> None:
    found = Captures(tmp_path, champion=1)
    write(tmp_path, 1, *range(300))
    line = json.dumps({"model_version": 1, "output": {"prediction": 7.0}}) + "\n"
    with (tmp_path / "1.jsonl").open("a") as file:
        file.write(line[:20])
        file.flush()
        found.look()
        assert sum(found.counts(1).values()) == 300
        file.write(line[20:])
    found.look()
    assert sum(found.counts(1).values()) == 301


def test_of_what_comes_too_fast_the_newest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(captures, "MOST_BYTES", 20_000)
    found = Captures(tmp_path, champion=1)
    write(tmp_path, 1, *range(1000))
    found.look()
    assert 250 < sum(found.counts(1).values()) < 500


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    found = Captures(tmp_path / "none", champion=1)
    found.look()
    assert found.counts(1) == {}
