"""Diagnostics as a person sees them."""

from __future__ import annotations

import pytest

from mlspec.errors import Diagnostic, Place
from mlspec.render.diagnostics import WIDTH, render_diagnostics

LINE = "      accuracy: {metric: accuracy, min: high}"
PROBLEM = Diagnostic(
    "MLS012",
    'expected a number, got "high"',
    "model.credit-risk",
    "gates.accuracy.min",
    Place("mlspec.yaml", 41, 41, 4, LINE),
    "write a number, for example 0.85",
)


def test_form() -> None:
    assert render_diagnostics([PROBLEM], color=False) == (
        "error[MLS012] model.credit-risk: gates.accuracy.min: "
        'expected a number, got "high"\n'
        "  --> mlspec.yaml:41:41\n"
        "   |\n"
        "41 |       accuracy: {metric: accuracy, min: high}\n"
        "   |                                         ^^^^\n"
        "   = help: write a number, for example 0.85"
    )


def test_without_place_hint_and_address() -> None:
    assert render_diagnostics([Diagnostic("MLS001", "no mlspec.yaml here")], color=False) == (
        "error[MLS001] no mlspec.yaml here"
    )


def test_several_stand_apart() -> None:
    assert render_diagnostics([PROBLEM, PROBLEM], color=False).count("\n\nerror[MLS012]") == 1


def test_color_paints_and_changes_no_word() -> None:
    painted = render_diagnostics([PROBLEM], color=True)
    assert "\x1b[" in painted
    assert painted.replace("\x1b[0m", "").count("^^^^") == 1


@pytest.mark.parametrize(
    ("source", "column", "length", "line", "carets"),
    [
        ("a: \x1b[31mx", 4, 1, "a: \\x1b[31mx", "   ^^^^"),
        ("\ta: x", 5, 1, " a: x", "    ^"),
        ("日本: x", 5, 1, "日本: x", "      ^"),
        ("a: x", 5, 3, "a: x", "    ^"),
    ],
)
def test_carets_stand_below_what_is_shown(
    source: str, column: int, length: int, line: str, carets: str
) -> None:
    problem = Diagnostic("MLS006", "x", place=Place("a.yaml", 1, column, length, source))
    shown = render_diagnostics([problem], color=False).split("\n")
    assert shown[3] == f"1 | {line}"
    assert shown[4] == f"  | {carets}"


def test_of_a_long_line_the_part_around_the_problem_is_shown() -> None:
    source = "x" * 1000 + "HERE" + "y" * 1000
    problem = Diagnostic("MLS006", "x", place=Place("a.yaml", 1, 1001, 4, source))
    shown = render_diagnostics([problem], color=False).split("\n")
    assert len(shown[3]) < WIDTH + 10
    assert shown[3][shown[4].index("^") :].startswith("HERE")
