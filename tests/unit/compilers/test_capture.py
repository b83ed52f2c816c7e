"""What writes captures: it goes on when its folder is full, or others tidy it up at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

import pytest

from mlspec.compilers.templates import render_template

msgspec = pytest.importorskip("msgspec")


@pytest.fixture
def names():
    """The names that the generated code defines."""
    given = (asyncio, contextlib, json, os, random, threading, time, msgspec)
    found = {each.__name__: each for each in given}
    found |= {"datetime": datetime, "UTC": UTC, "Path": Path, "SimpleQueue": SimpleQueue}
    found |= {"IO": IO, "Any": Any}
    exec(render_template("service/capture.py.jinja", sensitive=[]), found)
    return found


def put_all(names, folder, answers):
    """Have one line written after the other; how many predictions were dropped."""

    async def run():
        capture = names["Capture"](folder, 1.0)
        for number, answer in enumerate(answers):
            capture.put(b'{"rows":\n[{"x": %d}]}' % number, answer)
            capture._hand_over()
            async with asyncio.timeout(30):
                while capture._taken < capture._put:
                    await asyncio.sleep(0.01)
        capture.close()
        return capture.dropped

    return asyncio.run(run())


ANSWER = b'{"id":"a","model":"m","version":1,"predictions":[1,2]}'


def test_a_full_disk_leaves_no_files_and_counts_what_is_lost(names, tmp_path):
    def full(_):
        raise OSError(28, "No space left on device")

    class Full(names["Capture"]):
        def _write(self, lines):
            if self._file is None:
                self._rotate()
            full(lines)

    names["Capture"] = Full
    assert put_all(names, tmp_path, [ANSWER] * 5) == 10
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_another_process_took_away_costs_nothing(names, tmp_path, monkeypatch):
    gone = tmp_path / "0.jsonl"
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [gone, *glob(self, pattern)])
    assert put_all(names, tmp_path, [ANSWER] * 3) == 0
    monkeypatch.undo()
    [file] = tmp_path.glob("*.jsonl")
    assert [json.loads(line)["request"] for line in file.read_bytes().splitlines()] == [
        {"rows": [{"x": number}]} for number in range(3)
    ]
    assert file.stat().st_mode & 0o077 == 0


def test_lines_of_any_length_come_whole_and_in_order(names, tmp_path):
    """Those that end within a block, fill several, and are longer than a buffer."""
    lengths = [1, 4000, 90, 5, 4096, 2**19, 3, 2**20, 70_000, 1, 2**19 - 200] * 4
    bodies = [b'{"rows":[{"x":"%b"}]}' % (b"%d" % (n % 10) * n) for n in lengths]

    async def run():
        capture = names["Capture"](tmp_path, 1.0)
        for number, body in enumerate(bodies):
            capture.put(body, ANSWER)
            if number % 3 == 0:
                capture._hand_over()
        await asyncio.sleep(0)
        capture.close()
        return capture.dropped

    assert asyncio.run(run()) == 0
    [file] = tmp_path.glob("*.jsonl")
    lines = file.read_bytes().splitlines()
    assert [json.loads(line)["request"] for line in lines] == [json.loads(b) for b in bodies]


def test_a_file_that_is_full_is_followed_by_another(names, tmp_path):
    names["MAX_FILE"] = 10_000
    answers = [ANSWER.replace(b'"a"', b'"%d"' % number) for number in range(400)]
    assert put_all(names, tmp_path, answers) == 0
    files = sorted(tmp_path.glob("*.jsonl"))
    assert len(files) > 3
    lines = [line for file in files for line in file.read_bytes().splitlines()]
    assert [json.loads(line)["answer"]["id"] for line in lines] == [str(n) for n in range(400)]
