"""Edits of a spec's text: what is not edited keeps its bytes."""

from __future__ import annotations

from typing import Any

import pytest

from mlspec.spec.edit import append_item, drop_item, drop_value, put_value
from mlspec.spec.yaml import parse

PIN = ("deployments", "churn", "pin")
QUARANTINE = ("models", "churn", "quarantine")
BAD: dict[str, int | str] = {"version": 2, "reason": 'too "sure"'}

BLOCK = """\
# the shop
deployments:
  churn:
    model: churn  # ours
    targets: [here]
    # a row of last year
    smoke:
      - input: {a: 1}  # one

# where
targets:
  here: {kind: local}
"""


def test_a_block_gets_a_line_after_its_last_value_and_keeps_its_comments() -> None:
    made = put_value(BLOCK, PIN, "here", 3)
    assert made == BLOCK.replace("# one\n", "# one\n    pin: {here: 3}\n")
    assert put_value(made, PIN, "here", 12) == made.replace("here: 3", "here: 12")
    assert put_value(made, PIN, "on", 1) == made.replace("here: 3", 'here: 3, "on": 1')


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("deployments: {churn: {model: churn}} # x", "{model: churn, pin: {here: 3}}} # x"),
        ("deployments:\n  churn: {model: churn,\n  }\n", "{model: churn, pin: {here: 3},\n  }\n"),
        ("deployments:\n  churn: {}\n", "churn: {pin: {here: 3}}\n"),
        ("deployments:\n  churn:\n    pin: {}\n", "    pin: {here: 3}\n"),
        ("deployments:\n  churn:\n    pin:\n      there: 1", "there: 1\n      here: 3"),
        ("deployments:\r\n  churn:\r\n    a: b\r\n", "a: b\r\n    pin: {here: 3}\r\n"),
        (
            "deployments:\n  churn:\n    a: |\n      b\n\n      c\n\n# d\n",
            "c\n    pin: {here: 3}\n\n# d\n",
        ),
    ],
)
def test_every_way_to_write_a_mapping(before: str, after: str) -> None:
    made = put_value(before, PIN, "here", 3)
    assert made is not None
    assert made.endswith(after)


def test_a_list_is_begun_and_continued() -> None:
    text = "models:\n    churn:\n        owner: ada\n    other: {}\n"
    once = append_item(text, QUARANTINE, BAD)
    entry = '          - {version: 2, reason: "too \\"sure\\""}\n'
    assert once == text.replace("ada\n", "ada\n        quarantine:\n" + entry)
    twice = append_item(once, QUARANTINE, {"version": 5, "reason": "slow"})
    assert twice == once.replace(entry, entry + '          - {version: 5, reason: "slow"}\n')
    flow = append_item("models: {churn: {quarantine: [{version: 1}]}}", QUARANTINE, {"version": 2})
    assert flow == "models: {churn: {quarantine: [{version: 1}, {version: 2}]}}"


@pytest.mark.parametrize(
    "text",
    [
        "deployments:\n  churn: &same\n    model: a\n  other: *same\n",
        "deployments: [churn]\n",
        "deployments: {}\n",
        "deployments:\n  churn:\n    pin: 3\n",
        "deployments: {churn: {\n",
        "\ufeffdeployments: {churn: {model: a}}\n",
    ],
)
def test_what_would_change_more_or_is_no_mapping_is_left(text: str) -> None:
    assert put_value(text, PIN, "here", 3) is None


def test_a_value_keeps_the_way_in_which_it_was_written() -> None:
    text = (
        "models:\n  m:\n    stages:\n      a: {command: python a.py, params: {x: 1}}  # one\n"
        "      b:\n        command: |\n          python b.py\n          ls\n"
        "        inputs: [d]\n        outputs:\n          - b.txt\n          - c.txt  # why\n"
    )
    a, b = ("models", "m", "stages", "a"), ("models", "m", "stages", "b")
    plain = put_value(text, a, "command", "python a.py --fast")
    assert plain == text.replace("python a.py", "python a.py --fast")
    quoted = put_value(text, a, "command", "python a.py, then: b")
    assert quoted == text.replace("python a.py,", '"python a.py, then: b",')
    lines = put_value(text, b, "command", "python b.py\npwd")
    assert lines == text.replace("command: |", "command: |-").replace("  ls\n", "  pwd\n")
    small = put_value(text, (*a, "params"), "x", 1e-05)
    assert small is not None
    top: Any = parse(small.encode(), "").top
    assert top.plain()["models"]["m"]["stages"]["a"]["params"] == {"x": 1e-05}
    deep = put_value(text, (*b, "params", "tree"), "depth", 3)
    assert deep is not None
    assert deep.endswith("# why\n        params: {tree: {depth: 3}}\n")
    assert put_value("a: {b: &x 1}\nc: *x\n", ("a",), "b", 2) is None


def test_entries_go_with_their_lines() -> None:
    text = "a:\n  x: 1  # one\n  y: [d, e, f]\n  z:\n    - d\n    - e  # two\nb: {c: 1, d: 2}\n"
    assert drop_value(text, ("a",), "x") == text.replace("  x: 1  # one\n", "")
    assert drop_value(text, ("b",), "d") == text.replace(", d: 2", "")
    assert drop_value(text, ("b",), "c") == text.replace("c: 1, ", "")
    assert drop_value("a: {b: {c: 1}}\n", ("a",), "b") == "a: {}\n"
    assert drop_item(text, ("a", "y"), "d") == text.replace("d, e", "e")
    assert drop_item(text, ("a", "y"), "f") == text.replace(", f", "")
    assert drop_item(text, ("a", "z"), "e") == text.replace("    - e  # two\n", "")
    assert drop_item("a: [d]\n", ("a",), "d") == "a: []\n"
    assert drop_item(text, ("a", "z"), "q") is None
    assert append_item(text, ("a", "y"), "g/h.txt") == text.replace("f]", "f, g/h.txt]")
