from __future__ import annotations

import io
import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from mlspec.compilers.yaml_text import Noted, render_yaml

TEXT = st.text(st.characters(codec="utf-8"), max_size=40)
DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def _read_1_1(text: str) -> Any:
    return yaml.safe_load(text)


def _read_1_2(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(io.StringIO(text))


def _with_notes(data: Any) -> Any:
    """The same data with a comment beside every value."""
    match data:
        case dict():
            return {key: Noted(_with_notes(item), "why: {[#") for key, item in data.items()}
        case list():
            return [Noted(_with_notes(item), "- no\nbad: line") for item in data]
        case _:
            return data


@settings(max_examples=150, deadline=None)
@given(DATA)
def test_both_kinds_of_parser_read_the_data_that_was_written(data: Any) -> None:
    for text in (render_yaml(data), render_yaml(_with_notes(data), head=["a\nb: c", "\u2028x"])):
        assert _read_1_1(text) == data
        assert _read_1_2(text) == data


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "on",
        "1e3",
        "0777",
        "22:22",
        "1_000",
        "2024-01-01",
        "null",
        "~",
        "",
        "${{ x }}",
        "- a",
        "# no",
        "a: b",
        "&a",
        "*a",
        "!!str",
        "=",
        "<<",
        "\x7f\x85\u2028\ufeff",
        "\U0001f600",
        "é\t\r\n",
    ],
)
def test_a_string_stays_a_string_as_key_and_as_value(text: str) -> None:
    written = render_yaml({text: text, "list": [text]})
    expected = {text: text, "list": [text]}
    assert _read_1_1(written) == expected
    assert _read_1_2(written) == expected


def test_strings_are_written_as_json_writes_them() -> None:
    text = 'say "hi"\n\tand \\ go'
    assert render_yaml({"run": text}) == f"run: {json.dumps(text)}\n"


def test_a_lone_surrogate_can_be_written_to_a_file() -> None:
    text = render_yaml({"name": "\ud800"})
    assert text.encode() == b'name: "\\ud800"\n'


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1e22, "1.0e+22"),
        (1e-7, "1.0e-07"),
        (1.5e-9, "1.5e-09"),
        (0.1, "0.1"),
        (True, "true"),
        (2**53, "9007199254740992"),
        (None, "null"),
        ({}, "{}"),
        ([], "[]"),
        ((), "[]"),
    ],
)
def test_scalars(value: Any, written: str) -> None:
    assert render_yaml({"value": value}) == f"value: {written}\n"
    assert render_yaml([value]) == f"- {written}\n"
    assert render_yaml(value) == f"{written}\n"


def test_the_layout_is_what_people_expect() -> None:
    data = {
        "uses": Noted("a@1", "v1"),
        "on": {"push": {"branches": ["main"]}},
        "steps": [{"name": "x", "with": {"depth": 0}}, [1, 2], Noted({"run": "y"}, "why")],
    }
    assert render_yaml(data, head=["First", "", "last"]) == (
        "# First\n#\n# last\n"
        'uses: "a@1" # v1\n'
        '"on":\n  push:\n    branches:\n      - "main"\n'
        "steps:\n"
        '  - name: "x"\n    with:\n      depth: 0\n'
        "  - - 1\n    - 2\n"
        '  # why\n  - run: "y"\n'
    )


def test_a_comment_cannot_end_its_line() -> None:
    text = render_yaml({"a": Noted("b", "c\nd: e\r\x85\u2028f")}, head=["g\nh: i"])
    assert text.splitlines() == ["# g\\u000ah: i", 'a: "b" # c\\u000ad: e\\u000d\\u0085\\u2028f']


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_cannot_say_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="no form in JSON"):
        render_yaml({"a": value})


@pytest.mark.parametrize("data", [{1: "a"}, {"a": object()}, {"a": b"b"}, {"a": {1}}])
def test_other_types_are_refused(data: Any) -> None:
    with pytest.raises(TypeError):
        render_yaml(data)


def test_equal_data_gives_equal_bytes_and_keeps_its_order() -> None:
    data = {"b": 1, "a": [{"d": 2, "c": 3}]}
    assert render_yaml(data) == render_yaml(json.loads(json.dumps(data)))
    assert render_yaml(data).index("b:") < render_yaml(data).index("a:")
