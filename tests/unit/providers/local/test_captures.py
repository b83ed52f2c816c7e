"""A prediction is found by its id and by nothing that only looks like it."""

from __future__ import annotations

import json
from pathlib import Path

from mlspec.providers.local.captures import capture_files, capture_folders, find_captured


def line(identity: str, row: int = 0, **inputs: object) -> str:
    content = {"id": identity, "row": row, "model_version": 1, "inputs": inputs, "output": {}}
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False) + "\n"


def write(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def rows_of(paths: list[Path], identity: str) -> list[tuple[str, int]]:
    return [(each.path.name, each.line["row"]) for each in find_captured("x", paths, identity)]


def test_every_row_of_a_request_in_every_file(tmp_path: Path) -> None:
    text = line("a") + line("b", 0) + line("b", 1) + line("c")
    write(tmp_path, "1.jsonl", text)
    write(tmp_path, "2.jsonl", line("b", 7))
    paths = capture_files(tmp_path)
    assert rows_of(paths, "b") == [("1.jsonl", 0), ("1.jsonl", 1), ("2.jsonl", 7)]
    assert rows_of(paths, "a") == [("1.jsonl", 0)]
    assert rows_of(paths, "ab") == []


def test_an_id_in_the_inputs_is_not_that_of_the_prediction(tmp_path: Path) -> None:
    path = write(tmp_path, "1.jsonl", line("a", 0, id="b") + line("b", 1, text='"id":"a"'))
    assert rows_of([path], "b") == [("1.jsonl", 1)]
    assert rows_of([path], "a") == [("1.jsonl", 0)]


def test_ids_that_clients_chose(tmp_path: Path) -> None:
    for identity in ('order "7"', "back\\slash", "a b", "{}"):
        path = write(tmp_path, "1.jsonl", line("first") + line(identity))
        assert rows_of([path], identity) == [("1.jsonl", 0)]


def test_files_that_are_empty_cut_short_or_gone(tmp_path: Path) -> None:
    empty = write(tmp_path, "0.jsonl", "")
    cut = write(tmp_path, "1.jsonl", line("a") + line("a", 1)[:-9])
    gone = tmp_path / "2.jsonl"
    assert rows_of([empty, cut, gone], "a") == [("1.jsonl", 0)]


def test_where_deployments_of_a_checkout_capture(tmp_path: Path) -> None:
    folder = tmp_path / ".mlspec/run/loans@local/capture"
    write(folder, "1.jsonl", line("a"))
    (tmp_path / ".mlspec/run/other@local").mkdir()
    assert capture_folders(tmp_path) == {"deployment.loans@local": folder}
