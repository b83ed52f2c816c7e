"""Specs that a slipped hand, a merge or a broken editor may leave: refused in words, if at all."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from mlspec.errors import SpecError
from mlspec.spec.load import load_spec

ROOT = Path(__file__).parents[3]
SPECS = sorted(ROOT.glob("examples/*/mlspec.yaml"))
ROUNDS = 500
HOSTILE = (
    *("{", "}", "[", "]", ": ", "- ", "&a ", "*a", "<<: ", "!!python/name:os.system ", "? ", "|\n"),
    *("%YAML 1.1\n", "---\n", "...\n", "\t", "\0", "\r", "\u0085", "\u2028", "\ufeff", "\u202e"),
    *(
        "'",
        '"',
        "#",
        "@",
        "`",
        "~",
        "null",
        "no",
        "1e999",
        ".nan",
        "0x" + "f" * 5000,
        "1_0",
        "22:22",
    ),
    *("../../etc/passwd", "/dev/stdin", "${x}", "{{ x }}", "$(id)", "x" * 300, "\U0001f600", "é"),
    *(
        "2026-01-01",
        "-",
        "--help",
        "con",
        "\\u0000",
        '"\\ud800"',
        "9" * 5000,
        "[" * 100,
        "{a: " * 50,
    ),
)


def truncate(text: str, chance: random.Random) -> str:
    return text[: chance.randrange(len(text))]


def drop(text: str, chance: random.Random) -> str:
    start = chance.randrange(len(text))
    return text[:start] + text[start + chance.randint(1, 40) :]


def insert(text: str, chance: random.Random) -> str:
    start = chance.randrange(len(text))
    return text[:start] + chance.choice(HOSTILE) + text[start:]


def replace_word(text: str, chance: random.Random) -> str:
    words = text.split(" ")
    words[chance.randrange(len(words))] = chance.choice(HOSTILE)
    return " ".join(words)


def repeat_line(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    lines.insert(chance.randrange(len(lines)), chance.choice(lines))
    return "".join(lines)


def drop_line(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    return "".join(lines)


def indent(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    where = chance.randrange(len(lines))
    lines[where] = " " * chance.randint(0, 9) + lines[where].lstrip(" ")
    return "".join(lines)


def conflict(text: str, chance: random.Random) -> str:
    lines = text.splitlines(keepends=True)
    where = chance.randrange(len(lines))
    marks = ["<<<<<<< HEAD\n", lines[where], "=======\n", lines[where], ">>>>>>> theirs\n"]
    lines[where : where + 1] = marks
    return "".join(lines)


Slip = Callable[[str, random.Random], str]
SLIPS: tuple[Slip, ...] = (
    *(truncate, drop, insert, replace_word, repeat_line, drop_line, indent, conflict),
)


@pytest.mark.parametrize("slip", SLIPS)
@pytest.mark.parametrize("example", SPECS, ids=lambda path: path.parent.name)
def test_a_spec_is_loaded_or_refused(example: Path, slip: Slip, tmp_path: Path) -> None:
    """Nothing but a :class:`SpecError`, and that says what and where."""
    good = example.read_text(encoding="utf-8")
    refused = 0
    for seed in range(ROUNDS // len(SLIPS) // len(SPECS) + 1):
        chance = random.Random(f"{example.parent.name} {slip.__name__} {seed}")
        text = good
        for _ in range(chance.randint(1, 3)):
            text = slip(text, chance) or good
        (tmp_path / "mlspec.yaml").write_text(text, encoding="utf-8", newline="")
        try:
            load_spec(tmp_path)
        except SpecError as error:
            refused += 1
            for problem in error.diagnostics:
                assert problem.code.startswith("MLS"), text
                assert problem.message, text
                assert problem.place is not None, text
    assert refused


def test_bytes_of_any_kind(tmp_path: Path) -> None:
    good = SPECS[0].read_bytes()
    for seed in range(100):
        chance = random.Random(seed)
        data = bytearray(good)
        for _ in range(chance.randint(1, 5)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        (tmp_path / "mlspec.yaml").write_bytes(bytes(data))
        try:
            load_spec(tmp_path)
        except SpecError as error:
            assert error.diagnostics
